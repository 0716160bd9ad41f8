"""Convolutions: plain, grouped, depthwise, separable and transposed, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Layer, Node
from keras_robust_prune.graph.tracing import CARRIES, CONSUMES, PRODUCES, Labels, Tracing
from keras_robust_prune.layers.activation import new_units, protect_mixed
from keras_robust_prune.layers.base import (
    LayerType,
    Lengths,
    channels_in,
    channels_out,
    known_weights,
    places,
)
from keras_robust_prune.layers.calls import Call
from keras_robust_prune.layers.linear import LinearView, between, patches, positions
from keras_robust_prune.primitives import convolution
from keras_robust_prune.primitives.gaussian import NEIGHBOURS, Gaussian
from keras_robust_prune.primitives.linear import MatMul
from keras_robust_prune.primitives.windows import Window


class Filters(LayerType):
    """What all convolutions have in common: taps at every position of the output."""

    activation = "activation"

    def positions(self, graph: Graph, node: Node) -> int:
        return places(graph.layer_of(node), node.shapes[0])


def spread(value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    """One number per spatial axis."""
    return tuple(value) if isinstance(value, (list, tuple)) else (int(value),) * rank


def window(call: Call, x: int, kernel: np.ndarray) -> Window:
    """Where the taps of a kernel lie on an input."""
    size, config = call.shape(x)[:-1], call.config
    rank = len(size)
    return Window.of(
        size,
        kernel.shape[:rank],
        spread(config.get("strides", 1), rank),
        config.get("padding", "valid"),
        spread(config.get("dilation_rate", 1), rank),
    )


class Convolution(Filters):
    """Filters are units; with groups, whatever meets in one group goes together."""

    kernels = ("kernel",)
    bias = "bias"

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        known_weights(layer, "kernel", "bias")
        ids = channels_in(graph, node, inputs[0])
        rank = layer.weights["kernel"].ndim
        groups = layer.config.get("groups", 1)
        role = PRODUCES if groups == 1 else CARRIES
        filters = new_units(layer, tracing, "kernel", -1, role)
        if groups == 1:
            tracing.use(layer.name, "kernel", rank - 2, CONSUMES, ids)
        else:
            members = np.concatenate([ids.reshape(groups, -1), filters.reshape(groups, -1)], axis=1)
            tracing.unite(members[:, :1], members)
        return channels_out(graph, node, filters)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        filters = lengths["kernel", layer.weights["kernel"].ndim - 1]
        groups = layer.config.get("groups", 1)
        per_group = layer.weights["kernel"].shape[-1] // groups
        return {"filters": filters, "groups": filters // per_group if groups > 1 else 1}

    def rescaled(
        self, layer: Layer, inputs: np.ndarray, outputs: np.ndarray
    ) -> Mapping[str, np.ndarray] | None:
        plain = layer.config.get("groups", 1) == 1
        return between(layer, "kernel", inputs, outputs) if plain else None

    def constant(self, layer: Layer, inputs: np.ndarray) -> np.ndarray | None:
        """With padding the border gets less of it."""
        kernel, config = layer.weights["kernel"], layer.config
        padded = config.get("padding", "valid") != "valid" and max(kernel.shape[:-2]) > 1
        if padded or config.get("groups", 1) != 1:
            return None
        return np.asarray(inputs @ kernel.sum(tuple(range(kernel.ndim - 2))))

    def lower(self, call: Call) -> int:
        """As matrix products where the kernel is 1x1."""
        (x,) = call.inputs
        kernel, bias = call.kernel("kernel"), call.weight("bias")
        taps, groups = window(call, x, kernel), int(call.config.get("groups", 1))
        if set(taps.kernel) == set(taps.strides) == {1} and groups == 1:
            return call.emit(MatMul(call.shape(x), kernel.reshape(kernel.shape[-2:]), bias), x)
        return call.emit(convolution.Convolution(taps, kernel, bias, groups), x)

    def linear(self, layer: Layer) -> LinearView | None:
        config, rank = layer.config, layer.weights["kernel"].ndim - 2
        if rank > 2 or config.get("groups", 1) != 1:
            return None
        size = layer.weights["kernel"].shape[:rank]
        strides, dilation = (
            spread(config.get(key, 1), rank) for key in ("strides", "dilation_rate")
        )
        padding = config.get("padding", "valid")
        return LinearView("kernel", lambda x: patches(x, size, strides, padding, dilation))


class Depthwise(Filters):
    """Each channel has filters of its own, which go with it."""

    kernels = ("depthwise_kernel",)
    weight_names: ClassVar[Mapping[str, str]] = {"kernel": "depthwise_kernel"}

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
        protect_mixed(layer, channels, tracing)
        return channels_out(graph, node, channels)

    def rescaled(
        self, layer: Layer, inputs: np.ndarray, outputs: np.ndarray
    ) -> Mapping[str, np.ndarray] | None:
        kernel = layer.weights["depthwise_kernel"]
        changed = {
            "depthwise_kernel": kernel * outputs.reshape(kernel.shape[-2:]) / inputs[:, None]
        }
        if "bias" in layer.weights:
            changed["bias"] = layer.weights["bias"] * outputs
        return changed

    def lower(self, call: Call) -> int:
        return _depthwise(call, call.weight("bias"))

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        layer = graph.layer_of(node)
        return _channelwise(layer, inputs[0]).scaled(1.0, layer.weights.get("bias", 0.0))


def _depthwise(call: Call, bias: np.ndarray | None) -> int:
    """One small convolution per channel."""
    (x,) = call.inputs
    kernel = call.kernel("depthwise_kernel")
    taps = window(call, x, kernel)
    flat = kernel.reshape(*kernel.shape[:-2], 1, -1)
    return call.emit(convolution.Convolution(taps, flat, bias, kernel.shape[-2]), x)


def _channelwise(layer: Layer, inner: Gaussian) -> Gaussian:
    """Moments behind the filters that each channel has of its own."""
    kernel = layer.weights["depthwise_kernel"].astype(float)
    taps = kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1])
    copies = kernel.shape[-1]
    between = np.repeat(np.repeat(inner.covariance, copies, 0), copies, 1)
    summed = taps.sum(0)
    factors = (1 - NEIGHBOURS) * taps.T @ taps + NEIGHBOURS * np.outer(summed, summed)
    return Gaussian(np.repeat(inner.mean, copies) * summed, factors * between)


class Separable(Filters):
    """A depthwise convolution and the pointwise one that consumes it."""

    kernels = ("depthwise_kernel", "pointwise_kernel")
    bias = "bias"

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        depthwise, pointwise = (layer.weights[name] for name in self.kernels)
        ids = channels_in(graph, node, inputs[0])
        filters = new_units(layer, tracing, "pointwise_kernel", -1)
        tracing.use(layer.name, "depthwise_kernel", depthwise.ndim - 2, CARRIES, ids)
        channels = np.repeat(ids, depthwise.shape[-1])
        tracing.use(layer.name, "pointwise_kernel", pointwise.ndim - 2, CONSUMES, channels)
        return channels_out(graph, node, filters)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"filters": lengths["pointwise_kernel", layer.weights["pointwise_kernel"].ndim - 1]}

    def lower(self, call: Call) -> int:
        place = _depthwise(call, None)
        kernel = call.kernel("pointwise_kernel")
        matrix = kernel.reshape(kernel.shape[-2:])
        return call.emit(MatMul(call.shape(place), matrix, call.weight("bias")), place)

    def linear(self, layer: Layer) -> LinearView | None:
        """The pointwise part of it; over two axes of space only."""
        kernel, config = layer.weights["depthwise_kernel"], layer.config
        if kernel.ndim != 4:
            return None

        def rows(x: Any) -> Any:
            strides = [1, *spread(config["strides"], 2), 1]
            dilations = list(spread(config["dilation_rate"], 2))
            padding = config["padding"].upper()
            convolve = backends.tensorflow().nn.depthwise_conv2d
            return positions(convolve(x, kernel, strides, padding, dilations=dilations))

        return LinearView(
            "pointwise_kernel", rows, moments=lambda inner: _channelwise(layer, inner)
        )


class Transposed(LayerType):
    """Like a convolution, with the kernel's last two axes exchanged."""

    kernels = ("kernel",)
    activation = "activation"
    bias = "bias"

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        rank = layer.weights["kernel"].ndim
        ids = channels_in(graph, node, inputs[0])
        filters = new_units(layer, tracing, "kernel", -2)
        tracing.use(layer.name, "kernel", rank - 1, CONSUMES, ids)
        return channels_out(graph, node, filters)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"filters": lengths["kernel", layer.weights["kernel"].ndim - 2]}

    def positions(self, graph: Graph, node: Node) -> int:
        return places(graph.layer_of(node), graph.shape(node.inputs[0]))

    def lower(self, call: Call) -> int:
        """The transpose of the convolution that would bring the output back to the input."""
        (x,) = call.inputs
        kernel, config = call.kernel("kernel"), call.config
        rank, size, out = kernel.ndim - 2, call.shape(x)[:-1], call.out_shape[:-1]
        strides, dilation = (spread(config.get(k, 1), rank) for k in ("strides", "dilation_rate"))
        before = []
        for n, o, k, s, d in zip(size, out, kernel.shape[:rank], strides, dilation, strict=True):
            total = max((n - 1) * s + (k - 1) * d + 1 - o, 0)
            before.append(total // 2 if config.get("padding") == "same" else 0)
        taps = Window(out, kernel.shape[:rank], strides, dilation, tuple(before), size)
        primitive = convolution.TransposedConvolution(
            convolution.Convolution(taps, kernel), call.weight("bias")
        )
        return call.emit(primitive, x)


TYPES: dict[str, LayerType] = {
    **{f"Conv{n}D": Convolution() for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": Depthwise() for n in (1, 2)},
    **{f"SeparableConv{n}D": Separable() for n in (1, 2)},
    **{f"Conv{n}DTranspose": Transposed() for n in (1, 2, 3)},
}
