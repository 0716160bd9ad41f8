"""Normalisation: per channel, over groups of units, which go whole, or over all, where one that goes is a zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import MASK, Graph, Layer, Node
from keras_robust_prune.graph.tracing import CARRIES, CONSUMES, NORMALISES, Labels, Tracing
from keras_robust_prune.layers.answers import InputHint, Statistics
from keras_robust_prune.layers.base import (
    LayerType,
    Lengths,
    Unsupported,
    layer_type,
)
from keras_robust_prune.layers.calls import Call
from keras_robust_prune.layers.composing import affine, move
from keras_robust_prune.layers.padding import PADDED_RANKS, normalised_axes, num_zeros
from keras_robust_prune.primitives.combining import RootMeanSquare
from keras_robust_prune.primitives.gaussian import Gaussian
from keras_robust_prune.primitives.linear import MatMul


def carry_all(layer: Layer, labels: Labels, tracing: Tracing) -> None:
    """Note that every weight holds one entry per unit."""
    if any(value.shape != labels.ids.shape for value in layer.weights.values()):
        raise Unsupported("unknown_weights", "has weights that are not one number per unit")
    for weight in layer.weights:
        tracing.use(layer.name, weight, 0, CARRIES, labels.ids)


def along_units(graph: Graph, node: Node, labels: Labels) -> None:
    """Refuses a normalisation along another axis than the units'."""
    if normalised_axes(graph.layer_of(node), len(graph.shape(node.inputs[0]))) != (labels.axis,):
        raise Unsupported("other_axis", "normalises along another axis than the units'")


def usual_range(mean: Any, variance: Any, rank: int) -> InputHint | None:
    """Three deviations about a mean; pictures are stored from 0 to 1 or from 0 to 255.

    Args:
        mean: of each feature in training, with the axes of one input.
        variance: likewise.
        rank: how many axes one input has.
    """
    mean, deviation = np.asarray(mean, float), np.sqrt(np.maximum(variance, 0)).astype(float)
    if not mean.any() and (deviation == 1).all():  # nothing was learnt
        return None
    if rank == 3 and (mean > 0).all():
        for most in (1.0, 255.0):
            if (mean < most).all() and (deviation < most).all():
                return InputHint(0.0, most, "stores means of such pictures")
    lower, upper = mean - 3 * deviation, mean + 3 * deviation
    return InputHint(lower, np.maximum(upper, lower + 1e-6), "stores such means and deviations")


