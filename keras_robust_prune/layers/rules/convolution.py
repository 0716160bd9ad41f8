"""Convolutions: plain, grouped, depthwise, separable and transposed, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node
from keras_robust_prune.graph.tracing import CARRIES, CONSUMES, PRODUCES, Labels, Tracing
from keras_robust_prune.layers.rules.base import (
    Lengths,
    Rule,
    channels_in,
    channels_out,
    known_weights,
    places,
)
from keras_robust_prune.layers.rules.elementwise import freeze_mixed


class Convolution(Rule):
    """Filters are units; with groups, whatever meets in one group goes together."""

    kernels = ("kernel",)

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, "kernel", "bias")
        ids = channels_in(graph, node, inputs[0])
        rank = layer.weights["kernel"].ndim
        groups = layer.config.get("groups", 1)
        filters = tracing.fresh(layer.name, layer.weights["kernel"].shape[-1])
        role = PRODUCES if groups == 1 else CARRIES
        tracing.use(layer.name, "kernel", rank - 1, role, filters)
        if "bias" in layer.weights:
            tracing.use(layer.name, "bias", 0, role, filters)
        if groups == 1:
            tracing.use(layer.name, "kernel", rank - 2, CONSUMES, ids)
        else:
            members = np.concatenate([ids.reshape(groups, -1), filters.reshape(groups, -1)], axis=1)
            tracing.unite(members[:, :1], members)
        freeze_mixed(layer, filters, tracing)
        return channels_out(graph, node, filters)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        filters = lengths["kernel", layer.weights["kernel"].ndim - 1]
        groups = layer.config.get("groups", 1)
        per_group = layer.weights["kernel"].shape[-1] // groups
        return {"filters": filters, "groups": filters // per_group if groups > 1 else 1}

    def positions(self, graph: Graph, node: Node) -> int:
        return places(graph.layer_of(node), node.shapes[0])


class DepthwiseConvolution(Rule):
    """Each channel has filters of its own, which go with it."""

    kernels = ("depthwise_kernel",)

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        kernel = layer.weights["depthwise_kernel"]
        ids = channels_in(graph, node, inputs[0])
        tracing.use(layer.name, "depthwise_kernel", kernel.ndim - 2, CARRIES, ids)
        channels = np.repeat(ids, kernel.shape[-1])
        if "bias" in layer.weights:
            tracing.use(layer.name, "bias", 0, CARRIES, channels)
        freeze_mixed(layer, channels, tracing)
        return channels_out(graph, node, channels)

    def positions(self, graph: Graph, node: Node) -> int:
        return places(graph.layer_of(node), node.shapes[0])


class SeparableConvolution(Rule):
    """A depthwise convolution and the pointwise one that consumes it."""

    kernels = ("depthwise_kernel", "pointwise_kernel")

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        depthwise, pointwise = (layer.weights[name] for name in self.kernels)
        ids = channels_in(graph, node, inputs[0])
        filters = tracing.fresh(layer.name, pointwise.shape[-1])
        tracing.use(layer.name, "pointwise_kernel", pointwise.ndim - 1, PRODUCES, filters)
        if "bias" in layer.weights:
            tracing.use(layer.name, "bias", 0, PRODUCES, filters)
        tracing.use(layer.name, "depthwise_kernel", depthwise.ndim - 2, CARRIES, ids)
        channels = np.repeat(ids, depthwise.shape[-1])
        tracing.use(layer.name, "pointwise_kernel", pointwise.ndim - 2, CONSUMES, channels)
        freeze_mixed(layer, filters, tracing)
        return channels_out(graph, node, filters)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"filters": lengths["pointwise_kernel", layer.weights["pointwise_kernel"].ndim - 1]}

    def positions(self, graph: Graph, node: Node) -> int:
        return places(graph.layer_of(node), node.shapes[0])


class TransposedConvolution(Rule):
    """Like a convolution, with the kernel's last two axes exchanged."""

    kernels = ("kernel",)

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        rank = layer.weights["kernel"].ndim
        ids = channels_in(graph, node, inputs[0])
        filters = tracing.fresh(layer.name, layer.weights["kernel"].shape[-2])
        tracing.use(layer.name, "kernel", rank - 2, PRODUCES, filters)
        if "bias" in layer.weights:
            tracing.use(layer.name, "bias", 0, PRODUCES, filters)
        tracing.use(layer.name, "kernel", rank - 1, CONSUMES, ids)
        freeze_mixed(layer, filters, tracing)
        return channels_out(graph, node, filters)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"filters": lengths["kernel", layer.weights["kernel"].ndim - 2]}

    def positions(self, graph: Graph, node: Node) -> int:
        return places(graph.layer_of(node), graph.shape(node.inputs[0]))


RULES: dict[str, Rule] = {
    **{f"Conv{n}D": Convolution() for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": DepthwiseConvolution() for n in (1, 2)},
    **{f"SeparableConv{n}D": SeparableConvolution() for n in (1, 2)},
    **{f"Conv{n}DTranspose": TransposedConvolution() for n in (1, 2, 3)},
}
