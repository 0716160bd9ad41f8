"""Operators that move entries about without changing them: reshape, transpose, slices, concatenation.

Of tf_keras they are TFOpLambda and SlicingOpLambda, of Keras 3 its operations: nodes without weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Shape
from keras_robust_prune.graph.tracing import CARRIES, Labels, Tracing, relabel, tie
from keras_robust_prune.layers import merging
from keras_robust_prune.layers.answers import Kept, Renumbered
from keras_robust_prune.layers.base import (
    LayerType,
    Lengths,
    Unsupported,
    known_size,
)
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
        """Labels move within the last axes, if those hold as many entries before as after."""
        before, after = graph.shape(node.inputs[0]), node.shapes[0]
        for first in reversed(range(labels.axis + 1)):
            for last in reversed(range(len(after))):
                old, new = before[first:], after[last:]
                if None in (*old, *new) or known_size(old) != known_size(new):
                    continue
                order = np.arange(known_size(old)).reshape([length or 1 for length in new])
                inner = Labels(labels.axis - first, labels.ids)
                sizes = [int(length or 1) for length in old]
                found = relabel(inner, sizes, order) or tie(inner, sizes, order, tracing)
                moved = Labels(found.axis + last, found.ids)
                self.note(graph.layer_of(node), moved, tracing)
                return (moved,)
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
    perm = axes_in_order(graph, node)
    if perm[0] != 0:
        raise Unsupported("other_axis", "moves the batch axis")
    return perm


def axes_in_order(graph: Graph, node: Node) -> list[int]:
    """The axes of an input in the order that they have in the output, counted with the batch axis."""
    rank, name = rank_in(graph, node), operator_name(graph.layer_of(node))
    numbered = np.empty(tuple(range(rank)))  # an axis is as long as its number
    if name == "moveaxis":
        ends = [
            argument(graph, node, end, k + 1) for k, end in enumerate(("source", "destination"))
        ]
        return list(np.moveaxis(numbered, *ends).shape)
    if name == "swapaxes":
        ends = [argument(graph, node, f"axis{k}", k) for k in (1, 2)]
        return list(np.swapaxes(numbered, *map(int, ends)).shape)
    perm = argument(graph, node, "perm", 1)
    perm = argument(graph, node, "axes", 1) if perm is None else perm
    return [int(axis) % rank for axis in (reversed(range(rank)) if perm is None else perm)]


class Concatenate(merging.Concatenate):
    """Concatenation as an operator."""

    def axis(self, graph: Graph, node: Node) -> int:
        return int(argument(graph, node, "axis", 1, 0))


class ShapeOf(LayerType):
    """The size of the batch, `tf.shape(x)[0]`, does not depend on units; any other length might."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        for consumer in graph.consumers.get(node.ref, ()):
            spec = argument(graph, consumer, "slice_spec", 1)
            name = operator_name(graph.layer_of(consumer))
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
    """Parts along an axis, which may be that of the units."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = self.axis(graph, node)
        if axis < 0:
            raise Unsupported("sliced", "splits the batch")
        if axis != inputs[0].axis:
            return tuple(inputs[:1]) * len(node.shapes)
        return [Labels(axis, ids) for ids in np.split(inputs[0].ids, self.ends(node, axis))]

    def axis(self, graph: Graph, node: Node) -> int:
        """The axis along which it splits, without the batch axis."""
        return int(argument(graph, node, "axis", 2, 0)) % rank_in(graph, node) - 1

    def ends(self, node: Node, axis: int) -> list[int]:
        """Where the parts but the last end."""
        return np.cumsum([shape[axis] or 0 for shape in node.shapes])[:-1].tolist()

    def renumber(self, graph: Graph, node: Node, kept: Sequence[Kept]) -> Renumbered:
        axis, stay = self.axis(graph, node), kept[0].stay
        if axis != kept[0].axis:
            return super().renumber(graph, node, kept)
        sizes = [int(part.sum()) for part in np.split(stay, self.ends(node, axis))]
        if "indices_or_sections" in graph.layer_of(node).config:
            ends = np.cumsum(sizes)[:-1].tolist()
            return Renumbered(node.args, node.kwargs, {"indices_or_sections": ends})
        args = tuple(sizes if k == 1 else part for k, part in enumerate(node.args))
        names = ("num_or_size_splits",)
        kwargs = {key: sizes if key in names else part for key, part in node.kwargs.items()}
        return Renumbered(args, kwargs, {})


class Slice(LayerType):
    """`x[:, 2:4]`: units survive where their axis is taken whole, or a run of it.

    Of every k-th the k side by side go together: what is left stands as far apart.
    """

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        at, after = self.place(graph, node, inputs[0].axis)
        part = _index(node)[at] if at is not None else slice(None)
        ids = inputs[0].ids
        if isinstance(part, slice) and _is_strided(part, len(ids)):
            together = ids.reshape(-1, part.step)
            tracing.unite(together[:, :1], together)
        elif not isinstance(part, slice) or part.step not in (None, 1):
            raise Unsupported("sliced", "takes only some entries of the axis the units lie on")
        return (Labels(after, ids[part]),)

    def place(self, graph: Graph, node: Node, axis: int) -> tuple[int | None, int]:
        """Which part of the index is for an axis, None if it is left out, and which axis that is afterwards."""
        parts = _index(node)
        if any(not isinstance(part, (int, slice, type(None), type(...))) for part in parts):
            raise Unsupported("sliced", "takes entries by an index that is a tensor")
        numbers: list[int | None] = list(range(len(parts)))
        spare = rank_in(graph, node) - sum(part is not None and part is not ... for part in parts)
        at = parts.index(...) if ... in parts else len(parts)
        numbers[at : at + 1] = [None] * spare
        before, after = 0, 0
        for number in numbers:
            part = slice(None) if number is None else parts[number]
            if before == axis + 1 and part is not None:
                return number, after - 1
            before += part is not None
            after += not isinstance(part, int)
        raise Unsupported("sliced", "takes entries in a way that is not known")

    def renumber(self, graph: Graph, node: Node, kept: Sequence[Kept]) -> Renumbered:
        axis, stay = kept[0]
        at, _ = self.place(graph, node, axis)
        parts = list(_index(node))
        if at is None or is_whole(parts[at]) or _is_strided(parts[at], len(stay)):
            return super().renumber(graph, node, kept)
        start, stop, _ = parts[at].indices(len(stay))
        first = int(stay[:start].sum())
        parts[at] = slice(first, first + int(stay[start:stop].sum()))
        key, names = _stored(parts, node), ("key", "slice_spec")
        args = tuple(key if k == 1 else part for k, part in enumerate(node.args))
        kwargs = {name: key if name in names else part for name, part in node.kwargs.items()}
        return Renumbered(args, kwargs, {})

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


def _stored(parts: Sequence[Any], node: Node) -> tuple[Any, ...]:
    """An index as Keras stores it in this call: its slices are dictionaries in tf_keras."""
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("slice_spec")
    stored = any(isinstance(part, dict) for part in (given if isinstance(given, tuple) else ()))
    return tuple(
        {"start": part.start, "stop": part.stop, "step": part.step}
        if stored and isinstance(part, slice)
        else part
        for part in parts
    )


def without_ellipsis(graph: Graph, node: Node) -> Node:
    """A call with an index that tf_keras can save: it has no word for an ellipsis."""
    if graph.keras != "tf_keras" or ... not in (parts := _index(node)):
        return node
    spare = rank_in(graph, node) - sum(part is not None and part is not ... for part in parts)
    at = parts.index(...)
    parts = (*parts[:at], *[slice(None)] * spare, *parts[at + 1 :])
    key = tuple(
        {"start": part.start, "stop": part.stop, "step": part.step}
        if isinstance(part, slice)
        else part
        for part in parts
    )
    args = tuple(key if k == 1 else part for k, part in enumerate(node.args))
    kwargs = {name: key if name == "slice_spec" else part for name, part in node.kwargs.items()}
    return dataclasses.replace(node, args=args, kwargs=kwargs)


def _is_strided(part: slice, length: int) -> bool:
    """Whether a slice takes every k-th of an axis to its end, one of any k."""
    start, step = part.start or 0, part.step or 1
    return step > 1 and 0 <= start < step and part.stop is None and length % step == 0


def is_whole(part: Any) -> bool:
    """Whether a part of an index takes all of its axis, in order."""
    return isinstance(part, slice) and (part.start or 0, part.stop, part.step or 1) == (0, None, 1)


TYPES: dict[str, LayerType] = {
    **dict.fromkeys(("squeeze", "expand_dims", "flatten"), InOrder()),
    "reshape": Reshape(),
    **dict.fromkeys(("transpose", "moveaxis", "swapaxes"), Transpose()),
    "concatenate": Concatenate(),
    "get_item": Slice(),
    "shape": ShapeOf(),
    "stack": Stack(),
    "split": Split(),
}