class BatchNormalization(LayerType):
    """Every weight holds one entry per unit."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        along_units(graph, node, labels)
        carry_all(layer, labels, tracing)
        return (labels,)

    def lower(self, call: Call) -> int:
        """Gamma (x - mean) / sqrt(variance + epsilon) + beta, with stored statistics."""
        (x,) = call.inputs
        weights = {name: np.asarray(v, np.float64) for name, v in call.layer.weights.items()}
        mean, variance = weights["moving_mean"], weights["moving_variance"]
        factor = weights.get("gamma", 1.0) / np.sqrt(variance + call.config["epsilon"])
        beta = weights.get("beta", np.zeros_like(mean))
        return affine(call, x, factor, beta, -mean * factor)

    def statistics(self, layer: Layer) -> Statistics | None:
        has = "moving_mean" in layer.weights
        return Statistics("moving_mean", "moving_variance") if has else None

    def scale_and_shift(self, layer: Layer) -> tuple[np.ndarray, np.ndarray] | None:
        weights = layer.weights
        if "moving_mean" not in weights:
            return None
        scale = 1.0 / np.sqrt(weights["moving_variance"] + np.float32(layer.config["epsilon"]))
        scale = scale * weights.get("gamma", np.float32(1.0))
        return scale, weights.get("beta", np.float32(0.0)) - weights["moving_mean"] * scale

    def rescaled(
        self, layer: Layer, inputs: np.ndarray, outputs: np.ndarray
    ) -> Mapping[str, np.ndarray] | None:
        """A factor of 1 is exactly 1 afterwards, so that a converter leaves it out."""
        if not {"gamma", "beta", "moving_mean"} <= set(layer.weights):
            return None
        weights = {name: value.astype(float) for name, value in layer.weights.items()}
        epsilon = layer.config["epsilon"]
        factor = weights["gamma"] / np.sqrt(weights["moving_variance"] + epsilon)
        shift = weights["beta"] - weights["moving_mean"] * factor
        gamma = factor * outputs / inputs
        whole = np.abs(np.abs(gamma) - 1) < 1e-6
        return {
            "gamma": np.where(whole, np.sign(gamma), gamma),
            "beta": shift * outputs,
            "moving_mean": np.zeros_like(shift),
            "moving_variance": np.full_like(shift, np.float32(1) - np.float32(epsilon)),
        }

    def made_for(self, layer: Layer, rank: int) -> InputHint | None:
        found = self.statistics(layer)
        if found is None:
            return None
        mean, variance = layer.weights[found.mean], layer.weights[found.variance]
        axes = normalised_axes(layer, rank)
        along = [length if k in axes else 1 for k, length in enumerate([len(mean)] * rank)]
        return usual_range(mean.reshape(along), variance.reshape(along), rank)

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        """Mean and variance are what it stores that they are; of the input only the correlations count."""
        layer, (inner,) = graph.layer_of(node), inputs
        last = normalised_axes(layer, len(graph.shape(node.inputs[0])))
        if self.statistics(layer) is None or last != (len(graph.shape(node.inputs[0])) - 1,):
            return None
        gamma = layer.weights.get("gamma", np.ones(len(inner.mean)))
        beta = layer.weights.get("beta", np.zeros(len(inner.mean)))
        deviation = np.sqrt(np.maximum(np.diag(inner.covariance), 1e-12))
        correlation = inner.covariance / np.outer(deviation, deviation)
        return Gaussian(beta.astype(float), correlation * np.outer(gamma, gamma))


class LayerNormalization(LayerType):
    """Its statistics run over all units: one that goes stays in them as a zero.

    So it reads the units like a layer that mixes them, through a mask, while each has an output of its own; its
    weights keep an entry for every zero.
    """

    over_units = True
    centres = True

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
            raise Unsupported(
                "mixes_units", "normalises over all units in a way that cannot be padded"
            )
        if any(layer_type(other).marks_steps(other) for other in graph.layers.values()):
            raise Unsupported("mask", "normalises over all units, and padding would lose a mask")
        self.note(layer, axes, labels, tracing)
        tracing.use(layer.name, MASK, 0, CONSUMES, labels.ids)
        return (labels,)

    def note(self, layer: Layer, axes: tuple[int, ...], labels: Labels, tracing: Tracing) -> None:
        """Note the units' entries in its weights."""
        weights = [name for name in layer.weights if name != MASK]
        if not weights:
            reason = "normalises over all units, and no weights of its tell how many there were"
            raise Unsupported("no_weights", reason)
        place = axes.index(labels.axis)
        for name in weights:
            shape = layer.weights[name].shape
            if len(shape) != len(axes) or shape[place] < len(labels.ids):
                raise Unsupported("unknown_weights", "has weights that are not one number per unit")
            tracing.use(layer.name, name, place, NORMALISES, labels.ids)

    def lower(self, call: Call) -> int:
        """With masked units and zeros behind its input; over the last axis only."""
        (x,) = call.inputs
        shape, weights = call.shape(x), call.layer.weights
        axes = normalised_axes(call.layer, len(shape))
        if axes != (len(shape) - 1,) or call.config.get("rms_scaling"):
            raise call.refuse("has no bounds: only plain normalisation of the last axis has.")
        zeros, length = num_zeros(call.graph, call.node), shape[-1]
        seen = np.eye(length, length + zeros) * weights.get(MASK, np.ones(length))[:, None]
        if self.centres:
            seen = seen - seen.sum(1, keepdims=True) / (length + zeros)
        place = call.emit(MatMul(shape, call.array(seen), None), x)
        place = call.emit(RootMeanSquare(float(call.config["epsilon"])), place)
        place = move(call, place, lambda numbers: numbers[..., :length]) if zeros else place
        gain = weights.get("gamma", weights.get("scale", np.ones(length)))
        return affine(call, place, gain[:length], weights.get("beta", np.zeros(length))[:length])


class RMSNormalization(LayerNormalization):
    """The same without centring."""

    centres = False


