"""The mean and the largest of what a window reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from keras_robust_prune.primitives.base import (
    Primitive,
    Region,
    Relaxation,
    Rounding,
    Tensor,
    offset,
)
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.linear import Linear
from keras_robust_prune.primitives.windows import Window


@dataclasses.dataclass(frozen=True, eq=False)
class AveragePool(Linear):
    """Mean over what a window reads; the border is not counted."""

    window: Window
    channels: int

    @property
    def in_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.window.size, self.channels)

    @property
    def out_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.window.out, self.channels)

    @property
    def terms(self) -> int:  # type: ignore[override]
        return int(np.prod(self.window.kernel))

    @property
    def absolute(self) -> AveragePool:
        return self

    @cached_property
    def counts(self) -> np.ndarray:
        """How many inputs each window reads, `(*out, 1)`."""
        return np.asarray(sum(self.window.read(np.ones((1, *self.window.size, 1)))))[0]

    def reads(self, region: Region) -> Region | None:
        return self.window.reads(region)

    def cropped(self, region: Region, read: Region) -> AveragePool:
        return dataclasses.replace(self, window=self.window.cropped(region, read))

    def difference(
        self, inputs: Sequence[Tensor], first: np.ndarray, second: np.ndarray, rounding: Rounding
    ) -> Interval | None:
        """The mean of differences."""
        d = of_what_is_read(self.window, self.channels, inputs[0], first, second)
        present = self.window.table >= 0
        share = (present / present.sum(axis=1, keepdims=True))[first // self.channels]
        share = share.astype(d.lower.dtype)
        error = rounding.error((share * d.magnitude).sum(axis=-1), present.shape[1] + 4)
        mean = Interval((d.lower * share).sum(axis=-1), (d.upper * share).sum(axis=-1))
        return mean.widen(error)

    def apply(self, x: np.ndarray) -> np.ndarray:
        total = np.zeros((len(x), *self.window.out, x.shape[-1]), x.dtype)
        for part in self.window.read(x):
            total += part
        return total / self.counts.astype(x.dtype)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        shared = y / self.counts.astype(y.dtype)
        return self.window.add_back((shared for _ in self.window.taps), y.shape[-1])


@dataclasses.dataclass(frozen=True, eq=False)
class MaxPool(Primitive):
    """Largest of what a window reads; the border is not counted."""

    window: Window
    follows = True

    def reads(self, region: Region) -> Region | None:
        return self.window.reads(region)

    def cropped(self, region: Region, read: Region) -> MaxPool:
        return MaxPool(self.window.cropped(region, read))

    def difference(
        self, inputs: Sequence[Tensor], first: np.ndarray, second: np.ndarray, rounding: Rounding
    ) -> Interval | None:
        """The hull of differences: the largest of a window cannot differ more than its entries."""
        d = of_what_is_read(self.window, inputs[0].box.shape[-1], inputs[0], first, second)
        return Interval(d.lower.min(axis=-1), d.upper.max(axis=-1))

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        parts = self.window.read(inputs[0], -np.inf)
        largest = np.array(next(parts))
        for part in parts:
            np.maximum(largest, part, out=largest)
        return largest

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        return Interval(self.forward(inputs[0].lower), self.forward(inputs[0].upper))

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        """The largest cannot move further than the one that moves most."""
        (d,) = deviations
        assert d is not None
        hull = Interval(-self.forward(-d.lower), self.forward(d.upper))
        return hull.intersect(super().deviation(deviations, inputs, rounding))

    def relax(self, inputs: Sequence[Interval], rounding: Rounding) -> Relaxation:
        lowers = np.stack(list(self.window.read(inputs[0].lower, -np.inf)))
        uppers = np.stack(list(self.window.read(inputs[0].upper, -np.inf)))
        return largest_lines(lowers, uppers, rounding)

    def backward(
        self, coefficients: np.ndarray, relaxation: Relaxation
    ) -> tuple[list[np.ndarray], np.ndarray]:
        positive, negative = np.maximum(coefficients, 0), np.minimum(coefficients, 0)
        boxes = max(len(coefficients), len(relaxation.lower_offset))
        parts = (
            (positive * low[:, None] + negative * high[:, None]).reshape(-1, *positive.shape[2:])
            for low, high in relaxation.slopes
        )
        passed = self.window.add_back(parts, coefficients.shape[-1])
        return [passed.reshape(boxes, -1, *passed.shape[1:])], offset(coefficients, relaxation)


def of_what_is_read(
    window: Window, channels: int, source: Tensor, first: np.ndarray, second: np.ndarray
) -> Interval:
    """Differences of what the windows of two numbers read, tap by tap, `(pairs, elements, taps)`."""
    table = window.table
    filled = np.where(table < 0, table.max(axis=1, keepdims=True), table)
    ends = []
    for elements in (first, second):
        positions, channel = filled[elements // channels], elements % channels
        ends.append((positions * channels + channel[..., None]).reshape(len(elements), -1))
    return source.difference(*ends).reshape(*first.shape, -1)


def largest_lines(lowers: np.ndarray, uppers: np.ndarray, rounding: Rounding) -> Relaxation:
    """Lines around the largest of several numbers.

    Below lies the number with the greatest lower end; above lies the same where no other can exceed it, else the
    constant greatest upper end. (Sloped planes above are tighter alone, but not behind a layer of ReLUs.)

    Args:
        lowers: lower ends, `(numbers, *shape)`, -inf for what is not there.
        uppers: upper ends.
        rounding: the precision.
    """
    leader = np.argmax(lowers, axis=0)
    chosen = np.arange(len(lowers)).reshape(-1, *[1] * leader.ndim) == leader
    others = np.where(chosen, -np.inf, uppers).max(axis=0)
    decided = others <= lowers.max(axis=0)
    top = uppers.max(axis=0)
    error = rounding.error(np.maximum(np.abs(top), np.abs(lowers.max(axis=0))), len(lowers) + 8)
    slopes = tuple(
        (item.astype(rounding.dtype), (item & decided).astype(rounding.dtype)) for item in chosen
    )
    return Relaxation(-error, np.where(decided, 0, top) + error, slopes)
