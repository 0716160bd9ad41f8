"""Activations as layers: number by number, or mixing what lies along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Layer, Node, Shape
from keras_robust_prune.graph.tracing import CARRIES, PRODUCES, Labels, Tracing
from keras_robust_prune.layers import composing
from keras_robust_prune.layers.base import KERAS, LayerType, Unsupported, named
from keras_robust_prune.layers.calls import Call
from keras_robust_prune.layers.splitting import activation_argument
from keras_robust_prune.primitives import activations
from keras_robust_prune.primitives.elementwise import Elementwise
from keras_robust_prune.primitives.gaussian import Gaussian

# Keras's activations that mix what lies on the last axis.
MIXING = frozenset(["glu", "log_softmax", "softmax", "sparsemax"])
SOFTMAXES = ("softmax", "log_softmax")


def mixes(activation: Any) -> tuple[str, str] | None:
    """Why units that pass an activation of the last axis must stay: a code and a reason, or None."""
    if activation is None or (isinstance(activation, str) and activation in activations.NAMES):
        return None
    if isinstance(activation, str) and activation in MIXING:
        return "mixes_units", f"applies {activation} over all units together"
    if callable(activation) and _goes_number_by_number(activation):
        return None
    return "own_activation", (
        "applies an activation that is not Keras's own and may mix units: make it a layer and "
        "describe that with krp.register_layer"
    )


def _goes_number_by_number(function: Any) -> bool:
    """Whether a function gives for some columns of a random matrix what it gives for them among others."""
    x = np.random.default_rng(0).normal(size=(5, 7)).astype("float32")
    try:
        whole = np.asarray(function(backends.tensorflow().constant(x)))
        parts = [np.asarray(function(backends.tensorflow().constant(x[:, a:b]))) for a, b in SPANS]
    except Exception:
        return False
    same = [part.shape == whole[:, a:b].shape for part, (a, b) in zip(parts, SPANS, strict=True)]
    return all(same) and all(
        np.allclose(part, whole[:, a:b], rtol=1e-5, atol=1e-6)
        for part, (a, b) in zip(parts, SPANS, strict=True)
    )


# Columns that a function of the user's is tried on: one each, and some together.
SPANS = (*((k, k + 1) for k in range(7)), (0, 4), (2, 7))


def protect_mixed(layer: Layer, ids: np.ndarray, tracing: Tracing) -> None:
    """The units of a layer stay if its own activation mixes them."""
    found = mixes(activation_argument(layer))
    if found is not None:
        tracing.protect(ids, found[0], layer.name, found[1])


def new_units(
    layer: Layer, tracing: Tracing, kernel: str, axis: int, role: str = PRODUCES
) -> np.ndarray:
    """The ids of units that a layer makes along an axis of its kernel; bias and activation go with them."""
    units = tracing.fresh(layer.name, layer.weights[kernel].shape[axis])
    tracing.use(layer.name, kernel, axis % layer.weights[kernel].ndim, role, units)
    if "bias" in layer.weights:
        tracing.use(layer.name, "bias", 0, role, units)
    protect_mixed(layer, units, tracing)
    return units


def is_row(shape: Shape) -> bool:
    """Whether an example is one row of classes, so that its softmax runs over all of it."""
    return sum(size != 1 for size in shape) <= 1


class NumberByNumber(LayerType):
    """Applies one function to every number; what it does follows from that function."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        return tuple(inputs[:1])

    def lower(self, call: Call) -> int:
        function = self.function(call.layer, call.graph.keras)
        if function is None:
            raise call.refuse("applies a function without bounds.")
        return call.apply(function, call.inputs[0])

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        function = self.function(graph.layer_of(node), graph.keras)
        known = function is not None and function.uniform
        return inputs[0].activated(function.forward) if function and known else None

    def homogeneous_to(self, layer: Layer, keras: str) -> float:
        function = self.function(layer, keras)
        return 0.0 if function is None else function.homogeneous_to

    def closing(self, graph: Graph, node: Node) -> str | None:
        function = self.function(graph.layer_of(node), graph.keras)
        return function.name if function is not None and function.increasing else None


class ReLU(NumberByNumber):
    """With a greatest value, a slope below and a threshold."""

    def function(self, layer: Layer, keras: str) -> Elementwise:
        config = layer.config
        slope, threshold = config.get("negative_slope", 0), config.get("threshold", 0)
        return activations.relu(config.get("max_value"), slope, threshold)


