"""Measured times of kernels on one device, as a CSV file."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from keras_robust_prune.latency.kernels import Kernel

COLUMNS = tuple(field.name for field in dataclasses.fields(Kernel))
# The row of what the network takes beside its kernels.
REST = "REST"
ABOUT = ("device", "soc", "runtime", "threads", "dtype")


@dataclasses.dataclass(frozen=True, eq=False)
class LatencyTable:
    """Milliseconds of kernels on one device.

    Attributes:
        times: milliseconds by kernel.
        rest: milliseconds of everything else in the network that was probed: pooling, addition, softmax.
        values: the numbers that all layers of that network write; the rest goes with them.
        tile: kernels compute so many channels at once.
        about: the device, its SoC, the runtime, the number of threads and the numbers' type, as text.

    Example:
        >>> kernel = Kernel("FULLY_CONNECTED", 1, 1, 1, 1, 1, 64, 16)
        >>> table = LatencyTable({kernel: 0.5, kernel.of_widths(64, 32): 0.75})
        >>> (
        ...     table(kernel.of_widths(64, 17)),
        ...     table(kernel.of_widths(60, 16)),
        ... )  # up to 64-32 and 64-16
        (0.75, 0.5)
    """

    times: Mapping[Kernel, float]
    rest: float = 0.0
    values: int = 0
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tile: int = 16

    def __call__(self, kernel: Kernel) -> float:
        """Milliseconds, widths between entries rounded up to whole tiles, and in proportion to the entries around them.

        Where entries do not surround it, those of the cheapest entry that is at least as wide on both sides.

        Raises:
            ValueError: there is none, so the table says nothing of such a kernel.
        """
        entries = self._entries.get(kernel.shape)
        if entries is not None:
            widths, times = entries
            wanted = (kernel.channels_in, kernel.channels_out)
            found = _between(widths, times, wanted, self.tile)
            if found is not None:
                return found
            enough = (widths >= (kernel.channels_in, kernel.channels_out)).all(1)
            if enough.any():
                return float(times[enough].min())
        raise ValueError(
            f"The latency table of {self.about.get('device', 'this device')} ends before {kernel}."
            " Measure probes of the network that is to be pruned: krp.latency.probes(model, folder)."
        )

    def rest_of(self, values: float) -> float:
        """Milliseconds beside kernels of a network whose layers write so many numbers."""
        return self.rest * values / self.values if self.values else self.rest

    @cached_property
    def _entries(self) -> Mapping[tuple[Any, ...], tuple[np.ndarray, np.ndarray]]:
        listed: dict[tuple[Any, ...], list[tuple[int, int, float]]] = {}
        for kernel, time in self.times.items():
            listed.setdefault(kernel.shape, []).append(
                (kernel.channels_in, kernel.channels_out, time)
            )
        found = {}
        for shape, rows in listed.items():
            array = np.array(rows, float)
            found[shape] = (array[:, :2].astype(int), array[:, 2])
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it as CSV; every line names the device too, so tables can be joined."""
        about = [self.about.get(name, "") for name in ABOUT]
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, "ms", *ABOUT])
            row = [REST, *[""] * (len(COLUMNS) - 2), self.values, f"{self.rest:.6g}"]
            writer.writerow([*row, *about])
            for kernel, time in sorted(self.times.items()):
                writer.writerow([*dataclasses.astuple(kernel), f"{time:.6g}", *about])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LatencyTable:
        """Reads a CSV that `save` wrote.

        Raises:
            ValueError: the file is no such table.
        """
        try:
            if os.path.exists(path) and not os.path.isfile(path):
                raise ValueError("it is no file")
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            about = {name: rows[0][name] for name in ABOUT}
            if any(row[name] != about[name] for row in rows for name in ABOUT):
                raise ValueError("it holds the lines of several devices or types; split it")
            times = {
                Kernel(row["operator"], *(int(row[name]) for name in COLUMNS[1:])): float(row["ms"])
                for row in rows
                if row["operator"] != REST
            }
            rest = [(float(r["ms"]), int(r["channels_out"])) for r in rows if r["operator"] == REST]
        except (KeyError, IndexError, TypeError, ValueError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{os.fspath(path)!r} is no latency table ({error}). Write one with"
                " krp.latency.measure(...).save(path)."
            ) from error
        return cls(times, *(rest[0] if rest else (0.0, 0)), about)


def _between(
    widths: np.ndarray, times: np.ndarray, wanted: tuple[int, int], tile: int
) -> float | None:
    """Milliseconds in proportion to the entries on both sides of each width; None where one of them is missing."""
    known = {(int(a), int(b)): float(time) for (a, b), time in zip(widths, times, strict=True)}
    ratio = wanted[1] / wanted[0]
    if len(set(widths[:, 0])) == len(widths) and (widths[:, 1] == ratio * widths[:, 0]).all():
        sides = [_around(widths[:, 0], wanted[0], tile)]  # depthwise: one side goes with the other
        ends = [(a, int(a * ratio)) for a in sides[0][:2]]
        shares = [1 - sides[0][2], sides[0][2]]
    else:
        sides = [_around(widths[:, axis], wanted[axis], tile) for axis in (0, 1)]
        (a, b, s), (c, d, t) = sides
        ends = [(a, c), (a, d), (b, c), (b, d)]
        shares = [(1 - s) * (1 - t), (1 - s) * t, s * (1 - t), s * t]
    needed = [(end, share) for end, share in zip(ends, shares, strict=True) if share]
    if any(end not in known for end, _ in needed):
        return None
    return sum(known[end] * share for end, share in needed)


def _around(widths: np.ndarray, wanted: int, tile: int) -> tuple[int, int, float]:
    """The widths below and above a width rounded up to a tile, and how far it is from the first to the second.

    Up to a tile, but not past the next entry: what was timed at 8 channels is no guess of 16.
    """
    listed = sorted({int(width) for width in widths})
    if wanted > listed[-1]:
        return -1, -1, 1.0
    whole = min(-(-wanted // tile) * tile, next(width for width in listed if width >= wanted))
    above = next(width for width in listed if width >= whole)
    below = max((width for width in listed if width <= whole), default=above)
    return below, above, (whole - below) / (above - below) if above > below else 1.0
