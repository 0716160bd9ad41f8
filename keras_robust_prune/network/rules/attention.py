"""MultiHeadAttention: whole heads are units of the layer's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.network.graph import Graph, Layer, Node
from keras_robust_prune.network.rules.base import Lengths, Rule, last_axis, one_output
from keras_robust_prune.network.tracing import CONSUMES, PRODUCES, Labels, Tracing


class MultiHeadAttention(Rule):
    """Heads are produced by the three projections and consumed by the output projection."""

    kernels = ("query/kernel", "key/kernel", "value/kernel", "attention_output/kernel")

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        heads = tracing.fresh(layer.name, layer.weights["query/kernel"].shape[1], "heads")
        ids = [last_axis(graph, node, labels, index) for index, labels in enumerate(inputs[:3])]
        query, value = ids[0], ids[1]
        key = ids[2] if len(ids) > 2 else value
        for name, source in (("query", query), ("key", key), ("value", value)):
            tracing.use(layer.name, f"{name}/kernel", 1, PRODUCES, heads)
            if f"{name}/bias" in layer.weights:
                tracing.use(layer.name, f"{name}/bias", 0, PRODUCES, heads)
            tracing.use(layer.name, f"{name}/kernel", 0, CONSUMES, source)
        output = layer.weights["attention_output/kernel"]
        units = tracing.fresh(layer.name, output.shape[2])
        tracing.use(layer.name, "attention_output/kernel", 2, PRODUCES, units)
        if "attention_output/bias" in layer.weights:
            tracing.use(layer.name, "attention_output/bias", 0, PRODUCES, units)
        tracing.use(layer.name, "attention_output/kernel", 0, CONSUMES, heads)
        return one_output(node, units)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        changed = {
            "num_heads": lengths["attention_output/kernel", 0],
            "output_shape": (lengths["attention_output/kernel", 2],),
        }
        stale = {key: None for key in ("query_shape", "key_shape", "value_shape")}
        return {**changed, **{key: None for key in stale if key in layer.config}}

    def macs(self, graph: Graph, node: Node) -> int:
        weights = graph.layer_of(node).weights
        query = int(np.prod([n or 1 for n in graph.shape(node.inputs[0])[:-1]]))
        value = int(np.prod([n or 1 for n in graph.shape(node.inputs[1])[:-1]]))
        projected = query * (weights["query/kernel"].size + weights["attention_output/kernel"].size)
        projected += value * (weights["key/kernel"].size + weights["value/kernel"].size)
        _, heads, width = weights["query/kernel"].shape
        depth = width + weights["value/kernel"].shape[2]
        return int(projected + query * value * heads * depth)


RULES: dict[str, Rule] = {"MultiHeadAttention": MultiHeadAttention()}
