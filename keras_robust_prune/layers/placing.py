"""Operators that set entries beside others: padding, repetition, rolling, channels that become places and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Node, Shape
from keras_robust_prune.graph.tracing import CARRIES, Labels, Tracing
from keras_robust_prune.layers.base import LayerType, Unsupported
from keras_robust_prune.layers.calls import argument, constants, operator_name, rank_in


class Roll(LayerType):
    """Entries move round along axes that no units lie on, as windows are shifted."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = argument(graph, node, "axis", 2)
        axes = {
            int(a) % rank_in(graph, node) - 1 for a in np.atleast_1d([] if axis is None else axis)
        }
        if not axes or inputs[0].axis in axes:
            raise Unsupported("other_axis", "moves units round along their own axis")
        return tuple(inputs[:1])


class Pad(LayerType):
    """Padding; zeros beside units stay."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        width = argument(graph, node, "pad_width", 1)
        width = argument(graph, node, "paddings", 1) if width is None else width
        if np.ndim(width) != 2:
            raise Unsupported("padded", "pads in a way that is not known")
        ((axis, ids),) = inputs
        before, after = np.asarray(width)[axis + 1]
        zeros = tracing.fresh(node.name, int(before + after), "zeros")
        tracing.protect(zeros, "padded", node.layer, "puts it beside units")
        return (Labels(axis, np.concatenate([zeros[:before], ids, zeros[before:]])),)


class DepthToSpace(LayerType):
    """Channels become places: what becomes one channel goes together."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        ids = _channels_last(graph, node, inputs[0]).reshape(-1, node.shapes[0][-1] or 1)
        tracing.unite(ids[:1], ids)
        return (Labels(inputs[0].axis, ids[0]),)


class SpaceToDepth(LayerType):
    """Places become channels, so that each stands there once for every place."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        ids = _channels_last(graph, node, inputs[0])
        return (Labels(inputs[0].axis, np.tile(ids, (node.shapes[0][-1] or 1) // len(ids))),)


def _channels_last(graph: Graph, node: Node, labels: Labels) -> np.ndarray:
    form = argument(graph, node, "data_format", 3, "NHWC")
    if labels.axis != rank_in(graph, node) - 2 or form != "NHWC":
        raise Unsupported("other_axis", "works along another axis than the one the units lie on")
    return labels.ids


class Repeat(LayerType):
    """Entries side by side several times, as keys are for groups of queries.

    Or a constant for every sample, as class tokens are: its last axis is that of the units.
    """

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        times = argument(graph, node, "repeats", 1)
        if not constants(node) and operator_name(graph.layer_of(node)) == "repeat":
            axis = argument(graph, node, "axis", 2)
            if axis is None or not isinstance(times, int) or int(axis) % rank_in(graph, node) == 0:
                raise Unsupported("repeated", "repeats in a way that is not known")
            same = int(axis) % rank_in(graph, node) - 1 == inputs[0].axis
            ids = np.repeat(inputs[0].ids, times) if same else inputs[0].ids
            return (Labels(inputs[0].axis, ids),)
        if not constants(node) and operator_name(graph.layer_of(node)) == "tile":
            times = argument(graph, node, "multiples", 1) if times is None else times
            if isinstance(times, int) or len(times) != rank_in(graph, node) or times[0] != 1:
                raise Unsupported("repeated", "repeats in a way that is not known")
            return (Labels(inputs[0].axis, np.tile(inputs[0].ids, times[inputs[0].axis + 1])),)
        width = node.shapes[0][-1] if node.shapes[0] else None
        for number, value in enumerate(constants(node)):
            if value.ndim > 1 and value.shape[-1] == width:
                ids = tracing.fresh(node.name, value.shape[-1], "constant")
                tracing.use(node.layer, f"constant {number}", value.ndim - 1, CARRIES, ids)
                return (Labels(len(node.shapes[0]) - 1, ids),)
        raise Unsupported("repeated", "repeats something else than a constant")

    def resize_call(
        self, graph: Graph, node: Node, shapes: Sequence[Shape]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        def fit(part: Any) -> Any:
            if not isinstance(part, (list, tuple)) or part[-1] != node.shapes[0][-1]:
                return part
            return [*part[:-1], shapes[0][-1]]

        return tuple(map(fit, node.args)), {key: fit(part) for key, part in node.kwargs.items()}


TYPES: dict[str, LayerType] = {
    "pad": Pad(),
    "roll": Roll(),
    "depth_to_space": DepthToSpace(),
    "space_to_depth": SpaceToDepth(),
    **dict.fromkeys(("broadcast_to", "tile", "repeat"), Repeat()),
}
