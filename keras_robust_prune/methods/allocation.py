"""Budgets of parameters or multiplications: how much each group gives.

Every group comes with a curve: what its first, second, ... removed unit costs the outputs. Units (or
blocks of `round_to`) go where a unit of cost saves most, until what remains of the network is
within the budget.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.layers.samples import macs_of
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.groups import ChannelGroup

# A budget is met where this share of it is still used: a stair that would leave less is taken last.
NEAR = 0.9


class Remaining:
    """What is left of a network as a function of how many units are gone.

    Args:
        graph: the dense network.
        groups: where units go.
        measure: `"params"` or `"macs"`; sizes of weights by layer and name, of which then their sum is left; or a value
            with `remaining(graph, groups)`, see `measures`.
    """

    def __init__(self, graph: Graph, groups: Sequence[ChannelGroup], measure: Any) -> None:
        self._left = None
        if hasattr(measure, "remaining"):
            self._left = measure.remaining(graph, groups)
            self.total = self._left.total
            return
        sizes = measure if isinstance(measure, Mapping) else None
        self.total = float(
            sum(sizes.values())
            if sizes is not None
            else graph.num_params
            if measure == "params"
            else num_macs(graph)
        )
        self._terms: list[tuple[float, list[list[tuple[str, float]]]]] = []
        for layer in graph.layers.values():
            kind = layer_type(layer)
            kernels = kind.kernels_of(layer)
            macs = sum(macs_of(graph, node) for node in graph.calls[layer.name])
            entries = sum(layer.weights[name].size for name in kernels)
            for weight, value in layer.weights.items():
                size = float(value.size if sizes is None else sizes.get((layer.name, weight), 0.0))
                if measure == "macs":
                    size = size * macs / entries if weight in kernels else 0.0
                axes: dict[int, list[tuple[str, float]]] = {}
                for group in groups:
                    for slot in group.slots:
                        if slot.goes and (slot.layer, slot.weight) == (layer.name, weight):
                            share = slot.positions.shape[1] / value.shape[slot.axis]
                            axes.setdefault(slot.axis, []).append((group.name, share))
                if size and axes:
                    self._terms.append((size, list(axes.values())))
        self._fixed = self.total - sum(size for size, _ in self._terms)

    def __call__(self, gone: Mapping[str, int]) -> float:
        """What remains when so many units of each group are gone."""
        if self._left is not None:
            return float(self._left(gone))
        left = self._fixed
        for size, axes in self._terms:
            for axis in axes:
                size *= 1.0 - sum(gone.get(group, 0) * share for group, share in axis)
            left += size
        return left


def allocate(
    curves: Mapping[str, np.ndarray],
    widths: Mapping[str, int],
    remaining: Remaining,
    fractions: Sequence[float],
    round_to: int = 1,
    protected: Collection[str] = (),
) -> tuple[Mapping[str, int], ...]:
    """After each step, how many units of every group are gone.

    Args:
        curves: per group what each further removal costs, at least 0, `width - 1` numbers.
        widths: number of units per group.
        remaining: what the budget counts.
        fractions: what shall be gone of `remaining.total` after each step, rising.
        round_to: widths that remain are multiples of it, or untouched.
        protected: Groups that give only once nothing else is left.

    Returns:
        One mapping per fraction: what remains is at most `1 - fraction` of the total, unless nothing is left to
        remove, and no unit (or block) that went in that step could have stayed.
    """
    gone = dict.fromkeys(widths, 0)
    rising = {name: np.maximum.accumulate(np.asarray(curve)) for name, curve in curves.items()}
    steps: list[Mapping[str, int]] = []
    left = remaining(gone)
    for fraction in fractions:
        budget, slack = (1.0 - fraction) * remaining.total, 1e-6 * remaining.total
        while left > budget + slack:
            best, price = None, (True, True, np.inf)
            for name, width in widths.items():
                after = gone[name] + _block(width - gone[name], round_to)
                if after >= width:
                    continue
                rest = remaining({**gone, name: after})
                # Kernels are staircases: what saves nothing yet may save something a few units on.
                while rest >= left and after + round_to < width:
                    after += round_to
                    rest = remaining({**gone, name: after})
                cost = float(rising[name][gone[name] : after].sum())
                if rest >= left:
                    continue
                # What is saved beyond the budget is worth nothing, and far beyond it only goes what nothing replaces.
                beyond = rest < NEAR * budget
                value = (name in protected, beyond, (cost + 1e-12) / (left - max(rest, budget)))
                if value < price:
                    best, price = (name, after, rest), value
            if best is None:
                break
            gone[best[0]], left = best[1], best[2]
        if left <= budget + slack:
            floor = steps[-1] if steps else dict.fromkeys(widths, 0)
            _give_back(gone, floor, rising, remaining, budget + slack, round_to, protected)
            left = remaining(gone)
        steps.append(dict(gone))
    return tuple(steps)


def _give_back(
    gone: dict[str, int],
    floor: Mapping[str, int],
    rising: Mapping[str, np.ndarray],
    remaining: Remaining,
    budget: float,
    round_to: int,
    protected: Collection[str],
) -> None:
    """Units come back for which a budget still has room, those first that cost most for what they take of it."""
    left = remaining(gone)
    while True:
        best, worth = None, (False, 0.0)
        for name, count in gone.items():
            back, rest = count, np.inf
            while (fewer := back - min(round_to, back)) >= floor[name] and back:
                more = remaining({**gone, name: fewer})
                # On one stair they come all the way.
                if more > (budget if back == count else max(rest, left)):
                    break
                back, rest = fewer, more
            if back == count:
                continue
            cost = float(rising[name][back:count].sum())
            value = (name in protected, (cost + 1e-12) / max(rest - left, 1e-9 * remaining.total))
            if value > worth:
                best, worth = (name, back, rest), value
        if best is None:
            return
        gone[best[0]], left = best[1], best[2]


def _block(width: int, round_to: int) -> int:
    """How many units go at least, so that a multiple of `round_to` remains."""
    return width % round_to or round_to
