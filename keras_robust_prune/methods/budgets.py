"""Budgets: how many units of every group are gone after each step.

Subclass `Budget`, as a frozen dataclass, for one of your own; it then works with every selector and every repair.

Counts are cumulative and never exceed the last fraction: rounding up, as the method does at every
step, is harmless on the way but must not carry the end past the target.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from keras_robust_prune.methods.allocation import Remaining
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.timing import Speed
from keras_robust_prune.surgery.groups import ChannelGroup


class Budget:
    """Says how much each group gives.

    Attributes:
        reads_inputs: whether it asks the run for inputs, or for moments on them.
    """

    reads_inputs: ClassVar[bool] = False

    def takes(self, run: Run, speed: Speed) -> float:
        """About how many seconds it will take, from what can be known before inputs are made.

        Args:
            run: the dense network and the problem.
            speed: of this machine.
        """
        return 0.0

    def counts(self, run: Run, fractions: Sequence[float]) -> tuple[Mapping[str, int], ...]:
        """After each step, how many units of every group are gone.

        Args:
            run: the dense network, and what may be measured on it.
            fractions: what shall be gone after each step, rising, of what `run.problem.measure` counts.

        Returns:
            One mapping per step, from a group's name to a cumulative count below its width.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Uniform(Budget):
    """The same fraction of every group: for parameters and multiplications the least that meets the budget."""

    def counts(self, run: Run, fractions: Sequence[float]) -> tuple[Mapping[str, int], ...]:
        """After each step, how many units of every group are gone."""
        return uniform_counts(run.problem, fractions)


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


def uniform_counts(problem: Problem, fractions: Sequence[float]) -> tuple[Mapping[str, int], ...]:
    """After each step, how many units of every group are gone: the same fraction of each.

    With a target per group each gives its own, in as many parts as there are steps. For `measure="units"` the same
    fraction is the step's. For whatever else it is the least for which the network's total falls by the step's
    fraction. In the end groups give less where the rest of the budget has room for it: units, and stairs of a device,
    go whole, so that one fraction for all may take more than was asked for.
    """
    groups = problem.groups.groups
    if problem.per_group is not None:
        return _each_its_own(problem, problem.per_group, fractions)
    if problem.measure == "units" or not fractions:
        return removed_per_group(groups, fractions, problem.round_to)
    remaining = Remaining(problem.graph, groups, problem.measure)
    end = _least(problem, remaining, fractions[-1])
    found: list[Mapping[str, int]] = []
    for fraction in fractions[:-1]:
        _, gone = _ends(problem, remaining, fraction, {})
        last = found[-1] if found else dict.fromkeys(gone, 0)
        found.append({name: min(max(count, last[name]), end[name]) for name, count in gone.items()})
    return (*found, end)


def _each_its_own(
    problem: Problem, targets: Mapping[str, float], fractions: Sequence[float]
) -> tuple[Mapping[str, int], ...]:
    """After each step, how many units of every group are gone: as much of its target as of the whole."""
    done = [min(fraction / problem.total, 1.0) for fraction in fractions]
    counts = {
        group.name: units_removed(
            group.num_units, [targets[group.name] * part for part in done], problem.round_to
        )
        for group in problem.groups.groups
    }
    return tuple({name: count[step] for name, count in counts.items()} for step in range(len(done)))


def _least(problem: Problem, remaining: Remaining, fraction: float) -> Mapping[str, int]:
    """The fewest units that make up a fraction of the total, every group giving the same fraction of its own.

    Where a group's next unit exceeds the budget the group is settled, and the others go on to give less.
    """
    budget = _budget(remaining, fraction)
    settled: dict[str, int] = {}
    while len(settled) < len(problem.groups.groups):
        few, many = _ends(problem, remaining, fraction, settled)
        for name, count in few.items():
            if count != many[name] and remaining(fewer := {**many, name: count}) <= budget:
                many = fewer
        stuck = {name: count for name, count in many.items() if count != few[name]}
        if not stuck:
            return many
        settled |= stuck
    return settled


def _ends(
    problem: Problem, remaining: Remaining, fraction: float, settled: Mapping[str, int]
) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Where the same fraction of every group begins to make up a fraction of the total: too few units, and enough.

    By bisection; both are the same where no unit need go. Settled groups give what they give.
    """
    budget = _budget(remaining, fraction)

    def given(share: float) -> dict[str, int]:
        (gone,) = removed_per_group(problem.groups.groups, (share,), problem.round_to)
        return {**gone, **settled}

    lower, upper = 0.0, 1.0 - 1e-6
    few, many = given(lower), given(upper)
    if remaining(few) <= budget:
        return few, few
    widest = max(problem.groups.widths.values())
    while upper - lower > 0.5 / widest**2:  # two groups come to their next units no nearer together
        middle = (lower + upper) / 2
        gone = given(middle)
        if remaining(gone) <= budget:
            upper, many = middle, gone
        else:
            lower, few = middle, gone
    return few, many


def _budget(remaining: Remaining, fraction: float) -> float:
    return (1.0 - fraction) * remaining.total * (1 + 1e-9)
