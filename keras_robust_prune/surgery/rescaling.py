"""Numbers per unit that pass from the layers that write a tensor to those that read it.

Between two layers with weights, a unit can be multiplied by a number of its own: the layer that writes it multiplies
by it, those that read it divide. ReLU, pooling, padding and addition let such numbers pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_robust_prune.graph.graph import Graph, Node, Ref
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.surgery.groups import trace

Units = Mapping[Ref, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Tensors through which a number per unit passes.

    Attributes:
        refs: the tensors.
        writers: calls that write them.
        readers: calls that read them.
        cap: the least value from which on a function among them is not homogeneous.
    """

    refs: tuple[Ref, ...]
    writers: tuple[Node, ...]
    readers: tuple[Node, ...]
    cap: float = math.inf


def stretches(graph: Graph, passing: Sequence[str] = ()) -> tuple[Stretch, ...]:
    """Every stretch of a graph whose activations are split off.

    Args:
        graph: the network.
        passing: nodes that let numbers pass beside those that do by their type.
    """
    above = {Ref(n.name, k): Ref(n.name, k) for n in graph.nodes for k in range(len(n.shapes))}

    def root(ref: Ref) -> Ref:
        while above[ref] != ref:
            ref = above[ref]
        return ref

    caps: dict[Ref, float] = {}
    for node in graph.nodes:
        cap = math.inf if node.name in passing else cap_of(graph, node)
        if cap and node.inputs:
            made = [Ref(node.name, k) for k in range(len(node.shapes))]
            caps |= dict.fromkeys(made, cap)
            for ref in (*node.inputs, *made):
                above[root(ref)] = root(node.ref)
    members: dict[Ref, list[Ref]] = {}
    for ref in above:
        members.setdefault(root(ref), []).append(ref)
    found = []
    for refs in members.values():
        writers = {ref.node: graph.node[ref.node] for ref in refs if ref not in caps}
        readers = {
            node.name: node
            for ref in refs
            for node in graph.consumers.get(ref, ())
            if node.ref not in caps
        }
        cap = min((caps[ref] for ref in refs if ref in caps), default=math.inf)
        found.append(Stretch(tuple(refs), tuple(writers.values()), tuple(readers.values()), cap))
    return tuple(found)


def units_of(graph: Graph) -> Units:
    """Which unit every entry of a tensor's last axis is, where units lie on it."""
    tracing, labels = trace(graph)
    classes = tracing.classes()
    return {
        ref: classes[found.ids]
        for ref, found in labels.items()
        if found.axis == len(graph.shape(ref)) - 1
    }


def takes_numbers(graph: Graph, part: Stretch, units: Units) -> bool:
    """Whether all that write and read a stretch can take numbers in."""
    ends = {*graph.outputs, *graph.inputs}
    if not part.readers or not part.writers or ends & set(part.refs):
        return False
    for node in (*part.writers, *part.readers):
        layer = graph.layer_of(node)
        single = len(graph.calls[layer.name]) == len(node.inputs) == len(node.shapes) == 1
        if not single or node.inputs[0] not in units or node.ref not in units:
            return False
        ones = (ones_of(graph, node.inputs[0]), ones_of(graph, node.ref))
        if layer_type(layer).rescaled(layer, *ones) is None:
            return False
    written = np.concatenate([units[node.ref] for node in part.writers])
    return all(np.isin(units[node.inputs[0]], written).all() for node in part.readers)


def on_refs(part: Stretch, units: Units, numbers: Mapping[int, float]) -> dict[Ref, np.ndarray]:
    """Numbers per unit as arrays per tensor of a stretch."""
    return {
        ref: np.array([numbers.get(unit, 1.0) for unit in units[ref].tolist()])
        for ref in part.refs
        if ref in units
    }


def rescaled(graph: Graph, split: Graph, factors: Mapping[Ref, np.ndarray]) -> Graph:
    """The graph whose tensors are multiplied by numbers per entry of their last axis."""
    changed: dict[tuple[str, str], np.ndarray] = {}
    for node in split.nodes:
        ends = [ref for ref in (*node.inputs[:1], node.ref) if ref in factors]
        if not ends or cap_of(split, node):
            continue
        layer = split.layer_of(node)
        numbers = [factors.get(ref, ones_of(split, ref)) for ref in (node.inputs[0], node.ref)]
        weights = layer_type(layer).rescaled(layer, *numbers)
        assert weights is not None
        changed |= {(layer.name, name): value for name, value in _as_float32(weights).items()}
    return graph.with_weights(changed)


def cap_of(graph: Graph, node: Node) -> float:
    """Up to which value a node lets numbers pass: infinity for a whole homogeneous function, 0 for none."""
    layer = graph.layer_of(node)
    return layer_type(layer).homogeneous_to(layer, graph.keras)


def ones_of(graph: Graph, ref: Ref) -> np.ndarray:
    """A number for every entry of a tensor's last axis: 1."""
    return np.ones(graph.shape(ref)[-1] or 1)


def _as_float32(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.float32) for name, value in weights.items()}
