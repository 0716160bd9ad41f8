"""Selectors: which units of a group are removed.

A selector sees one group at a time and answers with units. Subclass `Selector`, as a frozen dataclass; it then works
with every budget and every repair.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.methods.repair import compensation
from keras_robust_prune.methods.repair.moments import Moments
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.saliency import norm_saliency
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan


class Selector:
    """Chooses units of one group at a time.

    Attributes:
        reads_inputs: whether it asks the run for inputs, or for moments on them.
    """

    reads_inputs: ClassVar[bool] = False

    def select(
        self,
        run: Run,
        state: PruningState,
        group: ChannelGroup,
        count: int,
        generator: np.random.Generator,
    ) -> Sequence[int]:
        """The units that are removed next.

        Args:
            run: the dense network, inputs and moments.
            state: the network and the plan as they stand.
            group: where the units are.
            count: how many shall go; at least one of `state.plan.kept(group.name)` is left.
            generator: what chance draws from.

        Returns:
            `count` different units out of `state.plan.kept(group.name)`, in the order they go.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class LeastNorm(Selector):
    """Units whose incoming times outgoing norm is least."""

    def select(
        self,
        run: Run,
        state: PruningState,
        group: ChannelGroup,
        count: int,
        generator: np.random.Generator,
    ) -> Sequence[int]:
        """The `count` units of least norm product."""
        alive = state.plan.kept(group.name)
        order = np.argsort(norm_saliency(state.graph, group)[alive], kind="stable")
        return [int(unit) for unit in alive[order[:count]]]


@dataclasses.dataclass(frozen=True)
class AtRandom(Selector):
    """Any units, each as likely as the next."""

    def select(
        self,
        run: Run,
        state: PruningState,
        group: ChannelGroup,
        count: int,
        generator: np.random.Generator,
    ) -> Sequence[int]:
        """`count` units drawn."""
        drawn = generator.choice(state.plan.kept(group.name), count, replace=False)
        return [int(unit) for unit in drawn]


@dataclasses.dataclass(frozen=True)
class Elimination(Selector):
    """Backward elimination: each time the unit whose removal costs all consumers least once they are repaired.

    Where no consumer of a group can be solved anew, units of least norm product.

    Reference:
        The score is the optimal brain surgeon's (Hassibi & Stork, 1992) for a whole unit.
    """

    reads_inputs: ClassVar[bool] = True

    def select(
        self,
        run: Run,
        state: PruningState,
        group: ChannelGroup,
        count: int,
        generator: np.random.Generator,
    ) -> Sequence[int]:
        """The first `count` units of the order of elimination."""
        if not run.consumers_of(group):
            return LeastNorm().select(run, state, group, count, generator)
        moments = {name: run.moments(state.graph, name) for name in run.consumers_of(group)}
        return elimination_order(run, state.graph, state.plan, group, count, moments)


def elimination_order(
    run: Run,
    graph: Graph,
    plan: Plan,
    group: ChannelGroup,
    count: int,
    moments: Mapping[str, Moments],
) -> list[int]:
    """Units in the order of elimination.

    With all units there the weights are right as they are, and any ridge fits. So the ridge is the one that is best
    for what a first elimination leaves, and the elimination is repeated where that differs.
    """
    kept = plan.kept(group.name)
    known = run.equations(graph, plan, group)

    def eliminated(ridges: Mapping[str, float]) -> list[int]:
        parts = [compensation.Elimination(moments[n], *known[n], ridges[n]) for n in known]
        return [unit for unit, _ in compensation.eliminate(parts, kept.tolist(), count)]

    first = eliminated(usual := dict.fromkeys(known, compensation.RIDGE))
    left = ~np.isin(kept, first[: (len(kept) + 1) // 2])
    best = {
        name: compensation.best_ridge(moments[name], matrix, np.union1d(rows[left], fixed))
        for name, (matrix, rows, fixed) in known.items()
    }
    return first if best == usual else eliminated(best)
