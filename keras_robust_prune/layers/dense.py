"""Dense, EinsumDense and Embedding: layers whose weights are matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node
from keras_robust_prune.graph.tracing import CARRIES, CONSUMES, PRODUCES, Labels, Tracing
from keras_robust_prune.layers.activation import new_units, protect_mixed
from keras_robust_prune.layers.base import (
    LayerType,
    Lengths,
    Unsupported,
    known_size,
    known_weights,
    last_axis,
    one_output,
)
from keras_robust_prune.layers.calls import Call
from keras_robust_prune.layers.linear import LinearView, between, positions
from keras_robust_prune.primitives.linear import MatMul


class Dense(LayerType):
    """Consumes the units of its last input axis, produces its own.

    Where it works along another axis than units that can go, as mixers do along places, these pass and its own stay.
    """

    kernels = ("kernel",)
    activation = "activation"
    bias = "bias"

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, "kernel", "bias")
        units = new_units(layer, tracing, "kernel", 1)
        if inputs[0].axis == len(node.shapes[0]) - 1:
            tracing.use(layer.name, "kernel", 0, CONSUMES, inputs[0].ids)
        elif passes_by(layer, inputs[0].ids, units, tracing):
            return tuple(inputs[:1])
        return one_output(node, units)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"units": lengths["kernel", 1]}

    def rescaled(
        self, layer: Layer, inputs: np.ndarray, outputs: np.ndarray
    ) -> Mapping[str, np.ndarray] | None:
        return between(layer, "kernel", inputs, outputs)

    def constant(self, layer: Layer, inputs: np.ndarray) -> np.ndarray | None:
        return np.asarray(inputs @ layer.weights["kernel"])

    def positions(self, graph: Graph, node: Node) -> int:
        return known_size(node.shapes[0][:-1])

    def lower(self, call: Call) -> int:
        (x,) = call.inputs
        return call.emit(MatMul(call.shape(x), call.kernel("kernel"), call.weight("bias")), x)

    def linear(self, layer: Layer) -> LinearView | None:
        return LinearView("kernel", positions)


def passes_by(layer: Layer, ids: np.ndarray, units: np.ndarray, tracing: Tracing) -> bool:
    """Whether units lie beside the axis that a layer works along and can go: then the layer's own stay."""
    if tracing.stays(ids):
        return False
    reason = "works along another axis than the one on which units can go"
    tracing.protect(units, "other_axis", layer.name, reason)
    return True


class EinsumDense(LayerType):
    """An einsum that contracts the units' axis, or leaves it as it is, and ends in a new one."""

    kernels = ("kernel",)
    activation = "activation"

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, "kernel", "bias")
        source, kernel, target = _letters(layer.config["equation"], graph, node)
        letter = source[inputs[0].axis + 1]
        unit = target[-1]
        beside = letter in target and letter not in kernel
        contracts = letter not in target and letter in kernel
        if unit in source or unit not in kernel or not (beside or contracts):
            raise Unsupported("other_axis", "does not contract the axis that the units lie on")
        units = tracing.fresh(layer.name, layer.weights["kernel"].shape[kernel.index(unit)])
        tracing.use(layer.name, "kernel", kernel.index(unit), PRODUCES, units)
        if "bias" in layer.weights and unit in layer.config["bias_axes"]:
            tracing.use(layer.name, "bias", layer.weights["bias"].ndim - 1, PRODUCES, units)
        protect_mixed(layer, units, tracing)
        if contracts:
            tracing.use(layer.name, "kernel", kernel.index(letter), CONSUMES, inputs[0].ids)
        elif passes_by(layer, inputs[0].ids, units, tracing):
            axis = target.index(letter) - 1
            tracing.use(layer.name, "shape", axis, CARRIES, inputs[0].ids)
            return (Labels(axis, inputs[0].ids),)
        return one_output(node, units)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        kernel, target = layer.config["equation"].split(",")[1].replace(" ", "").split("->")
        shape = layer.config["output_shape"]
        shape = [shape] if isinstance(shape, int) else list(shape)
        shape[-1] = lengths["kernel", kernel.index(target[-1])]
        shape = [lengths.get(("shape", axis), size) for axis, size in enumerate(shape)]
        return {"output_shape": tuple(shape)}

    def positions(self, graph: Graph, node: Node) -> int:
        source, kernel, _ = _letters(graph.layer_of(node).config["equation"], graph, node)
        shape = graph.shape(node.inputs[0])
        return known_size([n for s, n in zip(source[1:], shape, strict=True) if s not in kernel])

    def lower(self, call: Call) -> int:
        (x,) = call.inputs
        source, _, target = call.config["equation"].replace("...", "").partition("->")
        left, _, right = source.partition(",")
        if len(right) != 2 or left[-1] != right[0] or target != left[:-1] + right[1]:
            raise call.refuse(
                f"has the equation '{call.config['equation']}'; only products over the last axis have bounds."
            )
        return call.emit(MatMul(call.shape(x), call.kernel("kernel"), call.weight("bias")), x)


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


class Embedding(LayerType):
    """Produces one unit per column of its table."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, "embeddings")
        units = tracing.fresh(layer.name, layer.weights["embeddings"].shape[1])
        tracing.use(layer.name, "embeddings", 1, PRODUCES, units)
        tracing.protect(inputs[0].ids, "index", layer.name, "looks indices up")
        return one_output(node, units)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"output_dim": lengths["embeddings", 1]}

    def num_tokens(self, layer: Layer) -> int:
        return int(layer.config["input_dim"])


class ReversibleEmbedding(Embedding):
    """An embedding that also scores all tokens of its table, or of a second one, when it is called in reverse."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, "embeddings", "reverse_embeddings")
        tied = "reverse_embeddings" not in layer.weights
        ways = {_in_reverse(call) for call in graph.calls[layer.name]}
        if tied and len(ways) > 1:
            raise Unsupported("both_ways", "looks tokens up and scores them by the same table")
        units = tracing.fresh(layer.name, layer.weights["embeddings"].shape[1])
        if not _in_reverse(node):
            tracing.use(layer.name, "embeddings", 1, PRODUCES, units)
            if not tied and len(ways) == 1:
                tracing.use(layer.name, "reverse_embeddings", 0, CARRIES, units)
            tracing.protect(inputs[0].ids, "index", layer.name, "looks indices up")
            return one_output(node, units)
        ids = last_axis(graph, node, inputs[0])
        tracing.unite(units, ids)  # both tables are as wide as the configuration says
        name, axis = ("embeddings", 1) if tied else ("reverse_embeddings", 0)
        tracing.use(layer.name, name, axis, CONSUMES, ids)
        scores = tracing.fresh(layer.name, layer.weights[name].shape[1 - axis], "scores")
        tracing.protect(scores, "index", layer.name, "scores every token")
        return one_output(node, scores)

    def macs(self, graph: Graph, node: Node) -> int:
        if not _in_reverse(node):
            return 0
        table = graph.layer_of(node).weights["embeddings"]
        return int(table.size) * known_size(node.shapes[0][:-1])


def _in_reverse(node: Node) -> bool:
    return bool(node.args[1] if len(node.args) > 1 else node.kwargs.get("reverse"))


TYPES: dict[str, LayerType] = {
    "Dense": Dense(),
    "EinsumDense": EinsumDense(),
    "Embedding": Embedding(),
    "ReversibleEmbedding": ReversibleEmbedding(),
}
