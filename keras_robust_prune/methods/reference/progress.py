"""The way that all step-by-step methods go: per step, per group, choose, edit, go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.methods.budgets import uniform_counts
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
        chooser: what chooses.

    Yields:
        The state after every step.
    """
    state = problem.first_state()
    budget = uniform_counts(problem, problem.fractions(PUBLISHED_STEP))
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
