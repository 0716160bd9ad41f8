"""What a budget may count: parameters, multiplications, bytes of the file, milliseconds, or several of them at once.

A measure is a name, or a value with `remaining(graph, groups)`, which gives what is left as a function of how many
units of every group are gone. Write one of your own for whatever a device is short of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.latency.files import whole_file
from keras_robust_prune.methods.allocation import Remaining
from keras_robust_prune.surgery.groups import ChannelGroup

# Bytes of a kernel's entry, and of what is stored for each of its output channels: bias, scales and zero points.
_BYTES = {"float32": (4, 4), "float16": (2, 2), "dynamic": (1, 16), "int8": (1, 28)}
# The converter leaves smaller kernels in float32 with "dynamic".
_SMALLEST_DYNAMIC = 1024


class Left(Protocol):
    """What is left of a network as a function of how many units are gone.

    Attributes:
        total: what the dense network has.
    """

    @property
    def total(self) -> float: ...

    def __call__(self, gone: Mapping[str, int]) -> float:
        """What is left when so many units of each group are gone."""


@runtime_checkable
class Measure(Protocol):
    """What a budget counts."""

    @property
    def name(self) -> str:
        """What it is called in results."""

    def remaining(self, graph: Graph, groups: Sequence[ChannelGroup]) -> Left:
        """What is left of a network as a function of how many units are gone."""


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Bytes of the exported file, as `measure="bytes"` counts them in float32.

    The dense network is converted once; what its weights do not explain (operators, names) stays.

    Attributes:
        quantize: how numbers are stored: `"float32"`, `"float16"`, `"dynamic"` or `"int8"`.
    """

    quantize: str = "float32"
    name = unit = "bytes"

    def __post_init__(self) -> None:
        if self.quantize not in _BYTES:
            raise ValueError(
                f"Bytes(quantize={self.quantize!r}): it is one of {', '.join(_BYTES)}."
            )

    def remaining(self, graph: Graph, groups: Sequence[ChannelGroup]) -> Left:
        """Bytes as a function of how many units of every group are gone."""
        weights = Remaining(graph, groups, _sizes(graph, self.quantize))
        file = len(whole_file(graph, self.quantize))
        return _Shifted(weights, float(file - weights.total))


@dataclasses.dataclass(frozen=True, eq=False)
class _Shifted:
    """Something left, and what stays anyway."""

    left: Left
    fixed: float

    @property
    def total(self) -> float:
        return self.left.total + self.fixed

    def __call__(self, gone: Mapping[str, int]) -> float:
        return self.left(gone) + self.fixed


def _sizes(graph: Graph, quantize: str) -> dict[tuple[str, str], float]:
    """Bytes in the file of every weight that it holds; normalisation melts into the kernels."""
    found = {}
    for layer in graph.layers.values():
        for name, value in layer.weights.items():
            if value.ndim < 2:
                continue
            per_entry, per_channel = _BYTES[quantize]
            if quantize == "dynamic" and value.size < _SMALLEST_DYNAMIC:
                per_entry, per_channel = _BYTES["float32"]
            channels = value.shape[-1] if value.shape[-1] > 1 else value.shape[-2]
            found[layer.name, name] = float(value.size * per_entry + channels * per_channel)
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Limits:
    """Several measures at once: what is left is how far they exceed their limits, each as a share of its own.

    Attributes:
        limits: what may be left of each measure: a fraction of the dense network in (0, 1], or text with a unit, such
            as `"3 ms"` or `"250 kB"`.

    Example:
        >>> Limits({"macs": 0.5, "params": 0.25}).name
        'macs and params'
    """

    limits: Mapping[Any, float | str]

    @property
    def name(self) -> str:
        """The names of the measures."""
        return " and ".join(str(getattr(key, "name", key)) for key in self.limits)

    def target(self, graph: Graph, groups: Sequence[ChannelGroup]) -> float:
        """What has to be removed, as a fraction of how far the network is from its limits."""
        return max(0.0, 1.0 - 1.0 / self.remaining(graph, groups).total)

    def remaining(self, graph: Graph, groups: Sequence[ChannelGroup]) -> Left:
        """How far the network is from its limits: 1 where it keeps them all."""
        return _Excess([(left, most) for _, left, most in self.parts(graph, groups)])

    def parts(
        self, graph: Graph, groups: Sequence[ChannelGroup]
    ) -> Iterator[tuple[Measure, Left, float]]:
        """Every measure, what is left of it, and how much of it may be."""
        for key, limit in self.limits.items():
            measure = measure_for(key)
            left = measure.remaining(graph, groups)
            yield measure, left, _absolute(limit, left.total)


