"""Windows that slide over space: convolution and pooling as sums over kernel taps.

One tap of a window reads, for all positions at once, a strided slice of the padded input. So a convolution is a sum of
matrix products of slices, its transpose adds products back into slices, and neither loops over positions.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from keras_robust_prune.primitives.base import Linear, Primitive, Relaxation, Rounding, offset
from keras_robust_prune.primitives.intervals import Interval


@dataclasses.dataclass(frozen=True)
class Window:
    """Where the taps of a kernel lie.

    Attributes:
        size: spatial shape of the input.
        kernel: spatial shape of the kernel.
        strides: steps between windows.
        dilation: steps between taps.
        before: padding in front of every spatial axis.
        out: spatial shape of the output.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    out: tuple[int, ...]

    @classmethod
    def of(
        cls,
        size: Sequence[int],
        kernel: Sequence[int],
        strides: Sequence[int],
        padding: str,
        dilation: Sequence[int] | None = None,
    ) -> Window:
        """The window of a Keras layer.

        Args:
            size: spatial shape of the input.
            kernel: spatial shape of the kernel.
            strides: as in the layer.
            padding: `"valid"`, `"same"` or `"causal"`.
            dilation: as in the layer; 1 if None.
        """
        dilation = tuple(dilation or [1] * len(size))
        before, out = [], []
        for n, k, s, d in zip(size, kernel, strides, dilation, strict=True):
            reach = (k - 1) * d + 1
            if padding == "same":
                count = -(-n // s)
                before.append(max((count - 1) * s + reach - n, 0) // 2)
            elif padding == "causal":
                count = -(-n // s)
                before.append(reach - 1)
            else:
                count = (n - reach) // s + 1
                before.append(0)
            out.append(count)
        return cls(tuple(size), tuple(kernel), tuple(strides), dilation, tuple(before), tuple(out))

    @cached_property
    def padded(self) -> tuple[int, ...]:
        """Spatial shape that holds the input and every tap."""
        return tuple(
            max(b + n, (o - 1) * s + (k - 1) * d + 1)
            for b, n, o, s, k, d in zip(
                self.before,
                self.size,
                self.out,
                self.strides,
                self.kernel,
                self.dilation,
                strict=True,
            )
        )

    @cached_property
    def inside(self) -> tuple[slice, ...]:
        """Where the input lies in the padded array, with axes for batch and channels."""
        middle = (slice(b, b + n) for b, n in zip(self.before, self.size, strict=True))
        return (slice(None), *middle, slice(None))

    @cached_property
    def taps(self) -> tuple[tuple[slice, ...], ...]:
        """For every tap, in the order of the kernel, what it reads of the padded array."""
        found = []
        for tap in itertools.product(*(range(k) for k in self.kernel)):
            starts = [t * d for t, d in zip(tap, self.dilation, strict=True)]
            middle = (
                slice(a, a + (o - 1) * s + 1, s)
                for a, o, s in zip(starts, self.out, self.strides, strict=True)
            )
            found.append((slice(None), *middle, slice(None)))
        return tuple(found)

    def pad(self, x: np.ndarray, value: float = 0.0) -> np.ndarray:
        """The input `(batch, *size, channels)` with its border."""
        if self.padded == self.size:
            return x
        full = np.full((len(x), *self.padded, x.shape[-1]), value, x.dtype)
        full[self.inside] = x
        return full

    def read(self, x: np.ndarray, value: float = 0.0) -> Iterator[np.ndarray]:
        """What each tap reads, `(batch, *out, channels)` each."""
        full = self.pad(x, value)
        return (full[tap] for tap in self.taps)

    def add_back(self, parts: Iterator[np.ndarray], channels: int) -> np.ndarray:
        """Transpose of `read`: the sum of what each tap gives back, `(batch, *size, channels)`."""
        full: np.ndarray | None = None
        for tap, part in zip(self.taps, parts, strict=True):
            if full is None:
                full = np.zeros((len(part), *self.padded, channels), part.dtype)
            full[tap] += part
        assert full is not None
        return full[self.inside]

    @cached_property
    def table(self) -> np.ndarray:
        """Flat input position that each tap reads for each flat output position, -1 in the border."""
        positions = np.arange(int(np.prod(self.size))).reshape(1, *self.size, 1)
        return np.stack([part.ravel() for part in self.read(positions, -1)], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution(Linear):
    """Convolution over any number of spatial axes, channels last.

    Attributes:
        window: where its taps lie.
        kernel: `(*spatial, channels in / groups, channels out)`.
        bias: `(channels out,)` or None.
        groups: channels are split into so many independent parts; as many as channels in for a depthwise one.
    """

    window: Window
    kernel: np.ndarray
    bias: np.ndarray | None = None
    groups: int = 1

    @property
    def in_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.window.size, self.kernel.shape[-2] * self.groups)

    @property
    def out_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return (*self.window.out, self.kernel.shape[-1])

    @property
    def terms(self) -> int:  # type: ignore[override]
        taps = int(np.prod(self.window.kernel))
        return taps * max(self.kernel.shape[-2], self.kernel.shape[-1] // self.groups)

    @cached_property
    def absolute(self) -> Convolution:
        return Convolution(self.window, np.abs(self.kernel), None, self.groups)

    @cached_property
    def matrices(self) -> np.ndarray:
        """The kernel as `(taps, groups, channels in, channels out)` of a group each."""
        split = self.kernel.reshape(-1, self.kernel.shape[-2], self.groups, self.out_per_group)
        return np.ascontiguousarray(split.transpose(0, 2, 1, 3))

    @property
    def out_per_group(self) -> int:
        """Channels out of one group."""
        return int(self.kernel.shape[-1] // self.groups)

    @cached_property
    def gain(self) -> np.ndarray:
        """Sum of |kernel| for every channel out."""
        return np.asarray(np.abs(self.kernel).sum(axis=tuple(range(self.kernel.ndim - 1))))

    def largest(self, magnitude: np.ndarray) -> np.ndarray:
        peak = magnitude.max(axis=tuple(range(1, magnitude.ndim)), initial=0.0)
        return peak.reshape(-1, *[1] * len(self.out_shape)) * self.gain

    @cached_property
    def bundles(self) -> list[slice]:
        """ActivationProbe that go through one matrix product together, so that it is not too thin."""
        taps, thin = len(self.matrices), max(1, 64 // min(self.kernel.shape[-2:]))
        return [slice(k, min(k + thin, taps)) for k in range(0, taps, thin)]

    def apply(self, x: np.ndarray) -> np.ndarray:
        count = len(x) * int(np.prod(self.window.out))
        if self.kernel.shape[-2] == 1 and self.groups > 1:
            return self._apply_depthwise(x)
        total = np.zeros((count, self.groups, self.out_per_group), np.result_type(x, self.kernel))
        full = self.window.pad(x)
        for bundle in self.bundles:
            parts = [full[tap].reshape(count, self.groups, -1) for tap in self.window.taps[bundle]]
            read = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
            for group in range(self.groups):
                kernel = self.matrices[bundle, group].reshape(-1, self.out_per_group)
                total[:, group] += read[:, group] @ kernel
        return total.reshape(len(x), *self.out_shape)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        count = len(y) * int(np.prod(self.window.out))
        split = y.reshape(count, self.groups, self.out_per_group)
        channels = self.kernel.shape[-2]

        def parts() -> Iterator[np.ndarray]:
            for bundle in self.bundles:
                given = [
                    split[:, group] @ self.matrices[bundle, group].reshape(-1, self.out_per_group).T
                    for group in range(self.groups)
                ]
                grouped = np.stack(given, axis=1) if self.groups > 1 else given[0][:, None]
                grouped = grouped.reshape(count, self.groups, -1, channels)
                for tap in range(grouped.shape[2]):
                    yield grouped[:, :, tap].reshape(len(y), *self.window.out, -1)

        if channels == 1 and self.groups > 1:
            return self._adjoint_depthwise(y)
        return self.window.add_back(parts(), self.groups * channels)

    def _apply_depthwise(self, x: np.ndarray) -> np.ndarray:
        total = np.zeros((len(x), *self.window.out, self.groups, self.out_per_group), x.dtype)
        for part, kernel in zip(self.window.read(x), self.matrices[:, :, 0], strict=True):
            total += part[..., None] * kernel
        return total.reshape(len(x), *self.out_shape)

    def _adjoint_depthwise(self, y: np.ndarray) -> np.ndarray:
        split = y.reshape(len(y), *self.window.out, self.groups, self.out_per_group)
        parts = ((split * kernel).sum(axis=-1) for kernel in self.matrices[:, :, 0])
        return self.window.add_back(parts, self.groups)

    def sparse_deviation(
        self, deviation: Interval, elements: np.ndarray, rounding: Rounding
    ) -> Interval:
        channels = elements % self.in_shape[-1]
        if self.groups > 1 or (channels != channels[:, :1]).any():
            return super().sparse_deviation(deviation, elements, rounding)
        rows, taps = len(elements), len(self.matrices)
        kernel = self.matrices[:, 0, channels[:, 0]].transpose(1, 0, 2)  # (rows, taps, channels)
        ends = []
        for values in (deviation.center, deviation.width / 2):
            plane = np.zeros((rows, int(np.prod(self.window.size))), values.dtype)
            np.put_along_axis(plane, elements // self.in_shape[-1], values, axis=1)
            read = self.window.read(plane.reshape(rows, *self.window.size, 1))
            ends.append(np.stack([part.reshape(rows, -1) for part in read], axis=2))
        size = (np.abs(ends[0]) + ends[1]).max(axis=(1, 2))[:, None] * np.abs(kernel).sum(axis=1)
        middle, spread = ends[0] @ kernel, ends[1] @ np.abs(kernel)
        spread = spread + rounding.error(size, taps)[:, None]
        return Interval(middle - spread, middle + spread).reshape(rows, *self.out_shape)


@dataclasses.dataclass(frozen=True, eq=False)
class TransposedConvolution(Linear):
    """The transpose of a convolution, with a bias of its own."""

    convolution: Convolution
    bias: np.ndarray | None = None

    @property
    def in_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.convolution.out_shape

    @property
    def out_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.convolution.in_shape

    @property
    def terms(self) -> int:  # type: ignore[override]
        return self.convolution.terms

    @cached_property
    def absolute(self) -> TransposedConvolution:
        return TransposedConvolution(self.convolution.absolute)

    def apply(self, x: np.ndarray) -> np.ndarray:
        return self.convolution.adjoint(x)

    def adjoint(self, y: np.ndarray) -> np.ndarray:
        return self.convolution.apply(y)


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
