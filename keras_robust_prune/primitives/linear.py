"""Linear operations: matrix products, scales, numbers taken from other places."""

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
    sizes,
)
from keras_robust_prune.primitives.intervals import Interval


class Linear(Primitive):
    """y = A x + b. Subclasses give A as `apply` and its transpose as `adjoint`.

    Attributes:
        in_shape: shape of x without the batch axis.
        out_shape: shape of y.
        bias: b, broadcast along `out_shape`; None for 0.
        terms: most products that meet in one sum of `apply` or `adjoint`.
    """

    is_linear = True
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    bias: np.ndarray | None = None
    terms: int = 1

    def bends(self, x: Interval) -> np.ndarray | None:
        return None

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


class Kernel(Linear):
    """A linear map whose every output channel has entries of a kernel of its own: `kernel[..., channel]`.

    The difference of two channels is linear in the map's input, so its interval over a box is exact.

    Attributes:
        kernel: the output's channels last.
        groups: parts that do not see each other.
    """

    mixes = True
    kernel: np.ndarray
    groups: int = 1

    @property
    def fan_in(self) -> int:  # type: ignore[override]
        return int(np.prod(self.kernel.shape[:-1]))

    def work(self, shape: tuple[int, ...]) -> int:
        return int(np.prod(shape[:-1])) * self.kernel.size

    def difference(
        self, inputs: Sequence[Tensor], first: np.ndarray, second: np.ndarray, rounding: Rounding
    ) -> Interval | None:
        return self.weighted(inputs, first, second, None, None, rounding)

    def weighted(
        self,
        inputs: Sequence[Tensor],
        first: np.ndarray,
        second: np.ndarray,
        a: np.ndarray | None,
        b: np.ndarray | None,
        rounding: Rounding,
    ) -> Interval | None:
        """Exact over the input, for pairs of channels that are compared position by position."""
        channels, box = self.out_shape[-1], inputs[0].box
        positions, one, two = first // channels, first[:, 0] % channels, second[:, 0] % channels
        together = (
            (positions == second // channels).all()
            and (first % channels == one[:, None]).all()
            and (second % channels == two[:, None]).all()
        )
        if not together or self.groups != 1:
            return None

        def apart(weight: np.ndarray) -> np.ndarray:
            x, y = np.take(weight, one, axis=-1), np.take(weight, two, axis=-1)
            return np.asarray((y if b is None else y * b) - (x if a is None else x * a))

        kernel = apart(self.kernel)
        bias = None if self.bias is None else apart(self.bias)
        interval = self.with_kernel(kernel, bias).interval([box], rounding)
        # the kernels' difference is rounded once more than a kernel
        size = self.largest(box.magnitude).reshape(-1, channels)
        if self.bias is not None:
            size = size + np.abs(self.bias)
        factors = np.ones(())
        if a is not None and b is not None:
            factors = np.maximum(abs(a), abs(b))
        error = rounding.error((size[:, one] + size[:, two]) * factors, 4)
        flat = interval.reshape(-1, len(one)).widen(error)
        return flat[positions, np.arange(len(one))[:, None]]

    def with_kernel(self, kernel: np.ndarray, bias: np.ndarray | None) -> Linear:
        """The same map with another kernel and bias."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class MatMul(Kernel):
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

    def with_kernel(self, kernel: np.ndarray, bias: np.ndarray | None) -> MatMul:
        return MatMul(self.in_shape, kernel, bias)

    def reads(self, region: Region) -> Region | None:
        return region

    def cropped(self, region: Region, read: Region) -> MatMul:
        return dataclasses.replace(self, in_shape=(*sizes(region), self.in_shape[-1]))

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

    def reads(self, region: Region) -> Region | None:
        return region

    def cropped(self, region: Region, read: Region) -> Scale:
        def part(item: np.ndarray | None) -> np.ndarray | None:
            if item is None or item.ndim < 2:
                return item
            return np.broadcast_to(item, self.in_shape)[region]

        factor = part(self.factor)
        assert factor is not None
        shape = (*sizes(region), self.in_shape[-1])
        return Scale(shape, factor, part(self.bias), part(self.surplus))

    def difference(
        self, inputs: Sequence[Tensor], first: np.ndarray, second: np.ndarray, rounding: Rounding
    ) -> Interval | None:
        (source,) = inputs
        factor = np.broadcast_to(self.factor, self.in_shape).ravel()
        bias = np.zeros((), factor.dtype) if self.bias is None else self.bias
        surplus = np.abs(bias) if self.surplus is None else self.surplus
        bias, surplus = (np.broadcast_to(item, self.in_shape).ravel() for item in (bias, surplus))
        a, b = factor[first], factor[second]
        one, two = source.at(first), source.at(second)
        constant = bias[second] - bias[first]
        size = one.magnitude * abs(a) + two.magnitude * abs(b)
        error = rounding.error(2 * (size + surplus[first] + surplus[second]), 16)
        if (a == a[:, :1]).all() and (b == b[:, :1]).all():
            exact = source.weighted(first, second, a[:, 0], b[:, 0])
            if exact is not None:
                return (exact + constant).widen(error)
        d = source.difference(first, second)
        forth = d.scale(b) + one.scale(b - a)
        back = d.scale(a) + two.scale(b - a)
        return (forth.intersect(back) + constant).widen(error)

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

    def difference(
        self, inputs: Sequence[Tensor], first: np.ndarray, second: np.ndarray, rounding: Rounding
    ) -> Interval | None:
        one, two = (self.indices.ravel()[elements] for elements in (first, second))
        inside = (one >= 0).all() and (two >= 0).all()
        return inputs[0].difference(one, two) if inside else None


def mixing(primitive: Primitive | None) -> Linear | None:
    """The primitive if it is linear and sums over channels by a kernel; None for any other."""
    return primitive if isinstance(primitive, Linear) and primitive.mixes else None
