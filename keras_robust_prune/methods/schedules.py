"""What varies with the pruning step: how much is removed, and how hot the annealing is.

A schedule is anything that answers `schedule(step) -> (should_prune, fraction)`: ours, or any
`tfmot.sparsity.keras.PruningSchedule`, whose sparsity we read as the fraction of units removed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Schedule = Callable[[int], tuple[Any, Any]]

# Far more pruning steps than any network has use for; a schedule beyond it never ends.
MOST_STEPS = 1_000_000


def check_fraction(name: str, value: float) -> float:
    """The value as a float, if it is a fraction in [0, 1).

    Raises:
        ValueError: it is not.

    Example:
        >>> check_fraction("target", 0.5)
        0.5
    """
    found = no_fraction(name, value)
    if found:
        raise ValueError(f"{found}.")
    return float(value)


def no_fraction(name: str, value: Any) -> str:
    """What is wrong with a fraction in [0, 1); empty if it is one."""
    if isinstance(value, (int, float, np.floating, np.integer)) and 0.0 <= value < 1.0:
        return ""
    return (
        f"{name} is {value!r}, but it is a fraction of the units to remove: at least 0 and less than 1."
        " To remove half of the units pass 0.5"
    )


def problems(target: Any, step: Any) -> list[str]:
    """What is wrong with a target and the fraction of one step; `step` may be None."""
    found = [no_fraction("target", target)]
    if step is not None and not (
        isinstance(step, (int, float, np.floating, np.integer)) and 0.0 < step <= 1.0
    ):
        found.append(
            f"step is {step!r}, but it is the fraction of the units that one step removes: more than 0"
            " and at most 1, for example 1/64"
        )
    return [problem for problem in found if problem]


@dataclasses.dataclass(frozen=True)
class EqualSteps:
    """Removes the same fraction at every step until the target is reached.

    Called with a pruning step, 0 for the first, it returns `(should_prune, fraction)`, where the
    fraction counts everything removed up to and including that step. The last step may be shorter
    than the others.

    Attributes:
        target: fraction removed in the end, in [0, 1).
        step: fraction removed by one step, in (0, 1].

    Raises:
        ValueError: a value is out of its range.

    Example:
        >>> schedule = EqualSteps(target=0.5, step=0.2)
        >>> [schedule(step) for step in range(4)]
        [(True, 0.2), (True, 0.4), (True, 0.5), (False, 0.5)]
    """

    target: float
    step: float

    def __post_init__(self) -> None:
        found = problems(self.target, self.step)
        if found:
            raise ValueError("; ".join(found) + ".")

    @property
    def num_steps(self) -> int:
        """How many steps lead to the target."""
        return math.ceil(self.target / self.step - 1e-9)

    def __call__(self, step: int) -> tuple[bool, float]:
        """Whether to prune at this step, and the fraction removed after it."""
        return step < self.num_steps, min(self.target, (step + 1) * self.step)


def fractions(schedule: Schedule) -> tuple[float, ...]:
    """The fraction removed after each pruning step of a schedule, strictly rising.

    Of a `tfmot` schedule the steps between its `begin_step` and `end_step` are asked, at its
    `frequency`, or the first one only if it has no end (`end_step=-1`); its training steps thus
    become pruning steps. Steps at which it does not prune, or asks for no more than before, are
    left out.

    Args:
        schedule: `schedule(step) -> (should_prune, fraction)`.

    Returns:
        Fractions in (0, 1).

    Raises:
        ValueError: a fraction is not in [0, 1), or the schedule never ends.

    Example:
        >>> fractions(EqualSteps(target=0.5, step=0.25))
        (0.25, 0.5)
    """
    found: list[float] = []
    for step in _steps_of(schedule):
        should_prune, fraction = schedule(step)
        if not bool(should_prune):
            if isinstance(schedule, EqualSteps):
                break
            continue
        value = check_fraction("the schedule's fraction", float(fraction))
        if value > (found[-1] if found else 0.0) + 1e-9:
            found.append(value)
    return tuple(found)


def _steps_of(schedule: Schedule) -> range:
    if isinstance(schedule, EqualSteps):
        return range(schedule.num_steps)
    begin = int(getattr(schedule, "begin_step", 0))
    end = getattr(schedule, "end_step", None)
    if end is None:
        raise ValueError(
            f"{schedule!r} has no end_step, so it never ends. Give it an attribute end_step, or"
            " pass target and step instead of a schedule."
        )
    frequency = max(1, int(getattr(schedule, "frequency", 1)))
    steps = range(begin, (int(end) if int(end) >= 0 else begin) + 1, frequency)
    if len(steps) > MOST_STEPS:
        raise ValueError(f"{schedule!r} asks for {len(steps)} pruning steps. Raise its frequency.")
    return steps


def falling_temperature(progress: float) -> float:
    """Temperature of the annealing: from 1.0001 at the start to 0.0001 at its end.

    Args:
        progress: the part of the units that is accepted, in [0, 1].

    Returns:
        A temperature, in units of the energy.

    Example:
        >>> falling_temperature(0.0), round(falling_temperature(1.0), 4)
        (1.0001, 0.0001)

    Reference:
        [Meng et al., 2023](https://arxiv.org/abs/2204.00783) mean this; their program starts at
        0.0001 and rises.
    """
    return 1.0001 - min(max(progress, 0.0), 1.0)