class _Excess:
    """The mean of shares of limits, a limit that is kept counting as 1.

    Of the largest share alone nothing would be saved while another measure is as far from its limit: whole groups went
    until both had moved.
    """

    def __init__(self, parts: Sequence[tuple[Left, float]]) -> None:
        self._parts = parts
        self.total = self({})

    def __call__(self, gone: Mapping[str, int]) -> float:
        return _excess([left(gone) / most for left, most in self._parts])


def _excess(shares: Sequence[float]) -> float:
    return sum(max(share, 1.0) for share in shares) / len(shares)


_UNITS = {"ms": 1.0, "s": 1000.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "": 1.0}


def _absolute(limit: float | str, total: float) -> float:
    """A limit in the measure's own unit."""
    if isinstance(limit, str):
        number = limit.strip().rstrip("abkmsBKMS ")
        unit = limit.strip()[len(number) :].strip().lower()
        try:
            return float(number) * _UNITS[unit]
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"The limit {limit!r} is no number with a unit, such as '3 ms' or '250 kB'."
            ) from error
    if not 0 < limit <= 1:
        raise ValueError(f"A limit is a fraction in (0, 1], or text such as '3 ms'; got {limit!r}.")
    return float(limit) * total


@dataclasses.dataclass(frozen=True)
class Counted:
    """Parameters or multiplications.

    Attributes:
        name: `"params"` or `"macs"`.
    """

    name: str
    unit = ""

    def remaining(self, graph: Graph, groups: Sequence[ChannelGroup]) -> Left:
        """Their number as a function of how many units of every group are gone."""
        return Remaining(graph, groups, self.name)


def measure_for(given: Any) -> Measure:
    """The measure that a name or a mapping of limits stands for.

    Raises:
        ValueError: there is none of that name, or latency without a table.
    """
    if isinstance(given, Mapping):
        return Limits(given)
    if isinstance(given, Measure):
        return given
    if given in ("params", "macs"):
        return Counted(given)
    if given == "bytes":
        return Bytes()
    if given == "latency":
        raise ValueError(
            "measure='latency' needs a table of the device: measure=krp.latency.Latency(table), with"
            " table = krp.latency.measure(folder) or krp.latency.LatencyTable.load(path)"
            " (--latency_table=FILE)."
        )
    raise ValueError(
        f"measure is {given!r}, but it is 'units', 'params', 'macs', 'bytes', or a value such as"
        " krp.latency.Latency(table)."
    )


@dataclasses.dataclass(frozen=True)
class Amount:
    """How much of a measure a network has.

    Attributes:
        name: of the measure.
        unit: what it is counted in.
        before, after: pruning; predicted where the measure predicts.
        most: how much there may be.

    Example:
        >>> print(Amount("latency", "ms", 1.0, 0.48, 0.5))
        latency 0.48 ms, at most 0.5, 1 before
    """

    name: str
    unit: str
    before: float
    after: float
    most: float

    def __str__(self) -> str:
        before, after, most = (
            f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
            for value in (self.before, self.after, self.most)
        )
        return f"{' '.join([self.name, after, self.unit]).strip()}, at most {most}, {before} before"


def amounts(
    measure: Any,
    target: float,
    graph: Graph,
    groups: Sequence[ChannelGroup],
    gone: Mapping[str, int],
) -> tuple[Amount, ...]:
    """How much of each measure is left.

    Args:
        measure: a name or a value, see `measure_for`.
        target: which fraction of it is to go; limits say it themselves.
        graph: the dense network.
        groups: of it.
        gone: how many units of every group are gone.
    """
    found = measure_for(measure)
    if isinstance(found, Limits):
        parts = list(found.parts(graph, groups))
    else:
        left = found.remaining(graph, groups)
        parts = [(found, left, (1.0 - target) * left.total)]
    return tuple(
        Amount(item.name, getattr(item, "unit", ""), left.total, left(gone), most)
        for item, left, most in parts
    )


def removed_of(found: Sequence[Amount]) -> float:
    """Which fraction is gone of an amount, or of how far several are from their limits.

    Example:
        >>> bytes_, time = Amount("bytes", "", 100, 50, 50), Amount("latency", "ms", 3.0, 1.5, 1.0)
        >>> (
        ...     removed_of([bytes_]),
        ...     removed_of([bytes_, time]),
        ... )  # 1 - 50 / 100, and 1 - (1 + 1.5) / (2 + 3)
        (0.5, 0.5)
    """
    if len(found) == 1:
        return 1.0 - found[0].after / found[0].before
    after = _excess([item.after / item.most for item in found])
    return 1.0 - after / _excess([item.before / item.most for item in found])
