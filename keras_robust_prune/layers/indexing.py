"""Operators that move entries about without changing them: reshape, transpose, slices, concatenation.

Of tf_keras they are TFOpLambda and SlicingOpLambda, of Keras 3 its operations: nodes without weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Shape
from keras_robust_prune.graph.tracing import CARRIES, Labels, Tracing
from keras_robust_prune.layers import merging
from keras_robust_prune.layers.base import LayerType, Lengths, Unsupported, known_size
from keras_robust_prune.layers.calls import Call, argument, operator_name, rank_in
from keras_robust_prune.layers.composing import move
from keras_robust_prune.layers.shaping import Move, side_by_side
from keras_robust_prune.primitives.gaussian import Gaussian


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

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        return side_by_side(graph, node, inputs[0])


class Reshape(InOrder):
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


class Transpose(Move):
    """Exchanges axes behind the batch axis."""

    def moved(self, graph: Graph, node: Node, order: np.ndarray) -> np.ndarray:
        return order.transpose([axis - 1 for axis in permutation(graph, node)[1:]])

    def of_unknown_size(
        self, graph: Graph, node: Node, labels: Labels, tracing: Tracing
    ) -> Sequence[Labels]:
        return (Labels(permutation(graph, node).index(labels.axis + 1) - 1, labels.ids),)

    def lower(self, call: Call) -> int:
        try:
            return super().lower(call)
        except Unsupported as error:
            raise call.refuse(f"{error.reason}, which has no bounds.") from error


def permutation(graph: Graph, node: Node) -> list[int]:
    """The axes of a transposition in their new order, the batch axis in front."""
    perm = argument(graph, node, "perm", 1)
    perm = argument(graph, node, "axes", 1) if perm is None else perm
    rank = rank_in(graph, node)
    perm = [int(axis) % rank for axis in (reversed(range(rank)) if perm is None else perm)]
    if perm[0] != 0:
        raise Unsupported("other_axis", "moves the batch axis")
    return perm


class Concatenate(merging.Concatenate):
    """Concatenation as an operator."""

    def axis(self, graph: Graph, node: Node) -> int:
        return int(argument(graph, node, "axis", 1, 0))


class ShapeOf(LayerType):
    """The size of the batch, `tf.shape(x)[0]`, does not depend on units; any other length might."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        for reader in graph.readers.get(node.ref, ()):
            spec = argument(graph, reader, "slice_spec", 1)
            name = operator_name(graph.layer_of(reader))
            if name != "get_item" or spec not in (0, (0,), [0]):
                raise Unsupported("shape", "takes the shape of a tensor of units")
        return (Labels(0, tracing.fresh(node.name, 1, "shape")),)


class Stack(LayerType):
    """Tensors along a new axis: unit k of one meets unit k of the other."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = int(argument(graph, node, "axis", 1, 0)) % (len(node.shapes[0]) + 1) - 1
        if axis < 0 or len({labels.axis for labels in inputs}) != 1:
            raise Unsupported("other_axis", "joins tensors whose units lie on different axes")
        for labels in inputs[1:]:
            tracing.unite(inputs[0].ids, labels.ids)
        return (Labels(inputs[0].axis + (axis <= inputs[0].axis), inputs[0].ids),)


class Split(LayerType):
    """Parts along an axis on which no units lie."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = int(argument(graph, node, "axis", 2, 0)) % rank_in(graph, node) - 1
        if axis == inputs[0].axis or axis < 0:
            raise Unsupported("sliced", "splits along the axis that the units lie on")
        return tuple(inputs[:1]) * len(node.shapes)


class Pad(LayerType):
    """Padding of the axes on which no units lie."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        width = argument(graph, node, "pad_width", 1)
        width = argument(graph, node, "paddings", 1) if width is None else width
        if np.ndim(width) != 2 or np.any(np.asarray(width)[inputs[0].axis + 1]):
            raise Unsupported("padded", "pads the axis that the units lie on")
        return tuple(inputs[:1])


class Slice(LayerType):
    """`x[:, 2:4]`: channels survive where their axis is taken whole."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        rank = rank_in(graph, node)
        parts = list(_index(node))
        if any(not isinstance(part, (int, slice, type(None), type(...))) for part in parts):
            raise Unsupported("sliced", "takes entries by an index that is a tensor")
        taken = sum(part is not None and part is not ... for part in parts)
        if ... not in parts:
            parts.append(...)
        at = parts.index(...)
        parts[at : at + 1] = [slice(None)] * (rank - taken)
        before, after = 0, 0
        for part in parts:
            if before == inputs[0].axis + 1 and part is not None:
                if not is_whole(part):
                    reason = "takes only some entries of the axis the units lie on"
                    raise Unsupported("sliced", reason)
                return (Labels(after - 1, inputs[0].ids),)
            before += part is not None
            after += not isinstance(part, int)
        raise Unsupported("sliced", "takes entries in a way that is not known")

    def lower(self, call: Call) -> int:
        index = _index(call.node)
        if index[0] not in (slice(None), Ellipsis):
            raise call.refuse("takes some items of the batch, which has no bounds.")
        return move(call, call.inputs[0], lambda places: places[index])


def _index(node: Node) -> tuple[Any, ...]:
    """The index of a call, its slices as such: Keras stores them as dictionaries."""
    found = node.args[1] if len(node.args) > 1 else node.kwargs.get("key")
    found = node.kwargs.get("slice_spec", found)
    return tuple(
        slice(part.get("start"), part.get("stop"), part.get("step"))
        if isinstance(part, dict)
        else part
        for part in (found if isinstance(found, (list, tuple)) else [found])
    )


def is_whole(part: Any) -> bool:
    """Whether a part of an index takes all of its axis, in order."""
    return isinstance(part, slice) and (part.start or 0, part.stop, part.step or 1) == (0, None, 1)


TYPES: dict[str, LayerType] = {
    **dict.fromkeys(("squeeze", "expand_dims", "flatten"), InOrder()),
    "reshape": Reshape(),
    "transpose": Transpose(),
    "concatenate": Concatenate(),
    "get_item": Slice(),
    "shape": ShapeOf(),
    "stack": Stack(),
    "split": Split(),
    "pad": Pad(),
}
