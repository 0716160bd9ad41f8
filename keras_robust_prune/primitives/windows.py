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

from keras_robust_prune.primitives.base import Region, sizes


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

    def reads(self, region: Region) -> Region:
        """What a region of the output takes of the input."""
        found = []
        for axis, part in enumerate(region):
            step, before = self.strides[axis], self.before[axis]
            reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
            first, last = part.start * step - before, (part.stop - 1) * step - before + reach
            start = min(max(first, 0), self.size[axis] - 1)
            found.append(slice(start, max(start + 1, min(last, self.size[axis]))))
        return tuple(found)

    def cropped(self, region: Region, read: Region) -> Window:
        """The window from what a region of the output reads to that region."""
        before = tuple(
            b - out.start * step + part.start
            for b, out, step, part in zip(self.before, region, self.strides, read, strict=True)
        )
        return dataclasses.replace(self, size=sizes(read), before=before, out=sizes(region))
