"""Normalisation: per-channel layers carry units; those that mix units let none pass, or whole groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.network.graph import Graph, Layer, Node
from keras_robust_prune.network.rules.base import Barrier, Lengths, Rule
from keras_robust_prune.network.tracing import CARRIES, Labels, Tracing


def normalised_axes(layer: Layer, rank: int) -> tuple[int, ...]:
    """The `axis` of a configuration as indices >= 0 without the batch axis.

    Args:
        layer: whose configuration is read.
        rank: number of axes of its input, without the batch axis.
    """
    axis = layer.config.get("axis", -1)
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return tuple(rank + a if a < 0 else a - 1 for a in axes)


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
    """Its statistics run over all units, so a removed one would change the others."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        axes = normalised_axes(layer, len(graph.shape(node.inputs[0])))
        if labels.axis in axes:
            raise Barrier("mixes_units", "normalises over all units together")
        return (labels,)


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
