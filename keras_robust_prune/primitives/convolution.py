"""Convolution and its transpose, as sums of matrix products of strided slices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from keras_robust_prune.primitives.base import Region, Rounding
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.linear import Kernel, Linear
from keras_robust_prune.primitives.windows import Window


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution(Kernel):
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

    def with_kernel(self, kernel: np.ndarray, bias: np.ndarray | None) -> Convolution:
        return dataclasses.replace(self, kernel=kernel, bias=bias)

    def reads(self, region: Region) -> Region | None:
        return self.window.reads(region)

    def cropped(self, region: Region, read: Region) -> Convolution:
        return dataclasses.replace(self, window=self.window.cropped(region, read))

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

    mixes = True
    convolution: Convolution
    bias: np.ndarray | None = None

    def work(self, shape: tuple[int, ...]) -> int:
        return int(np.prod(self.in_shape[:-1])) * self.convolution.kernel.size

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
