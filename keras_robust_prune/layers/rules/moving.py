"""Operators that move entries about without changing them: reshape, squeeze, expand_dims, transpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Shape
from keras_robust_prune.graph.tracing import CARRIES, Labels, Tracing
from keras_robust_prune.layers.rules.base import Barrier, Lengths, known_size
from keras_robust_prune.layers.rules.calls import argument, rank_in
from keras_robust_prune.layers.rules.shaping import Move


class InOrder(Move):
    """The entries stay in order."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        before, after = graph.shape(node.inputs[0]), node.shapes[0]
        if None in after or known_size(before) != known_size(after):
            return self.of_unknown_size(graph, node, inputs[0], tracing)
        return super().trace(graph, node, inputs, tracing)

    def of_unknown_size(
        self, graph: Graph, node: Node, labels: Labels, tracing: Tracing
    ) -> Sequence[Labels]:
        before, after = graph.shape(node.inputs[0]), node.shapes[0]
        if labels.axis == len(before) - 1 and after and before[-1] == after[-1] is not None:
            labels = Labels(len(after) - 1, labels.ids)
            self.note(graph.layer_of(node), labels, tracing)
            return (labels,)
        return super().of_unknown_size(graph, node, labels, tracing)


class Reshaped(InOrder):
    """A reshape to a shape that stands in the call (tf_keras) or in the configuration (Keras 3)."""

    def note(self, layer: Layer, labels: Labels, tracing: Tracing) -> None:
        tracing.use(layer.name, "shape", labels.axis, CARRIES, labels.ids)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        if "newshape" not in layer.config:
            return {}
        shape = list(layer.config["newshape"])
        for (name, axis), length in lengths.items():
            if name == "shape" and shape[axis + 1] != -1:
                shape[axis + 1] = length
        return {"newshape": tuple(shape)}

    def resize_call(
        self, graph: Graph, node: Node, shapes: Sequence[Shape]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        def fit(shape: Any) -> Any:
            pairs = zip(list(shape)[1:], node.shapes[0], shapes[0], strict=True)
            changed = [shape[0], *(new if length == old else length for length, old, new in pairs)]
            return np.array(changed) if isinstance(shape, np.ndarray) else tuple(changed)

        args = tuple(fit(part) if k == 1 else part for k, part in enumerate(node.args))
        kwargs = {key: fit(part) if key == "shape" else part for key, part in node.kwargs.items()}
        return args, kwargs


class Transposed(Move):
    """Exchanges axes behind the batch axis."""

    def moved(self, graph: Graph, node: Node, order: np.ndarray) -> np.ndarray:
        return order.transpose([axis - 1 for axis in permutation(graph, node)[1:]])

    def of_unknown_size(
        self, graph: Graph, node: Node, labels: Labels, tracing: Tracing
    ) -> Sequence[Labels]:
        return (Labels(permutation(graph, node).index(labels.axis + 1) - 1, labels.ids),)


def permutation(graph: Graph, node: Node) -> list[int]:
    """The axes of a transposition in their new order, the batch axis in front."""
    perm = argument(graph, node, "perm", 1)
    perm = argument(graph, node, "axes", 1) if perm is None else perm
    rank = rank_in(graph, node)
    perm = [int(axis) % rank for axis in (reversed(range(rank)) if perm is None else perm)]
    if perm[0] != 0:
        raise Barrier("other_axis", "moves the batch axis")
    return perm
