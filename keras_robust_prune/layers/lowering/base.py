"""Walks a graph and writes it down as a program; the table of layers is filled by the other files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref, split_activations
from keras_robust_prune.layers.rules import rule_for
from keras_robust_prune.primitives.base import Linear, Primitive
from keras_robust_prune.primitives.program import Operation, Program


class LoweringError(ValueError):
    """A layer has no bounds; the message names all such layers and the way out."""


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One node while it is lowered.

    Attributes:
        graph: the network.
        node: the call.
        inputs: places of its inputs.
        operations: what has been written so far.
        dtype: the precision of the program.
    """

    graph: Graph
    node: Node
    inputs: tuple[int, ...]
    operations: list[Operation]
    dtype: Any

    @property
    def layer(self) -> Layer:
        """The layer called."""
        return self.graph.layer_of(self.node)

    @property
    def config(self) -> Mapping[str, Any]:
        """Its configuration."""
        return self.layer.config

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of its first output."""
        return fixed(self.node.shapes[0], self.node.name)

    def shape(self, place: int) -> tuple[int, ...]:
        """Shape of a value."""
        return self.operations[place].shape

    def array(self, value: Any) -> np.ndarray:
        """A weight in the program's precision."""
        return np.asarray(value, self.dtype)

    def weight(self, name: str) -> np.ndarray | None:
        """One of its weights, or None."""
        value = self.layer.weights.get(name)
        return None if value is None else self.array(value)

    def emit(
        self, primitive: Primitive | None, *inputs: int, shape: tuple[int, ...] | None = None
    ) -> int:
        """Write an operation; its shape is that of its first input unless given or known."""
        if shape is None:
            shape = primitive.out_shape if isinstance(primitive, Linear) else self.shape(inputs[0])
        shape = tuple(int(n) for n in shape)
        self.operations.append(Operation(primitive, inputs, shape, self.node.name, self.node.layer))
        return len(self.operations) - 1

    def refuse(self, why: str) -> LoweringError:
        """The error that names this layer."""
        return LoweringError(f"'{self.layer.name}' ({self.layer.kind}) {why}")


Lowering = Callable[[Call], int]
LOWERINGS: dict[str, Lowering] = {}


def lower(graph: Graph, dtype: Any = np.float64) -> Program:
    """Write a network as primitives.

    Args:
        graph: the network.
        dtype: the precision in which its program computes, float64 or float32.

    Returns:
        A program that computes what the network computes.

    Raises:
        LoweringError: layers that have no bounds, all of them, with the way out.
    """
    graph = split_activations(graph)
    operations: list[Operation] = []
    places: dict[Ref, int] = {}
    problems: list[str] = []
    for node in graph.nodes:
        call = Call(
            graph, node, tuple(places.get(ref, -1) for ref in node.inputs), operations, dtype
        )
        try:
            if call.layer.kind == "InputLayer":
                places[node.ref] = call.emit(None, shape=call.out_shape)
            elif -1 not in call.inputs:
                places[node.ref] = _lowered(call)
        except LoweringError as error:
            problems.append(str(error))
    missing = [ref.node for ref in graph.outputs if ref not in places]
    if problems or missing:
        listed = "\n- ".join(
            problems or [f"'{name}' has more than one output." for name in missing]
        )
        raise LoweringError(
            f"Bounds cannot pass these layers:\n- {listed}\nGive a rule whose lower() returns "
            "primitives (krp.register_rule), or use a method that needs no bounds."
        )
    return Program(
        tuple(operations),
        tuple(places[ref] for ref in graph.inputs),
        tuple(places[ref] for ref in graph.outputs),
        places,
        np.dtype(dtype),
    )


def _lowered(call: Call) -> int:
    own = rule_for(call.layer).lower(call.graph, call.node)
    if own is not None:
        place, *others = call.inputs
        for primitive in own:
            shape = None if isinstance(primitive, Linear) else call.out_shape
            place, others = call.emit(primitive, place, *others, shape=shape), []
        return place
    kind = call.layer.kind
    key = "operator" if kind.startswith("ops.") or kind.endswith("OpLambda") else kind
    if key not in LOWERINGS:
        raise call.refuse("is a layer type without bounds.")
    return LOWERINGS[key](call)


def fixed(shape: tuple[int | None, ...], name: str) -> tuple[int, ...]:
    """A shape without unknown lengths."""
    if any(length is None for length in shape):
        raise LoweringError(
            f"'{name}' has the shape {shape}, whose size is open: rebuild the model with a fixed input shape."
        )
    return tuple(int(length or 0) for length in shape)
