"""Dense layers, normalisation, activations, merging and moving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import MASK
from keras_robust_prune.layers.lowering.base import Call, Lowering
from keras_robust_prune.layers.padding import normalised_axes, num_zeros
from keras_robust_prune.primitives import activations
from keras_robust_prune.primitives.base import MatMul, Reindex, Scale
from keras_robust_prune.primitives.combining import (
    Concatenation,
    Largest,
    Product,
    RootMeanSquare,
    Softmax,
    Sum,
)
from keras_robust_prune.primitives.elementwise import Elementwise


def dense(call: Call) -> int:
    """Dense, and EinsumDense where it is one."""
    (x,) = call.inputs
    kernel = call.weight("kernel")
    if kernel is None:
        raise call.refuse("holds no 'kernel'.")
    if call.layer.kind == "EinsumDense":
        source, _, target = call.config["equation"].replace("...", "").partition("->")
        left, _, right = source.partition(",")
        if len(right) != 2 or left[-1] != right[0] or target != left[:-1] + right[1]:
            raise call.refuse(
                f"has the equation '{call.config['equation']}'; only products over the last axis have bounds."
            )
    return call.emit(MatMul(call.shape(x), kernel, call.weight("bias")), x)


def batch_normalization(call: Call) -> int:
    """Gamma (x - mean) / sqrt(variance + epsilon) + beta, with stored statistics."""
    (x,) = call.inputs
    weights = {name: np.asarray(v, np.float64) for name, v in call.layer.weights.items()}
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    factor = weights.get("gamma", 1.0) / np.sqrt(variance + call.config["epsilon"])
    beta = weights.get("beta", np.zeros_like(mean))
    return affine(call, x, factor, beta, -mean * factor)


def affine(call: Call, x: int, factor: Any, *bias: Any) -> int:
    """X * factor + the sum of `bias`, per channel or broadcast."""
    shape = call.shape(x)
    axis = call.config.get("axis", -1)
    axis = list(axis) if isinstance(axis, (list, tuple)) else [axis]

    def spread(value: Any) -> np.ndarray:
        value = np.asarray(value, np.float64)
        if value.ndim == 1 and len(axis) == 1 and axis[0] not in (-1, None, len(shape)):
            where = axis[0] - 1 if axis[0] > 0 else axis[0]
            wide = [1] * len(shape)
            wide[where] = len(value)
            value = value.reshape(wide)
        if value.ndim > len(shape):
            value = value.reshape(value.shape[value.ndim - len(shape) :])
        return np.broadcast_to(value, shape) if value.ndim > 1 else value

    parts = [spread(item) for item in bias]
    total = sum(parts) if parts else None
    size = sum(np.abs(item) for item in parts) if parts else None
    scale = Scale(
        shape,
        call.array(spread(factor)),
        None if total is None else call.array(total),
        None if size is None else call.array(size),
    )
    return call.emit(scale, x)


def normalization(call: Call) -> int:
    """(x - mean) / max(sqrt(variance), 1e-7) with fixed statistics."""
    (x,) = call.inputs
    weights = call.layer.weights
    mean = weights.get("mean", call.config.get("mean"))
    variance = weights.get("variance", call.config.get("variance"))
    if mean is None or variance is None:
        raise call.refuse("has no statistics yet. Call its adapt() first.")
    mean = np.asarray(mean, np.float64)
    deviation = np.maximum(np.sqrt(np.asarray(variance, np.float64)), 1e-7)
    if call.config.get("invert"):
        return affine(call, x, deviation, mean)
    return affine(call, x, 1 / deviation, -mean / deviation)


def over_units(call: Call) -> int:
    """LayerNormalization and RMSNormalization of the last axis, with masked units and zeros behind its input."""
    (x,) = call.inputs
    shape, weights = call.shape(x), call.layer.weights
    axes = normalised_axes(call.layer, len(shape))
    if axes != (len(shape) - 1,) or call.config.get("rms_scaling"):
        raise call.refuse("has no bounds: only plain normalisation of the last axis has.")
    zeros, length = num_zeros(call.graph, call.node), shape[-1]
    seen = np.eye(length, length + zeros) * weights.get(MASK, np.ones(length))[:, None]
    if call.layer.kind == "LayerNormalization":
        seen = seen - seen.sum(1, keepdims=True) / (length + zeros)
    place = call.emit(MatMul(shape, call.array(seen), None), x)
    place = call.emit(RootMeanSquare(float(call.config["epsilon"])), place)
    place = move(call, place, lambda places: places[..., :length]) if zeros else place
    gain = weights.get("gamma", weights.get("scale", np.ones(length)))
    return affine(call, place, gain[:length], weights.get("beta", np.zeros(length))[:length])


def rescaling(call: Call) -> int:
    """X * scale + offset."""
    (x,) = call.inputs
    return affine(call, x, call.config["scale"], call.config.get("offset", 0.0))


def identity(call: Call) -> int:
    """Layers that do nothing outside of training."""
    return call.inputs[0]


def elementwise(call: Call, x: int, primitive: Elementwise) -> int:
    """An activation; the identity is left out."""
    return x if primitive.name == "linear" else call.emit(primitive, x)


def softmax(call: Call, x: int, axis: Any = -1) -> int:
    """Softmax along one axis, counted with the batch axis as Keras does."""
    axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
    if not isinstance(axis, int):
        raise call.refuse("is a softmax over several axes, which has no bounds.")
    rank = len(call.shape(x))
    return call.emit(Softmax(rank + axis if axis < 0 else axis - 1), x)


def activation(call: Call) -> int:
    """An Activation layer, by name or as a serialised layer."""
    (x,) = call.inputs
    what = call.config.get("activation") or "linear"
    config: Any = {}
    if isinstance(what, dict):
        config = what.get("config") or {}
        if not isinstance(config, dict):
            what, config = config, {}
        elif what.get("class_name") in ACTIVATION_LAYERS:
            return elementwise(call, x, ACTIVATION_LAYERS[what["class_name"]](config, None))
        else:
            what = what.get("class_name")
    if what == "softmax":
        return softmax(call, x)
    keras = call.graph.keras
    primitive = activations.named(what, keras, config) if isinstance(what, str) else None
    if primitive is None:
        raise call.refuse(f"applies {what!r}, an activation without bounds.")
    return elementwise(call, x, primitive)


ACTIVATION_LAYERS: dict[str, Callable[[Any, Any], Elementwise]] = {
    "ReLU": lambda config, _: activations.relu(
        config.get("max_value"), config.get("negative_slope", 0), config.get("threshold", 0)
    ),
    "ThresholdedReLU": lambda config, _: activations.thresholded(0.0, None, float(config["theta"])),
    "LeakyReLU": lambda config, _: activations.leaky_relu(
        config.get("negative_slope", config.get("alpha", 0.3))
    ),
    "ELU": lambda config, _: activations.elu(config.get("alpha", 1.0)),
    "PReLU": lambda _, alpha: activations.leaky_relu(alpha, "prelu"),
}


def activation_layer(call: Call) -> int:
    """ReLU, LeakyReLU, PReLU, ELU, ThresholdedReLU as layers."""
    (x,) = call.inputs
    make = ACTIVATION_LAYERS[call.layer.kind]
    return elementwise(call, x, make(call.config, call.layer.weights.get("alpha")))


def softmax_layer(call: Call) -> int:
    """Softmax as a layer."""
    return softmax(call, call.inputs[0], call.config.get("axis", -1))


def _shapes(call: Call, inputs: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(call.shape(place) for place in inputs)


def add(call: Call, inputs: tuple[int, ...], signs: tuple[int, ...]) -> int:
    """A signed sum."""
    shapes = _shapes(call, inputs)
    shape = np.broadcast_shapes(*shapes)
    return call.emit(Sum(signs, shapes, shape), *inputs, shape=shape)


def multiply(call: Call, inputs: tuple[int, ...]) -> int:
    """A product, two factors at a time."""
    first = inputs[0]
    for second in inputs[1:]:
        shapes = call.shape(first), call.shape(second)
        shape = np.broadcast_shapes(*shapes)
        first = call.emit(Product(shapes, shape), first, second, shape=shape)
    return first


def broadcast(call: Call, place: int, shape: tuple[int, ...]) -> int:
    """A value repeated up to `shape`."""
    have = call.shape(place)
    if have == shape:
        return place
    indices = np.arange(int(np.prod(have))).reshape(have)
    return call.emit(Reindex(have, np.array(np.broadcast_to(indices, shape))), place)


def largest(call: Call, inputs: tuple[int, ...], sign: int) -> int:
    """Maximum (sign 1) or minimum (-1)."""
    shape = np.broadcast_shapes(*_shapes(call, inputs))
    one = call.array(sign)
    inputs = tuple(broadcast(call, place, shape) for place in inputs)
    if sign < 0:
        inputs = tuple(call.emit(Scale(shape, one), place) for place in inputs)
    place = call.emit(Largest(), *inputs)
    return place if sign > 0 else call.emit(Scale(shape, one), place)


def average(call: Call) -> int:
    """Mean of several tensors."""
    place = add(call, call.inputs, (1,) * len(call.inputs))
    return call.emit(Scale(call.shape(place), call.array(1 / len(call.inputs))), place)


def concatenate(call: Call) -> int:
    """Tensors behind one another."""
    shapes = _shapes(call, call.inputs)
    axis = int(call.config.get("axis", -1))
    axis = len(shapes[0]) + axis if axis < 0 else axis - 1
    shape = list(shapes[0])
    shape[axis] = sum(item[axis] for item in shapes)
    return call.emit(Concatenation(axis, shapes), *call.inputs, shape=tuple(shape))


def move(call: Call, x: int, function: Callable[[np.ndarray], np.ndarray]) -> int:
    """Whatever only moves numbers: `function` applied to their places `(1, *shape)`."""
    shape = call.shape(x)
    indices = function(np.arange(int(np.prod(shape))).reshape(1, *shape))[0]
    return call.emit(Reindex(shape, np.ascontiguousarray(indices)), x)


def reshape(call: Call) -> int:
    """Flatten and Reshape."""
    return move(call, call.inputs[0], lambda places: places.reshape(1, *call.out_shape))


def permute(call: Call) -> int:
    """Permute."""
    return move(call, call.inputs[0], lambda places: places.transpose(0, *call.config["dims"]))


def repeat(call: Call) -> int:
    """RepeatVector."""
    return move(
        call, call.inputs[0], lambda places: np.repeat(places[:, None], call.config["n"], axis=1)
    )


IDENTITIES = (
    ["Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise"]
    + ["GaussianDropout", "AlphaDropout", "ActivityRegularization", "Identity", "StochasticDepth"]
    + ["DropPath", "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation"]
)
LAYERS: dict[str, Lowering] = {
    **dict.fromkeys(IDENTITIES, identity),
    **dict.fromkeys(ACTIVATION_LAYERS, activation_layer),
    "Dense": dense,
    "EinsumDense": dense,
    "BatchNormalization": batch_normalization,
    "LayerNormalization": over_units,
    "LayerScale": lambda call: affine(call, call.inputs[0], call.weight("gamma")),
    "Normalization": normalization,
    "RMSNormalization": over_units,
    "Rescaling": rescaling,
    "Activation": activation,
    "Softmax": softmax_layer,
    "Add": lambda call: add(call, call.inputs, (1,) * len(call.inputs)),
    "Subtract": lambda call: add(call, call.inputs, (1, -1)),
    "Average": average,
    "Multiply": lambda call: multiply(call, call.inputs),
    "Maximum": lambda call: largest(call, call.inputs, 1),
    "Minimum": lambda call: largest(call, call.inputs, -1),
    "Concatenate": concatenate,
    "Flatten": reshape,
    "Reshape": reshape,
    "Permute": permute,
    "RepeatVector": repeat,
}
