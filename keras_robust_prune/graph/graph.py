"""What a network is here: layers with NumPy weights, and the calls that join them.

A `Graph` is neutral between tf_keras and Keras 3 and never changes: every edit gives a new one. A `Layer` is a set of
weights with a configuration; a `Node` is one call of a layer. A shared layer is one `Layer` with several `Node`s;
nested models are flattened by `reading`, so a graph has no levels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from keras_robust_prune.graph.nest import map_leaves

Shape = tuple[int | None, ...]

# The weight by which a normalisation's input is multiplied where units are masked; no layer of Keras has it: `padding`.
MASK = "mask of units"

INPUT = "InputLayer"
"""The one class of Keras's that a graph knows: its inputs are of that kind."""


@dataclasses.dataclass(frozen=True)
class Ref:
    """One tensor: output number `output` of the node `node`."""

    node: str
    output: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A layer's type, configuration and weights, without its calls.

    Attributes:
        name: unique in the graph.
        kind: the Keras class name, e.g. `"Conv2D"`; `"InputLayer"` for inputs.
        config: what the layer's `get_config()` returned.
        weights: arrays by name, in the order of the layer's `weights`.
        origin: the class or operation that `reading` builds the layer from.
        trainable: whether training may change it.
        closed: why a layer of the user's own could not be opened, as the end of a sentence; empty if it was not tried.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    weights: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    origin: Any = None
    trainable: bool = True
    closed: str = ""

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the network."""
        return self.kind == INPUT

    @property
    def num_params(self) -> int:
        """How many numbers its weights hold, a mask aside."""
        return sum(int(value.size) for name, value in self.weights.items() if name != MASK)


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One call of a layer.

    Attributes:
        name: unique in the graph; the layer's name for its first call.
        layer: the name of the layer called.
        args: positional arguments, with a `Ref` wherever a tensor stands.
        kwargs: keyword arguments, likewise.
        inputs: those tensors, in order of appearance.
        shapes: the outputs' shapes without the batch axis.
        samples: of how many samples it makes outputs for one input, where windows or tokens became samples before it.
    """

    name: str
    layer: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inputs: tuple[Ref, ...] = ()
    shapes: tuple[Shape, ...] = ()
    samples: int = 1

    @property
    def ref(self) -> Ref:
        """Its first output."""
        return Ref(self.name)

    def reading(self, moved: Mapping[Ref, Ref]) -> Node:
        """The same call with other tensors in place of some of those that it reads."""

        def follow(ref: Ref) -> Ref:
            return moved.get(ref, ref)

        args, kwargs = map_refs(follow, (self.args, dict(self.kwargs)))
        inputs = tuple(map(follow, self.inputs))
        return dataclasses.replace(self, args=args, kwargs=kwargs, inputs=inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A network: layers, their calls in topological order, and the ends.

    Attributes:
        layers: by name.
        nodes: every node stands after those it reads.
        inputs: the model's inputs, in order.
        outputs: the model's outputs, in order.
        keras: `"tf_keras"` or `"keras"`: where it came from and is rebuilt to.
        name: the model's name.
        sequential: whether the model was a `Sequential`.
        input_structure: how the model takes its inputs: nested, with `Ref` leaves.
        output_structure: likewise for its outputs.
    """

    layers: Mapping[str, Layer]
    nodes: tuple[Node, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]
    keras: str = "tf_keras"
    name: str = "model"
    sequential: bool = False
    input_structure: Any = None
    output_structure: Any = None

    @cached_property
    def node(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def calls(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes of each layer, by layer name."""
        found: dict[str, list[Node]] = {name: [] for name in self.layers}
        for node in self.nodes:
            found[node.layer].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def consumers(self) -> Mapping[Ref, tuple[Node, ...]]:
        """The nodes that read each tensor."""
        found: dict[Ref, list[Node]] = {}
        for node in self.nodes:
            for ref in dict.fromkeys(node.inputs):
                found.setdefault(ref, []).append(node)
        return {ref: tuple(nodes) for ref, nodes in found.items()}

    def layer_of(self, node: Node | Ref) -> Layer:
        """The layer that a node, or the node of a tensor, calls."""
        return self.layers[(self.node[node.node] if isinstance(node, Ref) else node).layer]

    def shape(self, ref: Ref) -> Shape:
        """Shape of a tensor without the batch axis."""
        return self.node[ref.node].shapes[ref.output]

    @property
    def num_params(self) -> int:
        """How many numbers all weights hold."""
        return sum(layer.num_params for layer in self.layers.values())

    def with_layers(self, changed: Iterable[Layer]) -> Graph:
        """The same graph with some layers exchanged, by name."""
        return dataclasses.replace(
            self, layers={**self.layers, **{layer.name: layer for layer in changed}}
        )

    def with_weights(self, changed: Mapping[tuple[str, str], np.ndarray]) -> Graph:
        """The same graph with weights exchanged, keyed by `(layer name, weight name)`."""
        by_layer: dict[str, dict[str, np.ndarray]] = {}
        for (layer, weight), value in changed.items():
            by_layer.setdefault(layer, {})[weight] = value
        return self.with_layers(
            dataclasses.replace(self.layers[name], weights={**self.layers[name].weights, **weights})
            for name, weights in by_layer.items()
        )

    def rewired(
        self, layers: Mapping[str, Layer], nodes: Iterable[Node], moved: Mapping[Ref, Ref]
    ) -> Graph:
        """The graph with other layers and calls, ending where its outputs went.

        Args:
            layers: by name; those that no node calls are left out.
            nodes: every node after those it reads.
            moved: where tensors are now that something else gives.
        """
        nodes = tuple(nodes)
        used = {node.layer for node in nodes}

        def follow(ref: Ref) -> Ref:
            return moved.get(ref, ref)

        return dataclasses.replace(
            self,
            layers={name: layer for name, layer in layers.items() if name in used},
            nodes=nodes,
            outputs=tuple(map(follow, self.outputs)),
            output_structure=map_refs(follow, self.output_structure),
        )

    def ending_at(self, outputs: Iterable[Ref]) -> Graph:
        """The part of the graph that the given tensors need, with them as outputs.

        All inputs stay, so that it is called like the whole.
        """
        outputs = tuple(outputs)
        needed = {ref.node for ref in outputs} | {ref.node for ref in self.inputs}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(ref.node for ref in node.inputs)
        nodes = tuple(node for node in self.nodes if node.name in needed)
        used = {node.layer for node in nodes}
        return dataclasses.replace(
            self,
            layers={name: layer for name, layer in self.layers.items() if name in used},
            nodes=nodes,
            outputs=outputs,
            output_structure=None,
            sequential=False,
        )

    def beginning_at(self, refs: Sequence[Ref], position: int) -> Graph:
        """The part of the graph from the node at a position on, with the tensors that cross as its inputs.

        Args:
            refs: every tensor computed before that is read from there on, each the only output of its node.
            position: in `nodes`.

        Returns:
            A graph whose inputs are called like the nodes that computed them; outputs from before the cut are left out.
        """
        layers, nodes = {}, []
        for ref in refs:
            node = self.node[ref.node]
            if self.layers[node.layer].is_input:
                layers[node.layer], name = self.layers[node.layer], node.layer
            else:
                name = f"{node.name}__cut"
                key = "batch_input_shape" if self.keras == "tf_keras" else "batch_shape"
                shape = (None, *node.shapes[0])
                config = {key: shape, "dtype": "float32", "name": name}
                layers[name] = Layer(name, INPUT, config)
            nodes.append(Node(node.name, name, shapes=node.shapes))
        nodes += self.nodes[position:]
        layers.update({node.layer: self.layers[node.layer] for node in self.nodes[position:]})
        known = {node.name for node in nodes}
        return dataclasses.replace(
            self,
            layers=layers,
            nodes=tuple(nodes),
            inputs=tuple(refs),
            outputs=tuple(ref for ref in self.outputs if ref.node in known),
            input_structure=None,
            output_structure=None,
            sequential=False,
        )


def map_refs(function: Callable[[Ref], Any], structure: Any) -> Any:
    """The same nest of tuples, lists and dicts with `function` applied to every `Ref`."""
    return map_leaves(lambda leaf: function(leaf) if isinstance(leaf, Ref) else leaf, structure)


def refs_in(structure: Any) -> tuple[Ref, ...]:
    """Every `Ref` of a nest, in order of appearance."""
    found: list[Ref] = []
    map_refs(found.append, structure)
    return tuple(found)
