"""The methods that `robust` is compared with, by name.

All of them go the same way: per step, per group from the first to the last, choose units until the step's count is
reached, then edit the network before the next group is looked at. `norm` and `random` are compositions of a budget and
a selector; those that merge stand whole here.

| name | chooses | edits |
|---|---|---|
| `paper` | pairs by annealing over the energy of the output deviation | merge |
| `greedy` | the pairs of least energy | merge |
| `baseline` | pairs by saliency, ranked once, no unit in two of them | merge |
| `norm` | units of least norm product | removal |
| `random` | any units | removal |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.methods.budgets import Budget, Uniform
from keras_robust_prune.methods.composition import Composition
from keras_robust_prune.methods.problem import Method, Problem, PruningState
from keras_robust_prune.methods.reference.guided import Greedy, Paper
from keras_robust_prune.methods.reference.progress import PUBLISHED_STEP, progressive
from keras_robust_prune.methods.saliency import (
    Pair,
    disjoint_pairs,
    lone_units,
    outgoing_norms,
    pair_distances,
)
from keras_robust_prune.methods.selectors import AtRandom, LeastNorm, Selector
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan, Removal


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Pairs in ascending saliency of the dense network, ranked once; no unit is merged twice.

    Raises:
        ValueError: more than half of the units shall go, which disjoint pairs do not allow.

    Reference:
        Srinivas & Babu, "Data-free Parameter Pruning for Deep Neural Networks", 2015.
    """

    name: ClassVar[str] = "baseline"
    reads_inputs: ClassVar[bool] = False

    def steps(self, problem: Problem) -> Iterator[PruningState]:
        """One state per step."""
        end = max(problem.fractions(PUBLISHED_STEP), default=0.0)
        if end > 0.5:
            raise ValueError(_TOO_MANY.format(f"{end:g} of the units"))
        yield from progressive(problem, _RankedOnce(problem.graph))


@dataclasses.dataclass(frozen=True, repr=False)
class Norm(Composition):
    """Units whose incoming times outgoing norm is least, ranked again at every step."""

    budget: Budget = dataclasses.field(default_factory=Uniform)
    selector: Selector = dataclasses.field(default_factory=LeastNorm)
    step: float | None = PUBLISHED_STEP
    name: str = "norm"


@dataclasses.dataclass(frozen=True, repr=False)
class Random(Composition):
    """Any units, each as likely as the next: what every method has to be better than."""

    budget: Budget = dataclasses.field(default_factory=Uniform)
    selector: Selector = dataclasses.field(default_factory=AtRandom)
    step: float | None = PUBLISHED_STEP
    name: str = "random"


METHODS: Mapping[str, Method] = {
    method.name: method for method in (Paper(), Greedy(), Baseline(), Norm(), Random())
}


_TOO_MANY = (
    "method='baseline' merges each unit at most once, so at most half of them can go; {} shall."
    " Lower the target to 0.5, or use 'greedy' or 'paper', which merge again what was merged into."
)


class _RankedOnce:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._pairs: dict[str, list[Pair]] = {}

    def choose(
        self,
        graph: Graph,
        group: ChannelGroup,
        plan: Plan,
        count: int,
        generator: np.random.Generator,
    ) -> tuple[Removal, ...]:
        if group.name not in self._pairs:
            units = np.arange(group.num_units)
            self._pairs[group.name] = list(self._ranked(group, units))
        gone = plan.dropped[group.name]
        left = [pair for pair in self._pairs[group.name] if not gone[pair.drop]]
        if len(left) < count:
            missing = count - len(left)
            raise ValueError(_TOO_MANY.format(f"{missing} more units of '{group.name}'"))
        return tuple(Removal(group.name, pair.drop, pair.into) for pair in left[:count])

    def metrics(self) -> Mapping[str, float]:
        return {}

    def _ranked(self, group: ChannelGroup, units: np.ndarray) -> Iterator[Pair]:
        if not group.merges:
            return lone_units(self._graph, group, units)
        distances = pair_distances(self._graph, group)
        return disjoint_pairs(distances, outgoing_norms(self._graph, group), units)
