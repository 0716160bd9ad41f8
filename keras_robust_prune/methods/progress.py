"""The way that all step-by-step methods go: per step, per group, choose, edit, go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.methods.allocation import Remaining
from keras_robust_prune.methods.budgets import removed_per_group
from keras_robust_prune.methods.problem import Problem, PruningState
from keras_robust_prune.surgery.cutting import merge
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan, Removal

# The published experiments remove 1/64 of every layer per step.
PUBLISHED_STEP = 1 / 64


class Chooser(Protocol):
    """Chooses units of one group at a time; lives as long as one run."""

    def choose(
        self,
        graph: Graph,
        group: ChannelGroup,
        plan: Plan,
        count: int,
        generator: np.random.Generator,
    ) -> tuple[Removal, ...]:
        """At least one and at most `count` removals from the units that the plan leaves."""

    def metrics(self) -> Mapping[str, float]:
        """What the choices of the step that ends here amount to; starts the next step."""


def progressive(problem: Problem, chooser: Chooser) -> Iterator[PruningState]:
    """Remove units step by step until the target, each group edited before the next is looked at.

    Args:
        problem: what shall be removed.
        chooser: who chooses.

    Yields:
        The state after every step.
    """
    state = problem.first_state()
    budget = counts_per_step(problem)
    for step in range(state.step, len(budget)):
        graph, plan = state.graph, state.plan
        generator = problem.generator(step)
        for group in problem.groups.groups:
            missing = budget[step][group.name] - int(plan.dropped[group.name].sum())
            while missing > 0:
                removals = chooser.choose(graph, group, plan, missing, generator)
                graph = merge(graph, problem.groups, removals)
                plan = plan + removals
                missing -= len(removals)
        state = PruningState(step + 1, graph, plan, chooser.metrics())
        yield state


def counts_per_step(problem: Problem) -> tuple[Mapping[str, int], ...]:
    """After each step, how many units of every group are gone: the same fraction of each.

    For `measure="units"` that is the step's fraction. For parameters and multiplications it is the
    least for which the network's total falls by the step's fraction.
    """
    fractions = problem.fractions(PUBLISHED_STEP)
    if problem.measure != "units":
        groups = problem.groups.groups
        remaining = Remaining(problem.graph, groups, problem.measure)
        fractions = tuple(_of_units(problem, remaining, fraction) for fraction in fractions)
    return removed_per_group(problem.groups.groups, fractions, problem.round_to)


def _of_units(problem: Problem, remaining: Remaining, fraction: float) -> float:
    """The least fraction of all units whose removal removes a fraction of the total; by bisection."""
    lower, upper = 0.0, 1.0 - 1e-6
    for _ in range(40):
        middle = (lower + upper) / 2
        (gone,) = removed_per_group(problem.groups.groups, (middle,), problem.round_to)
        if remaining(gone) <= (1.0 - fraction) * remaining.total * (1 + 1e-9):
            upper = middle
        else:
            lower = middle
    return upper
