"""MultiHeadAttention: whole heads are units of the layer's own, and so are the entries within all heads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.graph.tracing import CONSUMES, PRODUCES, Labels, Tracing
from keras_robust_prune.layers.base import (
    LayerType,
    Lengths,
    Unsupported,
    known_size,
    known_weights,
)

PROJECTIONS = ("query", "key", "value")
KERNELS = tuple(f"{name}/kernel" for name in (*PROJECTIONS, "attention_output"))
BIASES = tuple(f"{name}/bias" for name in (*PROJECTIONS, "attention_output"))


def sources(node: Node) -> dict[str, Ref]:
    """Which tensor is query, key and value of a call, given by position or by name."""
    given = dict(zip(("query", "value", "key"), node.args, strict=False))
    given.update({name: node.kwargs[name] for name in PROJECTIONS if name in node.kwargs})
    if given.get("key") is None:
        given["key"] = given["value"]
    return {name: given[name] for name in PROJECTIONS}


class MultiHeadAttention(LayerType):
    """Heads are produced by the three projections and consumed by the output projection."""

    kernels = KERNELS

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, *KERNELS, *BIASES)
        output = layer.weights["attention_output/kernel"]
        labels = dict(zip(node.inputs, inputs, strict=True))
        tensors = sources(node)
        if output.ndim != 3 or any(
            labels[ref].axis != len(graph.shape(ref)) - 1 for ref in tensors.values()
        ):
            raise Unsupported(
                "other_axis", "works along another axis than the one the units lie on"
            )
        heads = tracing.fresh(layer.name, output.shape[0], "heads")
        for name, ref in tensors.items():
            tracing.use(layer.name, f"{name}/kernel", 1, PRODUCES, heads)
            if f"{name}/bias" in layer.weights:
                tracing.use(layer.name, f"{name}/bias", 0, PRODUCES, heads)
            tracing.use(layer.name, f"{name}/kernel", 0, CONSUMES, labels[ref].ids)
        self.within(layer, tracing)
        units = tracing.fresh(layer.name, output.shape[2])
        tracing.use(layer.name, "attention_output/kernel", 2, PRODUCES, units)
        if "attention_output/bias" in layer.weights:
            tracing.use(layer.name, "attention_output/bias", 0, PRODUCES, units)
        tracing.use(layer.name, "attention_output/kernel", 0, CONSUMES, heads)
        found = [Labels(len(node.shapes[0]) - 1, units), Labels(0, heads)]
        return found[: len(node.shapes)]

    def within(self, layer: Layer, tracing: Tracing) -> None:
        """Entry k of every head: those of keys are read by the queries, those of values by the output projection."""
        width = layer.weights["query/kernel"].shape[2]
        pairs = [("key", "query", width, 2)]
        pairs.append(("value", "attention_output", layer.weights["value/kernel"].shape[2], 1))
        for source, consumer, length, axis in pairs:
            ids = tracing.fresh(layer.name, length, source)
            tracing.use(layer.name, f"{source}/kernel", 2, PRODUCES, ids)
            tracing.use(layer.name, f"{consumer}/kernel", axis, CONSUMES, ids)
            if f"{source}/bias" in layer.weights:
                tracing.use(layer.name, f"{source}/bias", 1, PRODUCES, ids)
            if consumer == "query" and "query/bias" in layer.weights:
                tracing.use(layer.name, "query/bias", 1, CONSUMES, ids)

    def factors(self, before: Layer, after: Layer) -> Mapping[str, float]:
        """Keras divides by the root of the length of the keys that the configuration names."""
        lengths = [layer.weights["query/kernel"].shape[2] for layer in (before, after)]
        factor = math.sqrt(lengths[1] / lengths[0])
        names = [name for name in ("query/kernel", "query/bias") if name in before.weights]
        return dict.fromkeys(names, factor) if factor != 1 else {}

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        changed: dict[str, Any] = {
            "num_heads": lengths["attention_output/kernel", 0],
            "key_dim": lengths["key/kernel", 2],
            "value_dim": lengths["value/kernel", 2],
            "output_shape": (lengths["attention_output/kernel", 2],),
        }
        for name in PROJECTIONS:  # tf_keras stores what the layer was built for
            shape = layer.config.get(f"{name}_shape")
            if shape is not None:
                changed[f"{name}_shape"] = (*tuple(shape)[:-1], lengths[f"{name}/kernel", 0])
        return changed

    def macs(self, graph: Graph, node: Node) -> int:
        weights = graph.layer_of(node).weights
        steps = {name: known_size(graph.shape(ref)[:-1]) for name, ref in sources(node).items()}
        steps["attention_output"] = steps["query"]
        projected = sum(steps[k.split("/")[0]] * weights[k].size for k in KERNELS)
        _, heads, width = weights["query/kernel"].shape
        depth = width + weights["value/kernel"].shape[2]
        return int(projected + steps["query"] * steps["key"] * heads * depth)


TYPES: dict[str, LayerType] = {"MultiHeadAttention": MultiHeadAttention()}
