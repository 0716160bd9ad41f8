"""How many units of every group are gone after each step.

Counts are cumulative and never exceed the last fraction: rounding up, as the method does at every
step, is harmless on the way but must not carry the end past the target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from keras_robust_prune.surgery.groups import ChannelGroup


def _tolerance(value: float) -> float:
    # Fractions come as float32 from tfmot's schedules: 0.1 of 1,000 units are 100, not 101.
    return 1e-9 + 1e-6 * value


def units_removed(num_units: int, fractions: Sequence[float], round_to: int = 1) -> tuple[int, ...]:
    """How many of `num_units` units are gone after each fraction; never falling.

    `ceil(fraction * num_units)`, but at most `floor` of it for the last fraction; what remains is
    rounded up to a multiple of `round_to` and is at least one unit.

    Args:
        num_units: the width before pruning.
        fractions: what shall be gone after each step, rising, in [0, 1).
        round_to: the width that remains is a multiple of it, or the whole width.

    Returns:
        One count per fraction.

    Example:
        >>> units_removed(10, (0.25, 0.5, 0.75))
        (3, 5, 7)
        >>> units_removed(100, (0.5,), round_to=8)
        (44,)
    """
    if not fractions:
        return ()
    end = fractions[-1] * num_units
    most = math.floor(end + _tolerance(end))
    counts: list[int] = []
    for fraction in fractions:
        removed = fraction * num_units
        kept = num_units - min(math.ceil(removed - _tolerance(removed)), most)
        kept = min(num_units, math.ceil(max(kept, 1) / round_to) * round_to)
        counts.append(max(num_units - kept, counts[-1] if counts else 0))
    return tuple(counts)


def removed_per_group(
    groups: Sequence[ChannelGroup], fractions: Sequence[float], round_to: int = 1
) -> tuple[Mapping[str, int], ...]:
    """After each step, how many units of every group are gone: the same fraction of each.

    Args:
        groups: what can be removed.
        fractions: what shall be gone after each step, rising, in [0, 1).
        round_to: widths that remain become multiples of it.

    Returns:
        One mapping per step, from a group's name to a cumulative count.
    """
    counts = {group.name: units_removed(group.num_units, fractions, round_to) for group in groups}
    return tuple(
        {name: count[step] for name, count in counts.items()} for step in range(len(fractions))
    )
