"""Activations: each is a function with a derivative and the points between which that derivative is monotone.

From these three follow the range over an interval, the range of slopes, and the best parallel lines around the curve,
for convex, S-shaped and non-monotone functions alike: the extremes of f(x) - a x lie at the ends, at a break, or where
f'(x) = a, which bisection finds on every piece.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.primitives.base import (
    Primitive,
    Region,
    Relaxation,
    Rounding,
    Tensor,
    offset,
    shifted,
)
from keras_robust_prune.primitives.intervals import Interval

Function = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Elementwise(Primitive):
    """y = f(x), number by number.

    Attributes:
        name: Keras's name for f.
        function: f.
        derivative: f', either side's at a kink.
        breaks: ascending points (or arrays of them) between which f' is monotone.
        kinks: the slopes on the left and right of each break, where they differ; None elsewhere.
        increasing: f never falls.
        convex: f is convex, so what x + d adds is monotone in x.
        bent: f' varies between breaks; otherwise f is piecewise linear.
        ulps: accuracy of f in units of the last place of max(|f|, |x|, 1); 0 if exact.
        uniform: the same for every number (not so for PReLU).
        continuous: whether f does not jump.
    """

    name: str
    function: Function
    derivative: Function
    breaks: tuple[Any, ...] = ()
    kinks: tuple[tuple[Any, Any] | None, ...] = ()
    increasing: bool = True
    convex: bool = False
    bent: bool = True
    ulps: int = 16
    uniform: bool = True
    continuous: bool = True
    follows = True

    @property
    def closes(self) -> bool:  # type: ignore[override]
        return self.name in ("sigmoid", "linear")

    @property
    def homogeneous_to(self) -> float:
        """Up to which x f(c x) = c f(x) for every c > 0: infinite for ReLU, 6 for ReLU6, 0 for a sigmoid."""
        zero = np.zeros(1)
        straight = self.continuous and not self.bent and not self.function(zero).any()
        ends = [float(np.max(point)) for point in self.breaks if np.any(point)]
        return min(ends, default=math.inf) if straight and min(ends, default=0.0) >= 0 else 0.0

    @property
    def has_slopes(self) -> bool:  # type: ignore[override]
        return self.continuous

    def reads(self, region: Region) -> Region | None:
        return region if self.uniform else None

    def difference(
        self, inputs: Sequence[Tensor], first: np.ndarray, second: np.ndarray, rounding: Rounding
    ) -> Interval | None:
        """What its slopes make of the difference of its inputs."""
        if not self.uniform:
            return None
        d = inputs[0].difference(first, second)
        forth = self.deviation([d], [inputs[0].at(first)], rounding)
        back = self.deviation([-d], [inputs[0].at(second)], rounding)
        return forth.intersect(-back)

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self.function(inputs[0])).astype(inputs[0].dtype, copy=False)

    def error(self, x: np.ndarray, y: np.ndarray, rounding: Rounding) -> np.ndarray | float:
        """Bound on the rounding error of y = f(x)."""
        if not self.ulps:
            return 0.0
        return rounding.error(np.maximum(np.maximum(np.abs(x), np.abs(y)), 1), self.ulps)

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        (x,) = inputs
        if self.increasing:
            lower, upper = self.forward(x.lower), self.forward(x.upper)
        else:
            lower, upper = self.extremes(x, np.zeros_like(x.lower))
        error = self.error(x.magnitude, np.maximum(np.abs(lower), np.abs(upper)), rounding)
        return Interval(lower - error, upper + error)

    def stationary(self, x: Interval, slope: np.ndarray) -> list[np.ndarray]:
        """On each piece of each interval, where f' crosses `slope`, or an end of the piece."""
        points = [x.lower, *(np.clip(at, x.lower, x.upper) for at in self.breaks), x.upper]
        widest = float(np.max(x.width, initial=1.0))
        found = []
        for start, stop in itertools.pairwise(points):
            inner, outer = start + (stop - start) * 1e-6, stop - (stop - start) * 1e-6
            rising = self.derivative(outer) >= self.derivative(inner)
            for _ in range(28 + int(np.log2(widest))):
                middle = (start + stop) / 2
                left = (self.derivative(middle) >= slope) == rising
                start, stop = np.where(left, start, middle), np.where(left, middle, stop)
            found.append((start + stop) / 2)
        return found

    def extremes(self, x: Interval, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest f(x) - slope * x, up to rounding."""
        points = [x.lower, x.upper, *(np.clip(at, x.lower, x.upper) for at in self.breaks)]
        if self.bent:
            points += self.stationary(x, slope)
        if not self.continuous:
            number = x.lower.dtype.type
            points += [
                np.clip(np.nextafter(number(at), number(side)), x.lower, x.upper)
                for at in self.breaks
                for side in (-np.inf, np.inf)
            ]
        values = [self.forward(point) - slope * point for point in points]
        return np.minimum.reduce(values), np.maximum.reduce(values)

    def slopes(self, x: Interval) -> Interval:
        """Every slope that f has on each interval."""
        ends = [self.derivative(x.lower), self.derivative(x.upper)]
        least, most = np.minimum(*ends), np.maximum(*ends)
        kinks = self.kinks or (None,) * len(self.breaks)
        for at, kink in zip(self.breaks, kinks, strict=True):
            inside = (x.lower <= at) & (at <= x.upper)
            for slope in kink or (self.derivative(np.asarray(at, x.lower.dtype)),):
                least = np.where(inside, np.minimum(least, slope), least)
                most = np.where(inside, np.maximum(most, slope), most)
        return Interval(least.astype(x.lower.dtype), most.astype(x.lower.dtype))

    def increment(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        """f(x + d) - f(x)."""
        return self.forward(x + d) - self.forward(x)

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        """Slopes over all that x and x + d may be, within what the range of f allows.

        For a convex f the extremes are exact: what d adds grows with x.
        """
        (d,), (x,) = deviations, inputs
        assert d is not None
        if self.convex and self.increasing:
            lower = self.increment(np.where(d.lower >= 0, x.lower, x.upper), d.lower)
            upper = self.increment(np.where(d.upper >= 0, x.upper, x.lower), d.upper)
            size = np.maximum(np.abs(lower), np.abs(upper))
            if self.ulps:
                size = size + x.magnitude + d.magnitude + 1
            error = rounding.error(size, 4 * self.ulps + 2)
            return Interval(lower - error, upper + error)
        ends = super().deviation(deviations, inputs, rounding)
        if not self.continuous:
            return ends
        changed = x.hull(shifted(x, d, rounding))
        return scaled(d, self.slopes(changed), rounding, self.ulps).intersect(ends)

    def lines(
        self, x: Interval
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """`(slope, offset)` of a line below and of a line above the curve on each interval.

        Of the lines with the slope of the chord and those at the middle and the ends, the one that encloses the least
        area. For ReLU this is the choice called "adaptive".
        """
        middle, width = x.center, x.width
        rise = self.forward(x.upper) - self.forward(x.lower)
        point = width <= 0
        chord = np.where(point, self.derivative(middle), rise / np.where(point, 1, width))
        candidates = [chord, self.derivative(x.upper), self.derivative(x.lower)]
        if self.bent:
            candidates.append(self.derivative(middle))
        below: Any = None
        above: Any = None
        for slope in candidates:
            slope = np.broadcast_to(slope, middle.shape).astype(middle.dtype)
            least, most = self.extremes(x, slope)
            below = _better(below, slope, least, middle, 1)
            above = _better(above, slope, most, middle, -1)
        return below[:2], above[:2]

    def relax(self, inputs: Sequence[Interval], rounding: Rounding) -> Relaxation:
        (x,) = inputs
        (low, low_offset), (high, high_offset) = self.lines(x)
        size = (np.abs(low) + np.abs(high) + 1) * x.magnitude
        size = size + np.maximum(np.abs(low_offset), np.abs(high_offset))
        error = rounding.error(size + (1 if self.ulps else 0), self.ulps + 4)
        return Relaxation(low_offset - error, high_offset + error, (low, high))

    def backward(
        self, coefficients: np.ndarray, relaxation: Relaxation
    ) -> tuple[list[np.ndarray], np.ndarray]:
        low, high = (slope[:, None] for slope in relaxation.slopes)
        return [coefficients * np.where(coefficients >= 0, low, high)], offset(
            coefficients, relaxation
        )


class ReLU(Elementwise):
    """max(x, 0), exact in floating point."""

    def __init__(self) -> None:
        super().__init__(
            "relu", lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(x.dtype), (0.0,),
            ((0.0, 1.0),), convex=True, bent=False, ulps=0,
        )  # fmt: skip

    def bends(self, x: Interval) -> np.ndarray | None:
        return np.asarray((x.lower < 0) & (x.upper > 0))

    def increment(self, x: np.ndarray, d: np.ndarray) -> np.ndarray:
        return np.maximum(d + np.minimum(x, 0), -np.maximum(x, 0))

    def lines(
        self, x: Interval
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        active, crossing = x.lower >= 0, (x.lower < 0) & (x.upper > 0)
        one = x.lower.dtype.type(1)
        chord = np.where(crossing, x.upper / np.where(crossing, x.width, one), active * one)
        high_offset = np.where(crossing, -chord * x.lower, 0)
        low = np.where(crossing, (x.upper >= -x.lower) * one, active * one)
        return (low, np.zeros_like(low)), (chord, high_offset)


def _better(
    best: Any, slope: np.ndarray, constant: np.ndarray, middle: np.ndarray, sign: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep, per number, the line that is higher (sign 1) or lower (-1) in the middle."""
    value = sign * (constant + slope * middle)
    if best is None:
        return slope, constant, value
    wins = value > best[2]
    return tuple(
        np.where(wins, new, old) for new, old in zip((slope, constant, value), best, strict=True)
    )


def scaled(d: Interval, slopes: Interval, rounding: Rounding, ulps: int) -> Interval:
    """Every slope times every d, with the error of slopes accurate to `ulps`."""
    product = d.scale(slopes)
    size = d.magnitude * (slopes.magnitude + (1 if ulps else 0))
    return product.widen(rounding.error(size, 4 * ulps + 4))
