"""The way that all step-by-step methods go: per step, per site, choose, edit, go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from keras_robust_prune.network.graph import Graph
from keras_robust_prune.network.sites import Site
from keras_robust_prune.search.budgets import removed_per_site
from keras_robust_prune.search.problem import Problem, PruningState
from keras_robust_prune.surgery.cutting import merge
from keras_robust_prune.surgery.plan import Plan, Removal

# The published experiments remove 1/64 of every layer per step.
PUBLISHED_STEP = 1 / 64


class Chooser(Protocol):
    """Chooses units of one site at a time; lives as long as one run."""

    def choose(
        self, graph: Graph, site: Site, plan: Plan, count: int, generator: np.random.Generator
    ) -> tuple[Removal, ...]:
        """At least one and at most `count` removals from the units that the plan leaves."""

    def metrics(self) -> Mapping[str, float]:
        """What the choices of the step that ends here amount to; starts the next step."""


def progressive(problem: Problem, chooser: Chooser) -> Iterator[PruningState]:
    """Remove units step by step until the target, each site edited before the next is looked at.

    Args:
        problem: what shall be removed; only `measure="units"` fixes counts per site in advance.
        chooser: who chooses.

    Yields:
        The state after every step.
    """
    state = problem.first_state()
    fractions = problem.fractions(PUBLISHED_STEP)
    budget = removed_per_site(problem.sites.sites, fractions, problem.round_to)
    for step in range(state.step, len(budget)):
        graph, plan = state.graph, state.plan
        generator = problem.generator(step)
        for site in problem.sites.sites:
            missing = budget[step][site.name] - int(plan.dropped[site.name].sum())
            while missing > 0:
                removals = chooser.choose(graph, site, plan, missing, generator)
                graph = merge(graph, problem.sites, removals)
                plan = plan + removals
                missing -= len(removals)
        state = PruningState(step + 1, graph, plan, chooser.metrics())
        yield state
