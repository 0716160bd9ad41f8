"""Dense, EinsumDense and Embedding: layers whose weights are matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_robust_prune.graph.graph import Graph, Layer, Node
from keras_robust_prune.graph.tracing import CONSUMES, PRODUCES, Labels, Tracing
from keras_robust_prune.layers.rules.base import (
    Barrier,
    Lengths,
    Rule,
    known_size,
    known_weights,
    last_axis,
    one_output,
)
from keras_robust_prune.layers.rules.elementwise import freeze_mixed


class Dense(Rule):
    """Consumes the units of its last input axis, produces its own."""

    kernels = ("kernel",)

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, "kernel", "bias")
        ids = last_axis(graph, node, inputs[0])
        units = tracing.fresh(layer.name, layer.weights["kernel"].shape[1])
        tracing.use(layer.name, "kernel", 1, PRODUCES, units)
        if "bias" in layer.weights:
            tracing.use(layer.name, "bias", 0, PRODUCES, units)
        tracing.use(layer.name, "kernel", 0, CONSUMES, ids)
        freeze_mixed(layer, units, tracing)
        return one_output(node, units)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"units": lengths["kernel", 1]}

    def positions(self, graph: Graph, node: Node) -> int:
        return known_size(node.shapes[0][:-1])


class EinsumDense(Rule):
    """An einsum that contracts the units' axis and ends in a new one."""

    kernels = ("kernel",)

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, "kernel", "bias")
        source, kernel, target = _letters(layer.config["equation"], graph, node)
        letter = source[inputs[0].axis + 1]
        unit = target[-1]
        if letter in target or letter not in kernel or unit in source or unit not in kernel:
            raise Barrier("other_axis", "does not contract the axis that the units lie on")
        units = tracing.fresh(layer.name, layer.weights["kernel"].shape[kernel.index(unit)])
        tracing.use(layer.name, "kernel", kernel.index(unit), PRODUCES, units)
        if "bias" in layer.weights and unit in layer.config["bias_axes"]:
            tracing.use(layer.name, "bias", layer.weights["bias"].ndim - 1, PRODUCES, units)
        tracing.use(layer.name, "kernel", kernel.index(letter), CONSUMES, inputs[0].ids)
        freeze_mixed(layer, units, tracing)
        return one_output(node, units)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        kernel, target = layer.config["equation"].split(",")[1].replace(" ", "").split("->")
        shape = layer.config["output_shape"]
        shape = [shape] if isinstance(shape, int) else list(shape)
        shape[-1] = lengths["kernel", kernel.index(target[-1])]
        return {"output_shape": tuple(shape)}

    def positions(self, graph: Graph, node: Node) -> int:
        source, kernel, _ = _letters(graph.layer_of(node).config["equation"], graph, node)
        shape = graph.shape(node.inputs[0])
        return known_size([n for s, n in zip(source[1:], shape, strict=True) if s not in kernel])


def _letters(equation: str, graph: Graph, node: Node) -> tuple[str, str, str]:
    """The three terms of an equation, with an ellipsis written out."""
    spare = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    source, rest = equation.replace(" ", "").split(",")
    kernel, target = rest.split("->")
    if "..." in source:
        missing = len(graph.shape(node.inputs[0])) + 1 - len(source.replace("...", ""))
        source = source.replace("...", spare[:missing])
        target = target.replace("...", spare[:missing])
    return source, kernel, target


class Embedding(Rule):
    """Produces one unit per column of its table."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, "embeddings")
        units = tracing.fresh(layer.name, layer.weights["embeddings"].shape[1])
        tracing.use(layer.name, "embeddings", 1, PRODUCES, units)
        tracing.freeze(inputs[0].ids, "index", layer.name, "looks indices up")
        return one_output(node, units)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"output_dim": lengths["embeddings", 1]}


RULES: dict[str, Rule] = {
    "Dense": Dense(),
    "EinsumDense": EinsumDense(),
    "Embedding": Embedding(),
}
