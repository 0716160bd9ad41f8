"""Normalisation: per channel, over groups of units, which go whole, or over all, where one that goes is a zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import MASK, Graph, Layer, Node
from keras_robust_prune.graph.tracing import CARRIES, CONSUMES, NORMALISES, Labels, Tracing
from keras_robust_prune.layers.padding import PADDED_RANKS, normalised_axes
from keras_robust_prune.layers.rules.base import Barrier, Lengths, Rule


def carry_all(layer: Layer, labels: Labels, tracing: Tracing) -> None:
    """Note that every weight holds one entry per unit."""
    if any(value.shape != labels.ids.shape for value in layer.weights.values()):
        raise Barrier("unknown_weights", "has weights that are not one number per unit")
    for weight in layer.weights:
        tracing.use(layer.name, weight, 0, CARRIES, labels.ids)


class PerChannel(Rule):
    """Every weight holds one entry per unit, as in BatchNormalization."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        if normalised_axes(layer, len(graph.shape(node.inputs[0]))) != (labels.axis,):
            raise Barrier("other_axis", "normalises along another axis than the units'")
        carry_all(layer, labels, tracing)
        return (labels,)


class LayerNormalization(Rule):
    """Its statistics run over all units: one that goes stays in them as a zero.

    So it reads the units like a layer that mixes them, through a mask, while each has an output of its own; its
    weights keep an entry for every zero.
    """

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        rank = len(graph.shape(node.inputs[0]))
        axes = normalised_axes(layer, rank)
        if labels.axis not in axes:
            return (labels,)
        ranks = {len(graph.shape(call.inputs[0])) for call in graph.calls[layer.name]}
        if labels.axis != rank - 1 or rank > PADDED_RANKS[-1] or len(ranks) > 1:
            raise Barrier("mixes_units", "normalises over all units in a way that cannot be padded")
        if any(_marks_steps(other) for other in graph.layers.values()):
            raise Barrier("mask", "normalises over all units, and padding would lose a mask")
        weights = [name for name in layer.weights if name != MASK]
        if not weights and layer.kind != "UnitNormalization":
            reason = "normalises over all units, and no weights of its tell how many there were"
            raise Barrier("no_weights", reason)
        place = axes.index(labels.axis)
        for name in weights:
            shape = layer.weights[name].shape
            if len(shape) != len(axes) or shape[place] < len(labels.ids):
                raise Barrier("unknown_weights", "has weights that are not one number per unit")
            tracing.use(layer.name, name, place, NORMALISES, labels.ids)
        tracing.use(layer.name, MASK, 0, CONSUMES, labels.ids)
        return (labels,)


def _marks_steps(layer: Layer) -> bool:
    """Whether a layer sends a mask of time steps along with its output."""
    return layer.kind == "Masking" or bool(layer.config.get("mask_zero"))


class GroupNormalization(Rule):
    """Whole groups can go: the statistics of the others do not see them."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        if normalised_axes(layer, len(graph.shape(node.inputs[0]))) != (labels.axis,):
            raise Barrier("other_axis", "normalises along another axis than the units'")
        groups = layer.config["groups"]
        if not layer.weights and groups != -1:
            raise Barrier("no_weights", "has no weights that tell its width")
        carry_all(layer, labels, tracing)
        members = labels.ids.reshape(len(labels.ids) if groups == -1 else groups, -1)
        tracing.unite(members[:, :1], members)
        return (labels,)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        groups = layer.config["groups"]
        if groups == -1:
            return {}
        weight, before = next((name, len(value)) for name, value in layer.weights.items())
        return {"groups": groups * lengths[weight, 0] // before}


class Normalization(Rule):
    """Fixed statistics per feature; they stay, and so do the features."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        (labels,) = inputs
        tracing.freeze(labels.ids, "statistics", node.layer, "normalises fixed features")
        return (labels,)


class LayerScale(Rule):
    """A gain per channel, as in ConvNeXt."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        carry_all(layer, labels, tracing)
        return (labels,)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"projection_dim": int(min(lengths.values()))}


class PReLU(Rule):
    """Slopes go with their units where they are not shared among them."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        if layer.weights["alpha"].shape[labels.axis] == len(labels.ids):
            tracing.use(layer.name, "alpha", labels.axis, CARRIES, labels.ids)
        return (labels,)


class Rescaling(Rule):
    """Passes units through a common scale; one per feature keeps the features."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        if any(np.size(layer.config.get(key, 0.0)) > 1 for key in ("scale", "offset")):
            tracing.freeze(labels.ids, "statistics", layer.name, "rescales fixed features")
        return (labels,)


RULES: dict[str, Rule] = {
    "BatchNormalization": PerChannel(),
    "SyncBatchNormalization": PerChannel(),
    "LayerNormalization": LayerNormalization(),
    "RMSNormalization": LayerNormalization(),
    "UnitNormalization": LayerNormalization(),
    "GroupNormalization": GroupNormalization(),
    "Normalization": Normalization(),
    "LayerScale": LayerScale(),
    "PReLU": PReLU(),
    "Rescaling": Rescaling(),
}
