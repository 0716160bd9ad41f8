"""A stochastic search over budgets: what one group gives and another is spared, judged by all of it together.

A group's curve says what its removals cost alone. What removals in several groups come to together it does not say: on
separable networks they are far from adding up. So shares of the cost move from one group to another; every proposal
is repaired cheaply, on moments of the dense network, and accepted by annealing over the logarithm of the logits' error
on held-out inputs.

Reference:
    The paper searches over single units by annealing; here the walk is over how many units each group gives, and which
    they are is the selector's affair. The schedule is Kirkpatrick et al.'s (1983) with a temperature falling to 0 in a
    line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer
from keras_robust_prune.methods.allocation import Remaining
from keras_robust_prune.methods.outputs import Outputs
from keras_robust_prune.methods.repair import compensation, consumers
from keras_robust_prune.methods.repair.moments import Moments
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.selectors import elimination_order
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.surgery.costs import work_of
from keras_robust_prune.surgery.cutting import merge
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan, Removal

_HOT = (
    0.05  # temperature of the first move: a rise by so much of the error is borne in one case of e
)
_REMEMBERED = 4  # solutions of each consumer
_LARGEST, _SMALLEST = (
    0.25,
    0.05,
)  # of a group's units that one move gives back, at first and in the end
_WORK = 1.5e12  # of forward passes that a search may take
_FEWEST, _MOST = 20, 300  # moves; a network for which fewer are affordable is not searched


def usual_moves(run: Run) -> int:
    """How many moves a network's size allows; 0 if too few to find anything.

    Args:
        run: whose held-out inputs judge every move.
    """
    held = sum(len(arrays[0]) for arrays in run.inputs[1])
    moves = min(int(_WORK / (held * work_of(run.dense))), _MOST)
    return moves if moves >= _FEWEST else 0


class CheapRepair:
    """The dense network with some units of every group gone and its consumers solved on the dense network's moments.

    Units go in the order of an elimination from the dense network.

    Args:
        run: of the dense network.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._orders: dict[str, list[int]] = {}
        self._moments: dict[str, tuple[Moments, float]] = {}
        self._solved: dict[str, dict[tuple[int, ...], Mapping[str, Layer]]] = {}

    def __call__(self, counts: Mapping[str, int]) -> Graph:
        """The network in full shape.

        Args:
            counts: how many units of each group are gone.
        """
        problem = self.run.problem
        gone = {name: self.order(name)[:count] for name, count in counts.items() if count}
        removals = [Removal(name, int(unit)) for name, units in gone.items() for unit in units]
        graph = merge(problem.graph, problem.groups, removals)
        layers = dict(graph.layers)
        for name in self.run.consumers:
            key = tuple(counts.get(group.name, 0) for group in self.run.groups_of(name))
            if any(key):
                known = self._solved.setdefault(name, {})
                if key not in known:
                    while len(known) >= _REMEMBERED:
                        del known[next(iter(known))]
                    known[key] = self._anew(name, graph, gone)
                layers.update(known[key])
        return dataclasses.replace(graph, layers=layers)

    def order(self, name: str) -> list[int]:
        """A group's units in the order in which they go."""
        if name not in self._orders:
            run, dense = self.run, self.run.problem.graph
            group, empty = run.problem.groups.by_name[name], Plan.empty(run.problem.groups)
            if not run.consumers_of(group):  # protected: the same units go in every proposal
                return list(range(group.num_units))
            moments = {
                consumer: run.moments(dense, consumer) for consumer in run.consumers_of(group)
            }
            self._orders[name] = elimination_order(
                run, dense, empty, group, group.num_units - 1, moments
            )
        return self._orders[name]

    def _anew(
        self, name: str, graph: Graph, gone: Mapping[str, Sequence[int]]
    ) -> Mapping[str, Layer]:
        """The layers that change when one consumer is solved."""
        dense, before = self.run.problem.graph, consumers.matrix(graph, name)
        left = np.ones(len(before) - 1, bool)
        for group in self.run.groups_of(name):
            units = list(gone.get(group.name, ()))
            left[consumers.unit_rows(group, dense.layers[name])[units].ravel()] = False
        kept, constant = np.flatnonzero(left), consumers.takes_constant(dense, name)
        if name not in self._moments:
            known = self.run.moments(dense, name)
            ridge = compensation.best_ridge(known, before, kept, constant)
            single = {key: getattr(known, key).astype("float32") for key in ("gram", "cross")}
            self._moments[name] = dataclasses.replace(known, halves=(), **single), ridge
        known, ridge = self._moments[name]
        values = compensation.solve(known, before, kept, constant, ridge)
        changed = consumers.with_matrix(dense, name, values).layers
        return {key: layer for key, layer in changed.items() if layer is not dense.layers[key]}


def searched(
    run: Run,
    counts: Mapping[str, int],
    groups: Sequence[ChannelGroup],
    remaining: Remaining,
    moves: int,
    outputs: Outputs,
) -> Mapping[str, int]:
    """How many units each group gives, better together than what the search began with.

    Args:
        run: of the dense network.
        counts: to begin with; what they leave of the budget is never exceeded.
        groups: those that may give more or less.
        remaining: what the budget counts.
        moves: how many proposals are judged.
        outputs: judges them.

    Returns:
        The counts of the least error that was found; those given, if nothing was better.
    """
    if len(groups) < 2 or not moves:
        return counts
    problem, rng = run.problem, np.random.default_rng([run.problem.seed, 9])
    repair, budget = CheapRepair(run), remaining(counts) * (1 + 1e-9)

    def error(counts: Mapping[str, int]) -> float:
        return max(outputs.error(repair(counts)), 1e-12)

    now, best, first = counts, counts, error(counts)
    current = least = first
    for number in Progress.over("budget search", range(moves), problem.verbose):
        cooled = 1 - number / moves
        size = _SMALLEST + (_LARGEST - _SMALLEST) * cooled
        then = _moved(run, now, [group.name for group in groups], size, remaining, budget, rng)
        if then == now:
            continue
        found = error(then)
        if found < current or rng.random() < np.exp(np.log(current / found) / (_HOT * cooled)):
            now, current = then, found
            if found < least:
                least, best = found, then
    if problem.verbose:
        print(f"budget search: error of the logits {first:.3g} -> {least:.3g}", flush=True)
    return best


def _moved(
    run: Run,
    counts: Mapping[str, int],
    names: Sequence[str],
    size: float,
    remaining: Remaining,
    budget: float,
    rng: np.random.Generator,
) -> Mapping[str, int]:
    """Counts with which one group gives less and another as much more as meets the budget; groups are drawn.

    Args:
        run: whose groups they are.
        counts: to begin with.
        names: groups that may give.
        size: share of a group's units that come back, at most.
        remaining: what the budget counts.
        budget: what may be left.
        rng: of the draw.

    Returns:
        The counts that were given where no group alone can make up for what came back.
    """
    problem = run.problem
    widths, block = problem.groups.widths, problem.round_to
    giving = [name for name in names if counts[name]]
    if not giving:
        return counts
    spared = giving[rng.integers(len(giving))]
    blocks = rng.uniform(0, size) * widths[spared] / block
    others = rng.permutation([name for name in names if name != spared])
    fewer = {**counts, spared: max(counts[spared] - block * max(round(blocks), 1), 0)}
    for name in map(str, others):
        count = counts[name]
        while count < widths[name]:
            if remaining(then := {**fewer, name: count}) <= budget:
                return then
            count += (widths[name] - count) % block or block
    return counts
