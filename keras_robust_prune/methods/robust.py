"""The method `robust`: sets of units, chosen and repaired on inputs made from the network.

Reader after reader in the order of the graph, on the pruned network's own activations: where the
units that a reader mixes are not decided yet, backward elimination over all layers that read them
chooses who goes; then the reader is re-solved towards the dense network's pre-activations. At the
end the pruned network imitates the dense one.

With `calibration="weights"` no input is made or read: moments are estimated from weights and
BatchNorm statistics, and there is no imitation.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.allocation import Remaining, allocate
from keras_robust_prune.methods.budgets import removed_per_group
from keras_robust_prune.methods.problem import Problem, PruningState
from keras_robust_prune.methods.repair import compensation, readers
from keras_robust_prune.methods.repair.distillation import hold_back, imitate
from keras_robust_prune.methods.repair.moments import Moments, as_remembered, estimate, measure
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.embedding import embed
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.synthesis.activity import remembered
from keras_robust_prune.synthesis.gaussian import propagate
from keras_robust_prune.synthesis.synthesis import make_inputs

_MANY = 512  # real inputs that need no synthetic ones beside them
_FEWEST_ROWS = 32  # that a reader has to see before what its units cost is known
_POINTS = 13  # of a group's curve of costs


@dataclasses.dataclass(frozen=True)
class Robust:
    """The best data-free method we have.

    Attributes:
        repair: `"distill"`, or `"reconstruct"` to leave the imitation out.
        perturb: whether imitation also looks around the inputs.
        invert: whether synthetic inputs are shaped by the network, or stay what the prior drew.
        num_inputs: how many are made; None lets the network's size decide.
        num_steps: of the imitation; None likewise.
        seconds: a hard limit for the imitation.
        name: of the method.
    """

    repair: str = "distill"
    perturb: bool = True
    invert: bool = True
    num_inputs: int | None = None
    num_steps: int | None = None
    seconds: float = 300.0
    name: str = "robust"

    def __post_init__(self) -> None:
        if self.repair not in ("distill", "reconstruct"):
            raise ValueError(f"repair is {self.repair!r}; choose 'distill' or 'reconstruct'.")

    def steps(self, problem: Problem) -> Iterator[PruningState]:
        """One state per step; one step unless the problem asks for more."""
        fractions = problem.fractions(problem.target or 1.0)
        if not fractions:
            return
        work = _Work(problem, self)
        budget = work.budget(fractions)
        state = problem.first_state()
        for step in range(state.step, len(fractions)):
            graph, plan, cost = work.remove(state.graph, state.plan, budget[step])
            metrics = {"reconstruction_error": cost}
            if self.repair == "distill" and work.sources and step == len(fractions) - 1:
                small = cut(graph, problem.groups, plan)
                done = imitate(
                    problem.graph,
                    small,
                    work.sources,
                    work.held,
                    work.spaces,
                    seed=problem.seed,
                    num_steps=self.num_steps,
                    seconds=self.seconds,
                    verbose=problem.verbose,
                    perturb=self.perturb,
                )
                if done.kept:
                    graph = embed(graph, done.graph, problem.groups, plan)
                metrics |= {
                    "imitation_error_before": done.error_before,
                    "imitation_error": min(done.error_before, done.error_after),
                    "imitation_radius": done.radius,
                }
            state = PruningState(step + 1, graph, plan, metrics)
            yield state


class _Work:
    """One run: the dense network, its readers and the inputs everything is measured on."""

    def __init__(self, problem: Problem, method: Robust) -> None:
        self.problem, self.method = problem, method
        self.dense = split_activations(problem.graph)
        self.spaces = problem.inputs
        self.readers = readers.readers(self.dense, problem.groups.groups)
        self.sources: list[list[np.ndarray]] = []
        self.held: list[list[np.ndarray]] = []
        self.estimates: dict[str, Moments] = {}
        if isinstance(problem.calibration, str):
            tensors = propagate(self.dense, self.spaces)
            for name in self.readers:
                known = estimate(self.dense, name, tensors)
                if known is not None:
                    self.estimates[name] = known
            self.readers = tuple(self.estimates)
        else:
            for source in _sources(problem, method):
                used, held = hold_back(source, problem.seed)
                self.sources.append(used)
                self.held.append(held)
        self.groups = {
            name: [group for group in problem.groups.groups if name in group.consumers]
            for name in self.readers
        }

    def budget(self, fractions: Sequence[float]) -> tuple[Mapping[str, int], ...]:
        """How many units of every group are gone after each step."""
        problem = self.problem
        groups = problem.groups.groups
        if problem.measure == "units":
            return removed_per_group(groups, fractions, problem.round_to)
        remaining = Remaining(problem.graph, groups, problem.measure)
        curves, protected = self.curves()
        counts = allocate(
            curves, problem.groups.widths, remaining, fractions, problem.round_to, protected
        )
        for name, reason in protected.items():
            if taken := counts[-1][name]:
                warnings.warn(
                    f"{taken} units of '{name}' are removed although {reason}: nothing else is left to"
                    f" remove for the target. Lower it, or give more inputs with calibration=.",
                    stacklevel=2,
                )
            elif problem.verbose:
                print(f"'{name}' is protected: {reason}", flush=True)
        return counts

    def curves(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Per group what every further removal costs on the dense network; and whose cost is not known, and why.

        A cost is an error after repair on inputs that the repair has not seen (`held_out_error`), every channel as
        active as BatchNorm remembers it. A reader that keeps a share s of its target's energy costs `-log(s)`: shares
        multiply along the network, and no group is worth being emptied.
        """
        activities = remembered(self.dense)
        moments = {}
        for name in self.readers:
            moments[name] = self.measure(self.dense, name)
            activity = activities.get(self.dense.calls[name][0].inputs[0])
            if activity is not None and activity.rectified and moments[name].halves:
                weights = readers.matrix(self.dense, name)
                if (len(weights) - 1) % len(activity.mean) == 0:
                    moments[name] = as_remembered(moments[name], weights, activity)
        curves, protected = {}, {}
        for group in self.problem.groups.groups:
            known = {n: moments[n] for n in self.readers if n in group.consumers}
            few = [n for n, m in known.items() if m.count and m.count < _FEWEST_ROWS]
            if not known:
                protected[group.name] = (
                    "no layer that reads them can be solved anew, so their cost is not known"
                )
                curves[group.name] = _norm_products(self.dense, group)[:-1]
            elif few:
                rows = known[few[0]].count
                protected[group.name] = (
                    f"'{few[0]}' reads them at {rows} positions of all inputs only, too few to judge"
                )
                curves[group.name] = np.ones(group.num_units - 1)
            else:
                curves[group.name] = self.curve(group, known)
        return curves, protected

    def curve(self, group: ChannelGroup, moments: Mapping[str, Moments]) -> np.ndarray:
        """What every further removal from one group costs, measured at some points of the order of elimination."""
        empty, width = Plan.empty(self.problem.groups), group.num_units
        order = [unit for unit, _ in self.order(self.dense, group, empty, width - 1, moments)]
        known = self.equations_of(self.dense, group, empty)
        points = np.unique(np.linspace(0, width - 1, _POINTS).round().astype(int))
        lost = [0.0]
        for point in points[1:]:
            left = ~np.isin(np.arange(width), order[:point])
            errors = [
                compensation.held_out_error(
                    moments[name], weights, np.union1d(rows[left].ravel(), fixed).astype(int)
                )
                for name, (weights, rows, fixed) in known.items()
            ]
            lost.append(float(np.mean(errors)))
        between = np.interp(np.arange(1, width), points, np.maximum.accumulate(lost))
        return np.diff(-len(known) * np.log1p(-np.minimum(between, 0.999)), prepend=0.0)

    def measure(self, graph: Graph, name: str) -> Moments:
        if self.estimates:
            return self.estimates[name]
        return measure(self.dense, graph, name, self.sources, self.problem.seed)

    def remove(
        self, graph: Graph, plan: Plan, goal: Mapping[str, int]
    ) -> tuple[Graph, Plan, float]:
        """Choose what goes until every group has lost its count, and repair every reader."""
        start = plan if plan.widths else Plan.empty(self.problem.groups)
        plan, total = start, 0.0
        pending = [group for group in self.problem.groups.groups if goal[group.name]]
        for name in Progress.over("repair", self.readers, self.problem.verbose):
            mine = [group for group in self.groups[name] if goal[group.name]]
            if not mine:
                continue
            split = split_activations(graph)
            known = {name: self.measure(split, name)}
            chosen = [group for group in mine if group in pending]
            for group in chosen:
                plan += self.choose(split, group, plan, goal[group.name], known)
                pending.remove(group)
            if not all(group.merges for group in chosen):
                # What normalises them together sees them go, and the reader something else.
                graph = mask(graph, self.problem.groups, plan)
                split = split_activations(graph)
                known[name] = self.measure(split, name)
            graph, error = self.repair(graph, split, name, plan, known[name])
            total += error
        for group in pending:
            plan += self.choose(split_activations(graph), group, plan, goal[group.name], {})
        return mask(graph, self.problem.groups, plan), plan, total

    def choose(
        self,
        split: Graph,
        group: ChannelGroup,
        plan: Plan,
        goal: int,
        known: dict[str, Moments],
    ) -> tuple[Removal, ...]:
        """Who goes from one group, judged by all that read it."""
        count = goal - int(plan.dropped[group.name].sum())
        for name in self.readers:
            if name in group.consumers and name not in known:
                known[name] = self.measure(split, name)
        order = self.order(split, group, plan, count, known)
        return tuple(Removal(group.name, unit) for unit, _ in order)

    def order(
        self,
        split: Graph,
        group: ChannelGroup,
        plan: Plan,
        count: int,
        moments: Mapping[str, Moments],
    ) -> list[tuple[int, float]]:
        """Units in the order of elimination, with costs.

        With all units there the weights are right as they are, and any ridge fits. So the ridge is
        the one that is best for what a first elimination leaves, and the elimination is repeated
        where that differs.
        """
        kept = plan.kept(group.name)
        known = self.equations_of(split, group, plan)
        if not known:
            norms = _norm_products(split, group)[kept]
            return [(int(kept[k]), float(norms[k])) for k in np.argsort(norms)[:count]]

        def eliminated(ridges: Mapping[str, float]) -> list[tuple[int, float]]:
            parts = [compensation.Elimination(moments[n], *known[n], ridges[n]) for n in known]
            return compensation.eliminate(parts, kept.tolist(), count)

        first = eliminated(usual := dict.fromkeys(known, compensation.RIDGE))
        left = ~np.isin(kept, [unit for unit, _ in first[: (len(kept) + 1) // 2]])
        best = {
            name: compensation.best_ridge(moments[name], matrix, np.union1d(rows[left], fixed))
            for name, (matrix, rows, fixed) in known.items()
        }
        return first if best == usual else eliminated(best)

    def equations_of(
        self, split: Graph, group: ChannelGroup, plan: Plan
    ) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Per reader of a group its weights, the rows of the units still there, and all other rows."""
        found = {}
        for name in self.readers:
            if name in group.consumers:
                layer = split.layers[name]
                every = readers.unit_rows(group, layer)
                fixed = np.setdiff1d(self.kept_rows(layer, plan), every)
                found[name] = (readers.matrix(split, name), every[plan.kept(group.name)], fixed)
        return found

    def kept_rows(self, layer: Any, plan: Plan) -> np.ndarray:
        """Rows of a reader whose units stay, ascending."""
        kept = np.ones(len(readers.matrix(self.dense, layer.name)) - 1, bool)
        for group in self.groups[layer.name]:
            kept[readers.unit_rows(group, layer)[plan.dropped[group.name]].ravel()] = False
        return np.flatnonzero(kept)

    def repair(
        self, graph: Graph, split: Graph, name: str, plan: Plan, moments: Moments
    ) -> tuple[Graph, float]:
        """The network with one reader solved for the rows that stay, and the error left."""
        before = readers.matrix(split, name)
        kept = self.kept_rows(split.layers[name], plan)
        constant = readers.takes_constant(split, name)
        ridge = compensation.best_ridge(moments, before, kept, constant)
        values = compensation.solve(moments, before, kept, constant, ridge)
        return readers.with_matrix(graph, name, values), moments.error(values)


def _sources(problem: Problem, method: Robust) -> list[list[np.ndarray]]:
    """Kinds of inputs: real ones if any are given, synthetic ones unless there are many real ones."""
    given = problem.inputs_given()
    found = [given] if given else []
    if not found or len(found[0][0]) < _MANY:
        made = make_inputs(
            problem.graph,
            problem.inputs,
            count=method.num_inputs,
            seed=problem.seed,
            verbose=problem.verbose,
            invert=method.invert,
        )
        found.append(list(made.arrays))
    return found


def _norm_products(graph: Graph, group: ChannelGroup) -> np.ndarray:
    """Incoming times outgoing norm of every unit, for readers that cannot be re-solved."""
    product = np.ones(group.num_units)
    for role in ("produces", "consumes"):
        square = np.zeros(group.num_units)
        for slot in group.having(role):
            weights = graph.layers[slot.layer].weights.get(slot.weight)
            if weights is not None:
                rows = np.moveaxis(weights, slot.axis, 0).reshape(weights.shape[slot.axis], -1)
                square += np.square(rows).sum(1)[slot.positions].sum(1)
        product *= np.sqrt(square)
    return product
