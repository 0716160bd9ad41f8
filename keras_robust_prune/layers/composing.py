"""What several layer types write into a program alike: affine maps, moves, sums, products, extrema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_robust_prune.layers.calls import Call
from keras_robust_prune.primitives.combining import Concatenation, Largest, Product, Softmax, Sum
from keras_robust_prune.primitives.linear import Reindex, Scale


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


def softmax(call: Call, x: int, axis: Any = -1) -> int:
    """Softmax along one axis, counted with the batch axis as Keras does."""
    axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
    if not isinstance(axis, int):
        raise call.refuse("is a softmax over several axes, which has no bounds.")
    rank = len(call.shape(x))
    return call.emit(Softmax(rank + axis if axis < 0 else axis - 1), x)


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


def concatenate(call: Call, axis: int) -> int:
    """Tensors behind one another, along an axis counted with the batch axis."""
    shapes = _shapes(call, call.inputs)
    axis = len(shapes[0]) + axis if axis < 0 else axis - 1
    shape = list(shapes[0])
    shape[axis] = sum(item[axis] for item in shapes)
    return call.emit(Concatenation(axis, shapes), *call.inputs, shape=tuple(shape))


def move(call: Call, x: int, function: Callable[[np.ndarray], np.ndarray]) -> int:
    """Whatever only moves numbers: `function` applied to their places `(1, *shape)`."""
    shape = call.shape(x)
    indices = function(np.arange(int(np.prod(shape))).reshape(1, *shape))[0]
    return call.emit(Reindex(shape, np.ascontiguousarray(indices)), x)


def _shapes(call: Call, inputs: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(call.shape(place) for place in inputs)
