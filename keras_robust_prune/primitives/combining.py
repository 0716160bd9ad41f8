"""Primitives that join tensors or mix the numbers of one: sum, product, largest of, concatenation, softmax, norm."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_robust_prune.primitives.base import (
    Primitive,
    Region,
    Relaxation,
    Rounding,
    Tensor,
    offset,
    shifted,
    sizes,
)
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.pooling import largest_lines


def unbroadcast(coefficients: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum `(boxes, rows, *wide)` over the axes along which `shape` was broadcast."""
    lead = coefficients.ndim - 2 - len(shape)
    if lead:
        coefficients = coefficients.sum(axis=tuple(range(2, 2 + lead)))
    axes = tuple(k + 2 for k, n in enumerate(shape) if n == 1 and coefficients.shape[k + 2] != 1)
    return coefficients.sum(axis=axes, keepdims=True) if axes else coefficients


def terms(shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> int:
    """How many numbers `unbroadcast` adds at most, and a few more."""
    return 8 + max(int(np.prod(shape)) // max(1, int(np.prod(item))) for item in shapes)


def aligned(x: np.ndarray, rank: int) -> np.ndarray:
    """`(batch, *shape)` with axes of length 1 put in front of a shorter shape."""
    missing = rank - (x.ndim - 1)
    return x.reshape(len(x), *[1] * missing, *x.shape[1:]) if missing > 0 else x


@dataclasses.dataclass(frozen=True, eq=False)
class Sum(Primitive):
    """Signed sum with broadcasting: Add and Subtract.

    Attributes:
        signs: 1 or -1 for every input.
        shapes: the inputs' shapes.
        shape: the output's.
    """

    signs: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]

    def bends(self, x: Interval) -> np.ndarray | None:
        return None

    def reads(self, region: Region) -> Region | None:
        return region if set(self.shapes) == {self.shape} else None

    def cropped(self, region: Region, read: Region) -> Sum:
        shape = (*sizes(region), self.shape[-1])
        return Sum(self.signs, (shape,) * len(self.shapes), shape)

    def difference(
        self, inputs: Sequence[Tensor], first: np.ndarray, second: np.ndarray, rounding: Rounding
    ) -> Interval | None:
        if set(self.shapes) != {self.shape}:
            return None
        total: Interval | None = None
        for sign, source in zip(self.signs, inputs, strict=True):
            part = source.difference(first, second)
            part = part if sign > 0 else -part
            total = part if total is None else total + part
        assert total is not None
        return total.widen(rounding.error(total.magnitude, 2 * len(inputs)))

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        total: np.ndarray | None = None
        for sign, x in zip(self.signs, inputs, strict=True):
            part = aligned(x, len(self.shape))
            part = part if sign > 0 else -part
            total = part if total is None else total + part
        assert total is not None
        return np.broadcast_to(total, (len(total), *self.shape))

    def _sum(self, parts: Sequence[Interval | None], rounding: Rounding) -> Interval:
        rank = len(self.shape)
        batch = max(len(x.lower) for x in parts if x is not None)
        dtype = next(x.lower.dtype for x in parts if x is not None)
        lower, upper, size = (np.zeros((batch, *self.shape), dtype) for _ in range(3))
        for sign, x in zip(self.signs, parts, strict=True):
            if x is not None:
                x = x if sign > 0 else -x
                lower += aligned(x.lower, rank)
                upper += aligned(x.upper, rank)
                size += aligned(x.magnitude, rank)
        error = rounding.error(size, len(parts))
        return Interval(lower - error, upper + error)

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        return self._sum(inputs, rounding)

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        return self._sum(deviations, rounding)

    def relax(self, inputs: Sequence[Interval], rounding: Rounding) -> Relaxation:
        size = sum(np.abs(aligned(x.magnitude, len(self.shape))) for x in inputs)
        whole = np.broadcast_to(size, (len(inputs[0].lower), *self.shape))
        error = rounding.error(whole, terms(self.shapes, self.shape))
        return Relaxation(-error, error)

    def backward(
        self, coefficients: np.ndarray, relaxation: Relaxation
    ) -> tuple[list[np.ndarray], np.ndarray]:
        passed = [
            unbroadcast(coefficients if sign > 0 else -coefficients, shape)
            for sign, shape in zip(self.signs, self.shapes, strict=True)
        ]
        return passed, offset(coefficients, relaxation)


@dataclasses.dataclass(frozen=True, eq=False)
class Product(Primitive):
    """x * y with broadcasting: Multiply, gates, squeeze-and-excite.

    Attributes:
        shapes: the two inputs' shapes.
        shape: the output's.
    """

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    shape: tuple[int, ...]

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        x, y = (aligned(item, len(self.shape)) for item in inputs)
        return np.broadcast_to(x * y, (max(len(x), len(y)), *self.shape))

    def _ends(self, item: Interval) -> Interval:
        """An input broadcast to the output's shape."""
        rank, batch = len(self.shape), len(item.lower)
        return Interval(
            np.broadcast_to(aligned(item.lower, rank), (batch, *self.shape)),
            np.broadcast_to(aligned(item.upper, rank), (batch, *self.shape)),
        )

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        x, y = (self._ends(item) for item in inputs)
        return x.scale(y).widen(rounding.error(x.magnitude * y.magnitude, 2))

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        """(x + dx)(y + dy) - x y = dx y + (x + dx) dy."""
        x, y = (self._ends(item) for item in inputs)
        dx, dy = (None if item is None else self._ends(item) for item in deviations)
        total: Interval | None = None
        if dx is not None:
            total = dx.scale(y).widen(rounding.error(dx.magnitude * y.magnitude, 2))
            x = (x + dx).widen(rounding.error(x.magnitude + dx.magnitude, 2))
        if dy is not None:
            part = dy.scale(x).widen(rounding.error(dy.magnitude * x.magnitude, 4))
            total = (
                part
                if total is None
                else (total + part).widen(rounding.error(total.magnitude + part.magnitude, 2))
            )
        assert total is not None
        return total

    def relax(self, inputs: Sequence[Interval], rounding: Rounding) -> Relaxation:
        """McCormick's planes; of the two on each side the one that is closer in the middle."""
        x, y = (self._ends(item) for item in inputs)
        middle = x.center, y.center
        sides = []
        for sign, corners in (
            (1, ((x.lower, y.lower), (x.upper, y.upper))),
            (-1, ((x.lower, y.upper), (x.upper, y.lower))),
        ):
            # the plane y0 * x + x0 * y - x0 * y0 touches x * y along x = x0 and y = y0
            (x0, y0), (x1, y1) = corners
            first = sign * (y0 * middle[0] + x0 * middle[1] - x0 * y0)
            second = sign * (y1 * middle[0] + x1 * middle[1] - x1 * y1)
            wins = second > first
            sides.append((np.where(wins, y1, y0), np.where(wins, x1, x0)))
        (low_x, low_y), (high_x, high_y) = sides
        size = 3 * x.magnitude * y.magnitude
        error = rounding.error(size, terms(self.shapes, self.shape))
        offsets = -low_x * low_y - error, -high_x * high_y + error
        return Relaxation(*offsets, ((low_x, high_x), (low_y, high_y)))

    def backward(
        self, coefficients: np.ndarray, relaxation: Relaxation
    ) -> tuple[list[np.ndarray], np.ndarray]:
        passed = [
            unbroadcast(coefficients * np.where(coefficients >= 0, low[:, None], high[:, None]), s)
            for (low, high), s in zip(relaxation.slopes, self.shapes, strict=True)
        ]
        return passed, offset(coefficients, relaxation)


@dataclasses.dataclass(frozen=True, eq=False)
class Largest(Primitive):
    """The largest of several tensors of one shape: Maximum; Minimum through two changes of sign."""

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return np.maximum.reduce(np.broadcast_arrays(*inputs))

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        return Interval(
            self.forward(*(x.lower for x in inputs)), self.forward(*(x.upper for x in inputs))
        )

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        zero = np.zeros_like(inputs[0].lower)
        lowers = np.broadcast_arrays(*(zero if d is None else d.lower for d in deviations))
        uppers = np.broadcast_arrays(*(zero if d is None else d.upper for d in deviations))
        hull = Interval(np.minimum.reduce(lowers), np.maximum.reduce(uppers))
        return hull.intersect(super().deviation(deviations, inputs, rounding))

    def relax(self, inputs: Sequence[Interval], rounding: Rounding) -> Relaxation:
        lowers, uppers = np.stack([x.lower for x in inputs]), np.stack([x.upper for x in inputs])
        return largest_lines(lowers, uppers, rounding)

    def backward(
        self, coefficients: np.ndarray, relaxation: Relaxation
    ) -> tuple[list[np.ndarray], np.ndarray]:
        passed = [
            coefficients * np.where(coefficients >= 0, low[:, None], high[:, None])
            for low, high in relaxation.slopes
        ]
        return passed, offset(coefficients, relaxation)


@dataclasses.dataclass(frozen=True, eq=False)
class Concatenation(Primitive):
    """Tensors behind one another.

    Attributes:
        axis: counted without the batch axis.
        shapes: the inputs' shapes.
    """

    axis: int
    shapes: tuple[tuple[int, ...], ...]

    def bends(self, x: Interval) -> np.ndarray | None:
        return None

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        batch = max(len(x) for x in inputs)
        parts = [np.broadcast_to(x, (batch, *x.shape[1:])) for x in inputs]
        return np.concatenate(parts, axis=self.axis + 1)

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        return Interval(
            self.forward(*(x.lower for x in inputs)), self.forward(*(x.upper for x in inputs))
        )

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        zeros = (np.zeros((1, *shape), rounding.dtype) for shape in self.shapes)
        filled = [
            Interval(zero, zero) if d is None else d
            for zero, d in zip(zeros, deviations, strict=True)
        ]
        return self.interval(filled, rounding)

    def relax(self, inputs: Sequence[Interval], rounding: Rounding) -> Relaxation:
        zero = np.zeros_like(self.forward(*(x.lower for x in inputs)))
        return Relaxation(zero, zero)

    def backward(
        self, coefficients: np.ndarray, relaxation: Relaxation
    ) -> tuple[list[np.ndarray], np.ndarray]:
        cuts = np.cumsum([shape[self.axis] for shape in self.shapes])[:-1]
        passed = list(np.split(coefficients, cuts, axis=self.axis + 2))
        return passed, np.zeros(coefficients.shape[:2], coefficients.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Softmax(Primitive):
    """exp(x_i) / sum_j exp(x_j) along one axis, counted without the batch axis."""

    axis: int
    closes = True
    follows = True

    def bends(self, x: Interval) -> np.ndarray | None:
        return None

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        axis = self.axis + 1
        powers = np.exp(inputs[0] - inputs[0].max(axis=axis, keepdims=True))
        return np.asarray(powers / powers.sum(axis=axis, keepdims=True))

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        """Exact: an output is least where its own input is least and all others greatest."""
        (x,) = inputs
        terms = 32 + x.shape[self.axis + 1]
        lower, upper = self._end(x.lower, x.upper), self._end(x.upper, x.lower)
        # an absolute error in x is a relative one in exp(x)
        error = rounding.error(
            np.maximum(1, x.magnitude.max(axis=self.axis + 1, keepdims=True)), terms
        )
        return Interval(
            np.clip(lower * (1 - 2 * error) - rounding.tiny, 0, 1),
            np.clip(upper * (1 + 4 * error) + rounding.tiny, 0, 1),
        )

    def _end(self, own: np.ndarray, others: np.ndarray) -> np.ndarray:
        """1 / (1 + the sum over j != i of exp(others_j - own_i))."""
        mine, rest = np.moveaxis(own, self.axis + 1, -1), np.moveaxis(others, self.axis + 1, -1)
        with np.errstate(over="ignore"):
            powers = np.exp(rest[..., None, :] - mine[..., :, None])
            diagonal = np.arange(mine.shape[-1])
            powers[..., diagonal, diagonal] = 0
            total = powers.sum(axis=-1)
        return np.moveaxis(1 / (1 + total), -1, self.axis + 1)

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        """By the mean value theorem: p_i (d_i - sum_j p_j d_j), where p_i (1 - p_i) <= 1/4."""
        (d,) = deviations
        assert d is not None
        axis = self.axis + 1
        lower = np.minimum(d.lower - d.upper.max(axis=axis, keepdims=True), 0) / 4
        upper = np.maximum(d.upper - d.lower.min(axis=axis, keepdims=True), 0) / 4
        mean_value = Interval(lower, upper).widen(rounding.error(d.magnitude, 8))
        return mean_value.intersect(super().deviation(deviations, inputs, rounding))


@dataclasses.dataclass(frozen=True, eq=False)
class RootMeanSquare(Primitive):
    """x_i / sqrt(mean_j x_j^2 + epsilon) along the last axis; what LayerNormalization does behind its centring."""

    epsilon: float

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return np.asarray(x / np.sqrt(np.square(x).mean(-1, keepdims=True) + self._epsilon(x)))

    def _epsilon(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.epsilon, x.dtype)

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        """Exact: an output rises with its own input, and is nearer to 0 where the others are greater."""
        (x,) = inputs
        count = x.shape[-1]
        least, most = (np.square(end) for end in (_nearest(x), x.magnitude))
        least, most = least * (1 - 4 * rounding.unit), most * (1 + 4 * rounding.unit)
        total = most.sum(-1, keepdims=True)
        slack = rounding.error(total, count)
        fewest = np.maximum(least.sum(-1, keepdims=True) - least - slack, 0)
        greatest = total - most + slack

        def end(own: np.ndarray, above: np.ndarray, below: np.ndarray) -> np.ndarray:
            others = np.where(own > 0, above, below)
            return np.asarray(own / np.sqrt((own * own + others) / count + self._epsilon(own)))

        lower, upper = end(x.lower, greatest, fewest), end(x.upper, fewest, greatest)
        error = rounding.error(np.maximum(np.abs(lower), np.abs(upper)), 2 * count + 16)
        return Interval(lower - error, upper + error)

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        """By the mean value theorem: (d_i - y_i mean_j y_j d_j) / s, where |mean_j y_j d_j| <= rms(d)."""
        (d,), (x,) = deviations, inputs
        assert d is not None
        moved = shifted(x, d, rounding)
        path = Interval(np.minimum(x.lower, moved.lower), np.maximum(x.upper, moved.upper))
        count, size = path.shape[-1], d.magnitude
        turned = self.interval([path], rounding).magnitude
        turned = turned * np.sqrt(np.square(size).mean(-1, keepdims=True))
        square = np.square(_nearest(path)).mean(-1, keepdims=True) + self._epsilon(size)
        scale = np.sqrt(square) * (1 - (count + 16) * rounding.unit)
        lower = np.minimum(d.lower - turned, 0) / scale
        upper = np.maximum(d.upper + turned, 0) / scale
        error = rounding.error((size + turned) / scale, count + 32)
        mean_value = Interval(lower - error, upper + error)
        return mean_value.intersect(super().deviation(deviations, inputs, rounding))


def _nearest(x: Interval) -> np.ndarray:
    """The least absolute value in every interval."""
    return np.maximum(np.maximum(x.lower, -x.upper), 0)
