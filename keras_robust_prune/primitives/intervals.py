"""The one value type below everything: an interval per number, as two arrays."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Interval:
    """Arrays of lower and upper ends; every number in between is possible.

    Arithmetic is rounded to nearest: a proof in floating point adds an error term
    (`network.primitives.Rounding`).

    Attributes:
        lower: any shape, float32 or float64 (anything else becomes float64).
        upper: the same shape and type, nowhere below `lower`.

    Raises:
        ValueError: the shapes differ, an end is NaN, or a lower end lies above its upper end.

    Example:
        >>> Interval([-1.0, 0.0], [1.0, 3.0]).width
        array([2., 3.])
    """

    lower: np.ndarray
    upper: np.ndarray

    def __init__(self, lower: Any, upper: Any) -> None:
        lower, upper = np.asarray(lower), np.asarray(upper)
        dtype = np.float32 if lower.dtype == upper.dtype == np.float32 else np.float64
        lower, upper = lower.astype(dtype, copy=False), upper.astype(dtype, copy=False)
        if lower.shape != upper.shape:
            raise ValueError(
                f"An interval has ends of shapes {lower.shape} and {upper.shape}; they must agree. "
                "Broadcast one to the other first."
            )
        if not np.all(lower <= upper):
            raise ValueError(
                "An interval has a NaN end or a lower end above its upper end. Check the input range: "
                "give (lower, upper) with lower <= upper everywhere."
            )
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of either end."""
        return self.lower.shape

    @property
    def center(self) -> np.ndarray:
        """Halfway between the ends."""
        return (self.lower + self.upper) / 2

    @property
    def width(self) -> np.ndarray:
        """Upper minus lower."""
        return self.upper - self.lower

    @property
    def magnitude(self) -> np.ndarray:
        """Largest absolute value."""
        return np.maximum(np.abs(self.lower), np.abs(self.upper))

    def __getitem__(self, index: Any) -> Interval:
        return Interval(self.lower[index], self.upper[index])

    def __neg__(self) -> Interval:
        return Interval(-self.upper, -self.lower)

    def __add__(self, other: Interval | np.ndarray | float) -> Interval:
        if isinstance(other, Interval):
            return Interval(self.lower + other.lower, self.upper + other.upper)
        return Interval(self.lower + other, self.upper + other)

    def __sub__(self, other: Interval | np.ndarray | float) -> Interval:
        return self + -other

    def scale(self, factor: Interval | np.ndarray | float) -> Interval:
        """Times a factor, which may be an interval itself.

        Example:
            >>> Interval([-1.0], [2.0]).scale(Interval([-3.0], [1.0]))
            Interval(lower=array([-6.]), upper=array([3.]))
        """
        if not isinstance(factor, Interval):
            ends = [self.lower * factor, self.upper * factor]
        else:
            ends = [
                mine * theirs
                for mine in (self.lower, self.upper)
                for theirs in (factor.lower, factor.upper)
            ]
        return Interval(np.minimum.reduce(ends), np.maximum.reduce(ends))

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        return Interval(np.minimum(self.lower, other.lower), np.maximum(self.upper, other.upper))

    def intersect(self, other: Interval) -> Interval:
        """What both allow; `self` where rounding leaves nothing in common."""
        lower = np.maximum(self.lower, other.lower)
        upper = np.minimum(self.upper, other.upper)
        apart = lower > upper
        if apart.any():
            lower, upper = np.where(apart, self.lower, lower), np.where(apart, self.upper, upper)
        return Interval(lower, upper)

    def widen(self, error: np.ndarray | float) -> Interval:
        """Both ends moved outwards by `error` >= 0."""
        return Interval(self.lower - error, self.upper + error)

    def contains(self, values: Any, tolerance: float = 0.0) -> bool:
        """Whether all values lie inside, up to `tolerance`.

        Example:
            >>> Interval([0.0], [1.0]).contains([1.5])
            False
        """
        values = np.asarray(values)
        return bool(
            np.all(self.lower - tolerance <= values) and np.all(values <= self.upper + tolerance)
        )

    def reshape(self, *shape: int) -> Interval:
        """Both ends in another shape."""
        return Interval(self.lower.reshape(*shape), self.upper.reshape(*shape))

    def astype(self, dtype: Any) -> Interval:
        """The ends in another precision, rounded outwards."""
        dtype = np.dtype(dtype)
        if self.lower.dtype == dtype:
            return self
        lower, upper = self.lower.astype(dtype), self.upper.astype(dtype)
        return Interval(
            np.where(lower > self.lower, np.nextafter(lower, dtype.type(-np.inf)), lower),
            np.where(upper < self.upper, np.nextafter(upper, dtype.type(np.inf)), upper),
        )
