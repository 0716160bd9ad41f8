"""Methods that look at the outputs: greedy, and the paper's annealing.

Both take pairs of units in ascending saliency, push what merging them can do to the outputs through
the network as intervals, and score it by an energy. A candidate is scored together with those
accepted before it at the same group and step: of their summed deviation, divided by their number so
that sets of any size compare.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import ClassVar

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.methods.problem import Problem, PruningState
from keras_robust_prune.methods.reference.annealing import anneal
from keras_robust_prune.methods.reference.energy import (
    Energy,
    RelativeEnergy,
    Scale,
    entropy,
    l1_width,
    weighed,
)
from keras_robust_prune.methods.reference.progress import progressive
from keras_robust_prune.methods.saliency import (
    Pair,
    disjoint_pairs,
    incoming_arrays,
    lone_units,
    outgoing_norms,
    pair_distances,
)
from keras_robust_prune.methods.schedules import falling_temperature
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.verify.bounds import Bounds, interval_bounds
from keras_robust_prune.verify.deviation import output_deviation
from keras_robust_prune.verify.updating import updated_bounds

# How many pairs are scored for each that is needed, and at least.
CANDIDATES_PER_MERGE = 4
LEAST_CANDIDATES = 16


@dataclasses.dataclass(frozen=True)
class Paper:
    """Annealing over the energy of the output deviation, as the paper means it.

    The temperature falls from 1 to 0 within a round, in standard deviations of the candidates'
    energies. In plain energies, as published, it is so far above all differences that almost
    everybody is accepted, which leaves the order of saliency: `published_heat` shows that.

    Attributes:
        energy: of an output deviation. The published one, `PublishedEnergy(alpha)`, saturates on
            ReLU networks; the default does not.
        bias: how biases count in the saliency, `"weight"` or `"relative"`.
        published_heat: whether temperatures are energies.

    Reference:
        [Meng et al., 2023](https://arxiv.org/abs/2204.00783). Their program's faults are mended:
        every pair is offered, bounds are bounds and follow the input range, accepted merges count
        in the score of the next, the temperature falls.
    """

    name: ClassVar[str] = "paper"
    reads_inputs: ClassVar[bool] = False
    energy: Energy = dataclasses.field(default_factory=RelativeEnergy)
    bias: str = "weight"
    published_heat: bool = False

    def steps(self, problem: Problem) -> Iterator[PruningState]:
        """One state per step."""
        chooser = _Annealing(problem, self.energy, self.bias)
        chooser.published_heat = self.published_heat
        yield from progressive(problem, chooser)


@dataclasses.dataclass(frozen=True)
class Greedy:
    """The candidates of least energy at every step; nothing is drawn.

    Attributes:
        energy: of an output deviation.
        bias: how biases count in the saliency, `"weight"` or `"relative"`.

    Reference:
        The mode "impact" of the authors' program, [Meng et al., 2023](https://arxiv.org/abs/2204.00783).
    """

    name: ClassVar[str] = "greedy"
    reads_inputs: ClassVar[bool] = False
    energy: Energy = dataclasses.field(default_factory=RelativeEnergy)
    bias: str = "weight"

    def steps(self, problem: Problem) -> Iterator[PruningState]:
        """One state per step."""
        yield from progressive(problem, _Greedy(problem, self.energy, self.bias))


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Pairs of one group and what merging each can do to the outputs.

    Attributes:
        pairs: in ascending saliency.
        deviation: pruned minus unpruned logits, `(num_pairs, num_outputs)`.
        scale: a usual width and entropy among them.
        energy: what weighs the two.
        energies: of each alone, `(num_pairs,)`.
    """

    pairs: tuple[Pair, ...]
    deviation: Interval
    scale: Scale
    energy: Energy
    energies: np.ndarray

    @classmethod
    def of(cls, pairs: tuple[Pair, ...], deviation: Interval, energy: Energy) -> Candidates:
        """Weigh every candidate, measured by what is usual among them."""
        energies, scale = weighed(deviation, energy)
        return cls(pairs, deviation, scale, energy, energies)

    def together(self, chosen: list[int]) -> Interval:
        """The sum of some candidates' deviations, `(num_outputs,)`."""
        return Interval(
            self.deviation.lower[chosen].sum(axis=0), self.deviation.upper[chosen].sum(axis=0)
        )

    def score(self, candidate: int, accepted: list[int]) -> float:
        """Energy of the mean deviation of a candidate and those accepted; lower is better."""
        chosen = [*accepted, candidate]
        total = self.together(chosen)
        mean = Interval(total.lower / len(chosen), total.upper / len(chosen))
        return float(self.energy(l1_width(mean), entropy(mean), self.scale))


class _Guided:
    """Keeps what stays the same between choices: distances, bounds."""

    def __init__(self, problem: Problem, energy: Energy, bias: str) -> None:
        self._energy = energy
        self._bias = bias
        self._distances: dict[str, tuple[tuple[np.ndarray, ...], np.ndarray]] = {}
        graph = problem.first_state().graph
        program = lower(graph, np.float32)
        self._graph = graph
        self._bounds = interval_bounds(program, *problem.input_ends())
        self._energies: list[float] = []
        self._deviation: Interval | None = None

    def choose(
        self,
        graph: Graph,
        group: ChannelGroup,
        plan: Plan,
        count: int,
        generator: np.random.Generator,
    ) -> tuple[Removal, ...]:
        bounds = self._bounds_of(graph)
        pairs = self._pairs_of(graph, group, plan.kept(group.name))
        pool = tuple(islice(pairs, max(CANDIDATES_PER_MERGE * count, LEAST_CANDIDATES)))
        deviation = output_deviation(
            bounds.program,
            group,
            [pair.drop for pair in pool],
            [pair.keep for pair in pool],
            bounds,
        )
        candidates = Candidates.of(pool, deviation, self._energy)
        chosen = self.select(candidates, min(count, len(pool)), generator)
        self._note(candidates, chosen)
        return tuple(Removal(group.name, pool[k].drop, pool[k].into) for k in chosen)

    def select(
        self, candidates: Candidates, count: int, generator: np.random.Generator
    ) -> list[int]:
        """Which candidates are accepted, in order."""
        raise NotImplementedError

    def metrics(self) -> Mapping[str, float]:
        if self._deviation is None:
            return {}
        found = {
            "energy": float(np.mean(self._energies)),
            "output_l1": float(l1_width(self._deviation)),
            "output_entropy": float(entropy(self._deviation)),
        }
        self._energies, self._deviation = [], None
        return found

    def _note(self, candidates: Candidates, chosen: list[int]) -> None:
        total = candidates.together(chosen)
        self._deviation = total if self._deviation is None else self._deviation + total
        self._energies.append(candidates.score(chosen[-1], chosen[:-1]))

    def _pairs_of(self, graph: Graph, group: ChannelGroup, alive: np.ndarray) -> Iterator[Pair]:
        if not group.merges:
            return lone_units(graph, group, alive)
        return disjoint_pairs(self._distances_of(graph, group), outgoing_norms(graph, group), alive)

    def _distances_of(self, graph: Graph, group: ChannelGroup) -> np.ndarray:
        """Merging leaves incoming weights alone: they change only when the group before is merged."""
        arrays = incoming_arrays(graph, group)
        known = self._distances.get(group.name)
        if known is None or any(a is not b for a, b in zip(known[0], arrays, strict=True)):
            known = arrays, pair_distances(graph, group, self._bias)
            self._distances[group.name] = known
        return known[1]

    def _bounds_of(self, graph: Graph) -> Bounds:
        changed = {
            name for name, layer in graph.layers.items() if layer is not self._graph.layers[name]
        }
        if changed:
            self._bounds = updated_bounds(self._bounds, graph, changed)
            self._graph = graph
        return self._bounds


class _Annealing(_Guided):
    published_heat = False

    def select(
        self, candidates: Candidates, count: int, generator: np.random.Generator
    ) -> list[int]:
        unit = 1.0 if self.published_heat else max(float(np.std(candidates.energies)), 1e-12)
        return anneal(
            len(candidates.pairs),
            count,
            candidates.score,
            generator,
            lambda progress: unit * falling_temperature(progress),
        )


class _Greedy(_Guided):
    def select(
        self, candidates: Candidates, count: int, generator: np.random.Generator
    ) -> list[int]:
        return np.argsort(candidates.energies, kind="stable")[:count].tolist()
