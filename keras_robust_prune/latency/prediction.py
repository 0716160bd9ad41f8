"""Milliseconds of a network from a table, and as a budget: as a function of how many units are gone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io import reading
from keras_robust_prune.latency.kernels import KernelUse, kernels_of
from keras_robust_prune.latency.table import LatencyTable
from keras_robust_prune.surgery.costs import num_values
from keras_robust_prune.surgery.groups import ChannelGroup


def predict(model: Any, table: LatencyTable) -> float:
    """Milliseconds that a network will take.

    Args:
        model: a tf_keras or Keras 3 model, the path of one, or a `Graph`; dense or pruned.
        table: of the device.

    Raises:
        ValueError: a kernel of it is wider than what the table knows, or has no probe.

    Example:
        >>> import tf_keras
        >>> from keras_robust_prune.latency.kernels import Kernel
        >>> kernel = Kernel("FULLY_CONNECTED", 1, 1, 1, 1, 1, 8, 16)
        >>> layers = [tf_keras.Input((8,)), tf_keras.layers.Dense(12)]
        >>> predict(tf_keras.Sequential(layers), LatencyTable({kernel: 0.5}))
        0.5
    """
    graph = model if isinstance(model, Graph) else reading.read(model)
    kernels = sum(table(use.kernel) for use in kernels_of(graph))
    return kernels + table.rest_of(num_values(graph))


@dataclasses.dataclass(frozen=True, eq=False)
class Latency:
    """Latency as what a budget counts: `krp.prune(model, 0.4, measure=krp.latency.Latency(table))`.

    Attributes:
        table: of the device.
    """

    table: LatencyTable
    name, unit = "latency", "ms"

    def remaining(self, graph: Graph, groups: Sequence[ChannelGroup]) -> RemainingLatency:
        """Milliseconds as a function of how many units of every group are gone."""
        return RemainingLatency(graph, groups, self.table)


class RemainingLatency:
    """Milliseconds of a network as a function of how many units are gone.

    Args:
        graph: the dense network.
        groups: where units go.
        table: of the device.
    """

    def __init__(self, graph: Graph, groups: Sequence[ChannelGroup], table: LatencyTable) -> None:
        self._table = table
        self._uses = [(use, *_shrinking(use, groups)) for use in kernels_of(graph)]
        self._known: dict[Any, float] = {}
        self._rest = table.rest_of(num_values(graph))
        self._written = sum(
            use.kernel.rows * use.kernel.columns * use.kernel.channels_out
            for use, _, _ in self._uses
        )
        self.total = self({})

    def __call__(self, gone: Mapping[str, int]) -> float:
        """What remains when so many units of each group are gone."""
        left, written = 0.0, 0
        for use, before, after in self._uses:
            kernel = use.kernel
            channels_in = kernel.channels_in - before(gone)
            channels_out = kernel.channels_out - after(gone)
            key = (kernel.shape, channels_in, channels_out)
            if key not in self._known:
                self._known[key] = self._table(kernel.of_widths(channels_in, channels_out))
            left += self._known[key]
            written += kernel.rows * kernel.columns * channels_out
        return left + self._rest * written / self._written


Gone = Callable[[Mapping[str, int]], int]


def _shrinking(use: KernelUse, groups: Sequence[ChannelGroup]) -> tuple[Gone, Gone]:
    """How many channels in and out a kernel loses, from how many units are gone."""
    before, after = (_losing(use, axis, groups) for axis in use.axes)
    times = use.kernel.channels_out // use.kernel.channels_in
    if use.axes[0] == use.axes[1]:
        return before, lambda gone: before(gone) * times
    return before, after


def _losing(use: KernelUse, axis: int, groups: Sequence[ChannelGroup]) -> Gone:
    shares = [
        (group.name, slot.positions.shape[1])
        for group in groups
        for slot in group.slots
        if slot.goes and (slot.layer, slot.weight, slot.axis) == (use.layer, use.weight, axis)
    ]
    return lambda gone: sum(gone.get(name, 0) * count for name, count in shares)
