"""Annealing over sets: which units of a group stay, judged by what their readers lose after repair.

A try lets one unit leave and another, or the same, enter; all that read the group are re-solved
after each flip. Who leaves is drawn by what that costs, who enters by what that gains, at a
temperature that falls. An extra term may judge the pair; then the try is taken back with the usual
probability. The best set that was met is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from keras_robust_prune.methods.repair.exchange import Exchange
from keras_robust_prune.methods.schedules import falling_temperature

_START = 0.3  # temperature at the start, in what a kept unit usually costs


def swap(
    tables: Sequence[Exchange],
    kept: np.ndarray,
    tries: int,
    generator: np.random.Generator,
    temperature: Callable[[float], float] = falling_temperature,
    extra: Callable[[np.ndarray], float] | None = None,
) -> tuple[np.ndarray, float]:
    """Swap units until the tries are used up.

    Args:
        tables: one per reader, over the same units, pivoted on `kept`; they are changed.
        kept: which units are kept to begin with, `(num_units,)` bool.
        tries: how many swaps are tried.
        generator: what chance draws from.
        temperature: by the fraction of tries done, [0, 1], in units of the temperature at the start.
        extra: a further energy of a set, in the unit of the tables' errors; None for none.

    Returns:
        Which units are kept in the best set met, and by how much its energy lies below the first.
    """
    kept = kept.copy()
    if kept.all() or not kept.any():
        return kept, 0.0
    start = _START * float(np.median(_changes(tables)[kept]))
    best, lowest, level = kept.copy(), 0.0, 0.0
    beside = extra(kept) if extra else 0.0
    first = beside
    for number in range(tries):
        heat = max(start * temperature(number / tries), 1e-12)
        before = level
        leaving = _drawn(-_changes(tables), kept, heat, generator)
        level += _flip(tables, kept, leaving)
        entering = _drawn(_changes(tables), ~kept, heat, generator)
        level += _flip(tables, kept, entering)
        if extra and leaving != entering:
            now = extra(kept)
            if generator.random() >= math.exp(min(0.0, (beside - now) / heat)):
                _flip(tables, kept, entering)
                _flip(tables, kept, leaving)
                level = before
            else:
                beside = now
        total = level + beside - first
        if total < lowest - 1e-12:
            best, lowest = kept.copy(), total
    return best, -lowest


def _changes(tables: Sequence[Exchange]) -> np.ndarray:
    return np.asarray(np.sum([table.changes for table in tables], axis=0))


def _flip(tables: Sequence[Exchange], kept: np.ndarray, unit: int) -> float:
    """Flip a unit in every table and in `kept`; returns the change of the energy."""
    change = float(_changes(tables)[unit])
    for table in tables:
        table.flip(unit)
    kept[unit] = not kept[unit]
    return -change if kept[unit] else change


def _drawn(
    scores: np.ndarray, among: np.ndarray, heat: float, generator: np.random.Generator
) -> int:
    """A unit, with probability proportional to `exp(score / heat)`."""
    noisy = scores / heat + generator.gumbel(size=len(scores))
    return int(np.argmax(np.where(among, noisy, -np.inf)))
