"""The few operations to which every layer comes down, in NumPy: what a network computes, and how bounds pass it.

A `Primitive` maps arrays with a leading batch axis to one array. Beside its value it knows four things: the interval of
its output over intervals of its inputs; the interval of the output's *deviation* when inputs deviate; linear lines
between which the output lies (`relax`), and how coefficients of a linear bound pass backward through them. Everything
rounds outwards by an error term, so that each bound holds for the exact network and for every evaluation of it in the
precision it was computed in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from keras_robust_prune.primitives.intervals import Interval


@dataclasses.dataclass(frozen=True)
class Rounding:
    """How far arithmetic in one precision may be from the truth.

    Example:
        >>> Rounding(np.float64).error(np.array([1.0]), 6) < 1e-14
        array([ True])
    """

    dtype: Any = np.float64

    @cached_property
    def unit(self) -> float:
        """Largest relative error of one operation."""
        return float(np.finfo(self.dtype).eps) / 2

    @cached_property
    def tiny(self) -> float:
        """Above the absolute error of an operation that underflows."""
        return float(np.finfo(self.dtype).tiny)

    def error(self, magnitude: np.ndarray, terms: int) -> np.ndarray:
        """Bound on the error of a sum of `terms` products whose absolute values add up to `magnitude`.

        It holds for every order of summation, [Jeannerod and Rump, 2013](https://doi.org/10.1137/120894488); the
        surplus covers what is added to such a sum afterwards.
        """
        return np.asarray(magnitude * ((1.01 * terms + 8) * self.unit) + self.tiny * terms)


@dataclasses.dataclass(frozen=True, eq=False)
class Relaxation:
    """Linear lines around an output: lower(x) <= y <= upper(x).

    Attributes:
        lower_offset: constant part of the lower line, `(boxes, *shape)`.
        upper_offset: constant part of the upper line.
        slopes: what the primitive needs to apply the linear parts.
    """

    lower_offset: np.ndarray
    upper_offset: np.ndarray
    slopes: tuple[Any, ...] = ()

    def take(self, index: np.ndarray) -> Relaxation:
        """The lines of chosen boxes."""

        def chosen(item: Any) -> Any:
            if isinstance(item, tuple):
                return tuple(chosen(part) for part in item)
            return item if len(item) == 1 else item[index]

        return Relaxation(chosen(self.lower_offset), chosen(self.upper_offset), chosen(self.slopes))


Region = tuple[slice, ...]
"""One slice per spatial axis of a tensor."""


class Tensor(Protocol):
    """What a primitive may ask of one of its inputs over one box, number by number of the flattened tensor."""

    @property
    def box(self) -> Interval:
        """Its interval, `(1, *shape)`."""

    def at(self, elements: np.ndarray) -> Interval:
        """Intervals of some numbers."""

    def difference(self, first: np.ndarray, second: np.ndarray) -> Interval:
        """Interval of second minus first, `(pairs, elements)`."""

    def weighted(
        self, first: np.ndarray, second: np.ndarray, a: np.ndarray, b: np.ndarray
    ) -> Interval | None:
        """Interval of b times second minus a times first, if it is known better than from both; None otherwise."""


class Primitive:
    """One operation y = f(x_1, ..., x_k); subclasses say which.

    Attributes:
        is_linear: it is y = A x + b of one x.
        mixes: it is linear, and sums over the channels of x by a kernel.
        closes: it makes probabilities of scores, or nothing at all: logits are taken before it.
        follows: an interval of its output is as tight as one of its input.
        has_slopes: `slopes` gives all that it has between any two inputs.
        fan_in: products in each number of its output, where it mixes.
        ulps: accuracy in units of the last place; see `Elementwise`.
    """

    is_linear: bool = False
    mixes: bool = False
    closes: bool = False
    follows: bool = False
    has_slopes: bool = False
    fan_in: int = 1
    ulps: int = 0

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        """Output for inputs of shape `(batch, *shape)`."""
        raise NotImplementedError

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        """Interval of the output over all inputs in their intervals, `(boxes, *shape)`."""
        raise NotImplementedError

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        """Interval of f(x + d) - f(x) for x and d in their intervals; None stands for d = 0."""
        before = self.interval(inputs, rounding)
        changed = [
            x if d is None else shifted(x, d, rounding)
            for x, d in zip(inputs, deviations, strict=True)
        ]
        after = self.interval(changed, rounding)
        return (after - before).widen(rounding.error(after.magnitude + before.magnitude, 1))

    def relax(self, inputs: Sequence[Interval], rounding: Rounding) -> Relaxation:
        """Lines around the output; by default its constant interval."""
        bounds = self.interval(inputs, rounding)
        return Relaxation(bounds.lower, bounds.upper)

    def backward(
        self, coefficients: np.ndarray, relaxation: Relaxation
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """Lower bound of `coefficients * y` in terms of the inputs.

        Args:
            coefficients: `(boxes, rows, *shape)`.
            relaxation: what `relax` returned for the same boxes.

        Returns:
            Coefficients for every input (none for constant lines) and a constant `(boxes, rows)`.
        """
        return [], offset(coefficients, relaxation)

    def bends(self, x: Interval) -> np.ndarray | None:
        """Where it is not linear over intervals of an input, of their shape; None if tighter ones would not help it."""
        return np.asarray(x.width > 0)

    def slopes(self, x: Interval) -> Interval:
        """Every slope that it has on each interval, where it `has_slopes`."""
        raise NotImplementedError

    def work(self, shape: tuple[int, ...]) -> int:
        """Multiplications of one pass; `shape` is that of its output."""
        return int(np.prod(shape))

    def reads(self, region: Region) -> Region | None:
        """What a region of its output takes of its inputs; None if it cannot be cut down to that."""
        return None

    def cropped(self, region: Region, read: Region) -> Primitive:
        """What computes only a region of its output, from what that reads of its inputs."""
        return self

    def difference(
        self, inputs: Sequence[Tensor], first: np.ndarray, second: np.ndarray, rounding: Rounding
    ) -> Interval | None:
        """How far apart numbers of its output are at the same input: the interval of second minus first.

        Args:
            inputs: over one box.
            first: elements of the flattened output, `(pairs, elements)`.
            second: likewise.
            rounding: the precision.

        Returns:
            None if it is not known better than from the intervals of both.
        """
        return None

    def weighted(
        self,
        inputs: Sequence[Tensor],
        first: np.ndarray,
        second: np.ndarray,
        a: np.ndarray | None,
        b: np.ndarray | None,
        rounding: Rounding,
    ) -> Interval | None:
        """The same of b times second minus a times first, with one factor per pair; None for 1."""
        return None


def sizes(region: Region) -> tuple[int, ...]:
    """Lengths of a region's slices."""
    return tuple(part.stop - part.start for part in region)


def shifted(x: Interval, d: Interval, rounding: Rounding) -> Interval:
    """All x + d."""
    return (x + d).widen(rounding.error(x.magnitude + d.magnitude, 1))


def offset(coefficients: np.ndarray, relaxation: Relaxation) -> np.ndarray:
    """Least constant part, rounded down: positive coefficients meet the lower line, negative ones the upper.

    Args:
        coefficients: `(boxes, rows, *shape)`; one box stands for all.
        relaxation: lines for as many boxes, or one.
    """
    flat = coefficients.reshape(*coefficients.shape[:2], -1)
    lower = relaxation.lower_offset.reshape(len(relaxation.lower_offset), -1, 1)
    upper = relaxation.upper_offset.reshape(len(relaxation.upper_offset), -1, 1)
    error = Rounding(flat.dtype).error(np.maximum(np.abs(lower), np.abs(upper)), flat.shape[2])
    spread = (upper - lower) / 2 + error
    return products(flat, (lower + upper) / 2) - products(np.abs(flat), spread)


def products(coefficients: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`(boxes, rows, n)` times `(boxes, n, 1)` to `(boxes, rows)`; where one has a single box it serves all."""
    if coefficients.shape[1] == 1 and len(coefficients) == len(values):
        return np.asarray(np.einsum("bn,bn->b", coefficients[:, 0], values[..., 0])[:, None])
    return np.asarray(np.matmul(coefficients, values)[..., 0])
