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
from typing import Any

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


class Primitive:
    """One operation y = f(x_1, ..., x_k); subclasses say which."""

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


class Linear(Primitive):
    """y = A x + b. Subclasses give A as `apply` and its transpose as `adjoint`.

    Attributes:
        in_shape: shape of x without the batch axis.
        out_shape: shape of y.
        bias: b, broadcast along `out_shape`; None for 0.
        terms: most products that meet in one sum of `apply` or `adjoint`.
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    bias: np.ndarray | None = None
    terms: int = 1

    def apply(self, x: np.ndarray) -> np.ndarray:
        """A x, `(batch, *in_shape)` to `(batch, *out_shape)`."""
        raise NotImplementedError

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        """A^T y."""
        raise NotImplementedError

    @property
    def absolute(self) -> Linear:
        """The map with |A| in place of A."""
        raise NotImplementedError

    def largest(self, magnitude: np.ndarray) -> np.ndarray:
        """Bound on |A| magnitude, cheaper to have than the product where that is dear."""
        return self.absolute.apply(magnitude)

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        """A x + b."""
        y = self.apply(inputs[0])
        return y if self.bias is None else y + self.bias

    def error(self, magnitude: np.ndarray, rounding: Rounding, bias: bool = True) -> np.ndarray:
        """Rounding error of y for |x| <= magnitude, in either direction of the map."""
        size = self.largest(magnitude)
        if bias and self.bias is not None:
            size = size + np.abs(self.bias)
        return rounding.error(size, self.terms)

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        """Center and radius pass separately; exact up to rounding."""
        center, radius = inputs[0].center, inputs[0].width / 2
        spread = self.absolute.apply(radius) + self.error(np.abs(center) + radius, rounding)
        middle = self.forward(center)
        return Interval(middle - spread, middle + spread)

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        """A d: a deviation does not see the bias."""
        assert deviations[0] is not None
        center, radius = deviations[0].center, deviations[0].width / 2
        spread = self.absolute.apply(radius)
        spread = spread + self.error(np.abs(center) + radius, rounding, bias=False)
        middle = self.apply(center)
        return Interval(middle - spread, middle + spread)

    def sparse_deviation(
        self, deviation: Interval, elements: np.ndarray, rounding: Rounding
    ) -> Interval:
        """A d for a d that is zero outside a few elements.

        Args:
            deviation: `(rows, few)`.
            elements: which elements of x, flattened, the few are, `(rows, few)`.
            rounding: the precision.
        """
        ends = []
        for end in (deviation.lower, deviation.upper):
            full = np.zeros((len(elements), int(np.prod(self.in_shape))), end.dtype)
            np.put_along_axis(full, elements, end, axis=1)
            ends.append(full.reshape(-1, *self.in_shape))
        return self.deviation([Interval(*ends)], [], rounding)

    def relax(self, inputs: Sequence[Interval], rounding: Rounding) -> Relaxation:
        """The map itself, give or take its rounding error."""
        error = self.error(inputs[0].magnitude, rounding)
        bias = np.zeros((), error.dtype) if self.bias is None else self.bias
        shape = (len(error), *self.out_shape)
        return Relaxation(
            np.broadcast_to(bias - error, shape), np.broadcast_to(bias + error, shape)
        )

    def backward(
        self, coefficients: np.ndarray, relaxation: Relaxation
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """A^T on the coefficients."""
        boxes, rows = coefficients.shape[:2]
        passed = self.adjoint(coefficients.reshape(boxes * rows, *self.out_shape))
        return [passed.reshape(boxes, rows, *self.in_shape)], offset(coefficients, relaxation)


@dataclasses.dataclass(frozen=True, eq=False)
class MatMul(Linear):
    """x @ kernel + bias on the last axis: Dense, and a 1x1 convolution."""

    in_shape: tuple[int, ...]
    kernel: np.ndarray
    bias: np.ndarray | None = None

    @property
    def out_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.in_shape[:-1], self.kernel.shape[1])

    @property
    def terms(self) -> int:  # type: ignore[override]
        return max(self.kernel.shape)

    def apply(self, x: np.ndarray) -> np.ndarray:
        flat = x.reshape(-1, self.kernel.shape[0]) @ self.kernel
        return flat.reshape(-1, *self.out_shape)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        flat = y.reshape(-1, self.kernel.shape[1]) @ self.kernel.T
        return flat.reshape(-1, *self.in_shape)

    @cached_property
    def absolute(self) -> MatMul:
        return MatMul(self.in_shape, np.abs(self.kernel))

    @cached_property
    def gain(self) -> np.ndarray:
        """Column sums of |kernel|."""
        return np.asarray(self.absolute.kernel.sum(axis=0))

    def largest(self, magnitude: np.ndarray) -> np.ndarray:
        return np.asarray(magnitude.max(axis=-1, keepdims=True, initial=0.0) * self.gain)

    def sparse_deviation(
        self, deviation: Interval, elements: np.ndarray, rounding: Rounding
    ) -> Interval:
        if len(self.in_shape) > 1:
            return super().sparse_deviation(deviation, elements, rounding)
        rows = self.kernel[elements]
        center, radius = deviation.center[:, None], deviation.width[:, None] / 2
        middle, spread = (center @ rows)[:, 0], (radius @ np.abs(rows))[:, 0]
        size = (np.abs(center) + radius).max(axis=-1) * self.gain
        spread = spread + rounding.error(size, elements.shape[1])
        return Interval(middle - spread, middle + spread)


@dataclasses.dataclass(frozen=True, eq=False)
class Scale(Linear):
    """x * factor + bias, number by number: BatchNormalization, Normalization, Rescaling.

    Attributes:
        surplus: magnitude of the parts that `bias` was computed from; their rounding error is counted.
    """

    in_shape: tuple[int, ...]
    factor: np.ndarray
    bias: np.ndarray | None = None
    surplus: np.ndarray | None = None

    @property
    def out_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.in_shape

    def apply(self, x: np.ndarray) -> np.ndarray:
        return x * self.factor

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        return y * self.factor

    @cached_property
    def absolute(self) -> Scale:
        return Scale(self.in_shape, np.abs(self.factor))

    def error(self, magnitude: np.ndarray, rounding: Rounding, bias: bool = True) -> np.ndarray:
        size = magnitude * np.abs(self.factor)
        if bias and self.surplus is not None:
            size = size + self.surplus
        return rounding.error(size, 4)


@dataclasses.dataclass(frozen=True, eq=False)
class Reindex(Linear):
    """Numbers taken from other places: Flatten, Reshape, Permute, Cropping, ZeroPadding, UpSampling, slices.

    Attributes:
        indices: for each output number its place in the flattened input; -1 gives 0. Shape `out_shape`.
    """

    in_shape: tuple[int, ...]
    indices: np.ndarray

    @property
    def out_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.indices.shape

    @property
    def absolute(self) -> Reindex:
        return self

    @cached_property
    def is_reshape(self) -> bool:
        """Whether nothing moves."""
        size = int(np.prod(self.in_shape))
        return self.indices.size == size and bool(
            np.array_equal(self.indices.ravel(), np.arange(size))
        )

    @cached_property
    def taken(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Outputs that read something, sorted by what they read; where each run begins; what it reads."""
        flat = self.indices.ravel()
        order = np.argsort(flat, kind="stable")
        order = order[flat[order] >= 0]
        sources, starts = np.unique(flat[order], return_index=True)
        return order, starts, sources

    def apply(self, x: np.ndarray) -> np.ndarray:
        if self.is_reshape:
            return x.reshape(-1, *self.out_shape)
        flat = x.reshape(len(x), -1)
        y = np.take(flat, np.maximum(self.indices, 0).ravel(), axis=1)
        y[:, self.indices.ravel() < 0] = 0
        return y.reshape(-1, *self.out_shape)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        if self.is_reshape:
            return y.reshape(-1, *self.in_shape)
        order, starts, sources = self.taken
        x = np.zeros((len(y), int(np.prod(self.in_shape))), y.dtype)
        sums = y.reshape(len(y), -1)[:, order]
        x[:, sources] = sums if len(starts) == len(order) else np.add.reduceat(sums, starts, axis=1)
        return x.reshape(-1, *self.in_shape)

    def error(self, magnitude: np.ndarray, rounding: Rounding, bias: bool = True) -> np.ndarray:
        if self.is_reshape:
            return np.zeros((1, *self.out_shape), magnitude.dtype)
        return rounding.error(self.apply(magnitude), 8)

    def interval(self, inputs: Sequence[Interval], rounding: Rounding) -> Interval:
        return Interval(self.apply(inputs[0].lower), self.apply(inputs[0].upper))

    def deviation(
        self, deviations: Sequence[Interval | None], inputs: Sequence[Interval], rounding: Rounding
    ) -> Interval:
        assert deviations[0] is not None
        return Interval(self.apply(deviations[0].lower), self.apply(deviations[0].upper))