class ThresholdedReLU(NumberByNumber):
    """X above theta, 0 below."""

    def function(self, layer: Layer, keras: str) -> Elementwise:
        return activations.thresholded(0.0, None, float(layer.config["theta"]))


class LeakyReLU(NumberByNumber):
    """A slope below 0."""

    def function(self, layer: Layer, keras: str) -> Elementwise:
        config = layer.config
        return activations.leaky_relu(config.get("negative_slope", config.get("alpha", 0.3)))


class ELU(NumberByNumber):
    """An exponential below 0."""

    def function(self, layer: Layer, keras: str) -> Elementwise:
        return activations.elu(layer.config.get("alpha", 1.0))


class PReLU(NumberByNumber):
    """Slopes go with their units where they are not shared among them."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        if layer.weights["alpha"].shape[labels.axis] == len(labels.ids):
            tracing.use(layer.name, "alpha", labels.axis, CARRIES, labels.ids)
        return (labels,)

    def function(self, layer: Layer, keras: str) -> Elementwise:
        return activations.leaky_relu(layer.weights["alpha"], "prelu")

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        alpha = graph.layer_of(node).weights["alpha"]
        if alpha.size != alpha.shape[-1]:
            return None
        slope = alpha.reshape(-1, 1).astype(float)
        return inputs[0].activated(lambda z: np.where(z > 0, z, slope * z))


class Activation(NumberByNumber):
    """By name or as a serialised layer; softmax and its kin mix what lies on the last axis."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        found = mixes(graph.layer_of(node).config.get("activation"))
        last = inputs[0].axis == len(graph.shape(node.inputs[0])) - 1
        if found is not None and (last or found[0] == "own_activation"):
            raise Unsupported(*found)
        return tuple(inputs[:1])

    def function(self, layer: Layer, keras: str) -> Elementwise | None:
        what = layer.config.get("activation") or "linear"
        name, config = _spelled(what)
        if isinstance(what, Mapping) and name in KERAS:
            return named(name).function(Layer(layer.name, name, config), keras)
        return activations.named(name, keras, config)

    def lower(self, call: Call) -> int:
        what = call.config.get("activation")
        if _spelled(what)[0] == "softmax":
            return composing.softmax(call, call.inputs[0])
        if self.function(call.layer, call.graph.keras) is None:
            raise call.refuse(f"applies {what!r}, an activation without bounds.")
        return super().lower(call)

    def gives_probabilities(self, layer: Layer) -> bool:
        return _spelled(layer.config.get("activation"))[0] in ("softmax", "sigmoid")

    def closing(self, graph: Graph, node: Node) -> str | None:
        layer = graph.layer_of(node)
        name, _ = _spelled(layer.config.get("activation") or "linear")
        if name in SOFTMAXES:
            return name if is_row(node.shapes[0]) else None
        return name if super().closing(graph, node) else None


def _spelled(what: Any) -> tuple[str, Mapping[str, Any]]:
    """Name and arguments of an activation given as a name, a function of Keras's or a serialised object; `""` else."""
    config: Any = {}
    if isinstance(what, Mapping):
        config = what.get("config") or {}
        what, config = (config, {}) if isinstance(config, str) else (what.get("class_name"), config)
    elif callable(what):
        own = str(getattr(what, "__module__", "")).partition(".")[0] in backends.NAMES
        what = getattr(what, "__name__", "") if own else ""
    return str(what or "").rsplit(">", 1)[-1], config


class Softmax(LayerType):
    """Mixes the units of the axis that it normalises."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = graph.layer_of(node).config.get("axis", -1)
        axes = axis if isinstance(axis, (list, tuple)) else [axis]
        rank = len(graph.shape(node.inputs[0]))
        if inputs[0].axis in {rank + a if a < 0 else a - 1 for a in axes}:
            raise Unsupported("mixes_units", "applies a softmax over all units together")
        return tuple(inputs[:1])

    def lower(self, call: Call) -> int:
        return composing.softmax(call, call.inputs[0], call.config.get("axis", -1))

    def gives_probabilities(self, layer: Layer) -> bool:
        return True

    def closing(self, graph: Graph, node: Node) -> str | None:
        last = graph.layer_of(node).config.get("axis", -1) in (-1, [-1], (-1,))
        return "softmax" if last and is_row(node.shapes[0]) else None


TYPES: dict[str, LayerType] = {
    "ReLU": ReLU(),
    "ThresholdedReLU": ThresholdedReLU(),
    "LeakyReLU": LeakyReLU(),
    "ELU": ELU(),
    "PReLU": PReLU(),
    "Activation": Activation(),
    "Softmax": Softmax(),
}