class UnitNormalization(LayerNormalization):
    """To length one; it has no weights, and zeros do not change a length."""

    def note(self, layer: Layer, axes: tuple[int, ...], labels: Labels, tracing: Tracing) -> None:
        """It has none."""

    def lower(self, call: Call) -> int:
        raise call.refuse("is a layer type without bounds.")


class GroupNormalization(LayerType):
    """Whole groups can go: the statistics of the others do not see them."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        along_units(graph, node, labels)
        groups = layer.config["groups"]
        if not layer.weights and groups != -1:
            raise Unsupported("no_weights", "has no weights that tell its width")
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


class PerFeature(LayerType):
    """An affine map with fixed numbers: `(x * factor) + constant`, which the moments follow on the last axis."""

    def lower(self, call: Call) -> int:
        found = self.scale_and_shift(call.layer)
        if found is None:
            raise call.refuse("has no statistics yet. Call its adapt() first.")
        return affine(call, call.inputs[0], *found)

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        found, (inner,) = self.scale_and_shift(graph.layer_of(node)), inputs
        if found is None:
            return None
        factor, constant = (np.asarray(part, float) for part in found)
        if any(part.size not in (1, len(inner.mean)) for part in (factor, constant)):
            return None
        return inner.scaled(factor.reshape(-1), constant.reshape(-1))


class Normalization(PerFeature):
    """Fixed statistics per feature; they stay, and so do the features."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        (labels,) = inputs
        tracing.protect(labels.ids, "statistics", node.layer, "normalises fixed features")
        return (labels,)

    def made_for(self, layer: Layer, rank: int) -> InputHint | None:
        found = self.scale_and_shift(layer)
        if found is None or layer.config.get("invert"):
            return None
        scale, shift = found
        return usual_range(-shift / scale, 1 / scale**2, rank)

    def scale_and_shift(self, layer: Layer) -> tuple[Any, Any] | None:
        """(x - mean) / max(sqrt(variance), 1e-7), or the inverse."""
        mean = layer.weights.get("mean", layer.config.get("mean"))
        variance = layer.weights.get("variance", layer.config.get("variance"))
        if mean is None or variance is None:
            return None
        mean = np.asarray(mean, np.float64)
        deviation = np.maximum(np.sqrt(np.asarray(variance, np.float64)), 1e-7)
        if layer.config.get("invert"):
            return deviation, mean
        return 1 / deviation, -mean / deviation


class Rescaling(PerFeature):
    """Passes units through a common scale; one per feature keeps the features."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        if any(np.size(layer.config.get(key, 0.0)) > 1 for key in ("scale", "offset")):
            tracing.protect(labels.ids, "statistics", layer.name, "rescales fixed features")
        return (labels,)

    def made_for(self, layer: Layer, rank: int) -> InputHint | None:
        """From 0, up to what becomes 1, or lies opposite of 0 around the middle."""
        scale, offset = (np.asarray(part, float) for part in self.scale_and_shift(layer))
        if not ((scale > 0) & (scale < 1)).all() or (offset > 0.5).any():
            return None
        upper = np.where(offset < 0, -2 * offset, 1.0) / scale
        whole = np.round(upper)
        upper = np.where(np.abs(upper - whole) < 1e-3 * upper, whole, upper)
        return InputHint(np.zeros_like(upper), upper, f"rescales by {scale.mean():.3g}")

    def scale_and_shift(self, layer: Layer) -> tuple[Any, Any]:
        """Scale and offset."""
        return layer.config["scale"], layer.config.get("offset", 0.0)


class LayerScale(PerFeature):
    """A gain per channel, as in ConvNeXt."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        carry_all(layer, labels, tracing)
        return (labels,)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return {"projection_dim": int(min(lengths.values()))}

    def scale_and_shift(self, layer: Layer) -> tuple[Any, Any] | None:
        """Its gain."""
        return layer.weights["gamma"], 0.0


TYPES: dict[str, LayerType] = {
    "BatchNormalization": BatchNormalization(),
    "SyncBatchNormalization": BatchNormalization(),
    "LayerNormalization": LayerNormalization(),
    "RMSNormalization": RMSNormalization(),
    "UnitNormalization": UnitNormalization(),
    "GroupNormalization": GroupNormalization(),
    "Normalization": Normalization(),
    "LayerScale": LayerScale(),
    "Rescaling": Rescaling(),
}
