"""A budget that takes most where it costs least, each cost judged on inputs that the repair has not seen."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.methods.allocation import Remaining, allocate
from keras_robust_prune.methods.budgets import Budget, uniform_counts
from keras_robust_prune.methods.outputs import Outputs, without
from keras_robust_prune.methods.repair import compensation, consumers
from keras_robust_prune.methods.repair.moments import Moments, as_remembered
from keras_robust_prune.methods.run import HELD, Run
from keras_robust_prune.methods.saliency import norm_saliency
from keras_robust_prune.methods.selectors import elimination_order
from keras_robust_prune.methods.stages import Stage
from keras_robust_prune.methods.timing import Speed, multiplications
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan
from keras_robust_prune.synthesis.activity import Activity, remembered

_LEAST = 1e-9  # what a removal costs at least
_MEASURED = 20_000  # rows that are multiplied, of two halves
_SYSTEMS, _JUDGED = 12.0, 60.0  # what is solved and judged at the points of a curve
_UNSOLVED = "no layer that reads them can be solved anew, so their cost is not known"
_FELT = 0.01  # of a local error, by which it is known how much of it arrives at the outputs


@dataclasses.dataclass(frozen=True)
class ByCost(Budget):
    """Units go where a unit of cost saves most of what the problem's measure counts.

    A cost is a consumer's error after repair on inputs that the repair has not seen, every channel as active as
    BatchNorm remembers it. A consumer that keeps a share s of its target's energy costs `-log(s)`: shares multiply
    along the network, and no group is worth being emptied. How much of it arrives at the outputs is measured once per
    group, with half of its units gone, or more until it is felt. A group whose cost is not known is protected: it gives
    only once nothing else is left. With `measure="units"` every group gives the same fraction.

    Attributes:
        points: how many points of each group's curve of costs are measured.
        least_rows: how many rows a consumer has to see before what its units cost counts as known.
        activity: whether what BatchNorm remembers counts.
        at_outputs: whether what arrives at the outputs counts, or the local error alone.
    """

    reads_inputs: ClassVar[bool] = True
    points: int = 13
    least_rows: int = 32
    activity: bool = True
    at_outputs: bool = True

    def takes(self, run: Run, speed: Speed) -> float:
        """About how many seconds it will take."""
        if run.problem.measure == "units" or run.problem.per_group is not None:
            return 0.0
        expected, groups = run.expected, run.problem.groups.groups
        sizes = consumers.sizes(run.dense, groups)
        products = sum(multiplications(*size, _MEASURED, _SYSTEMS, _JUDGED) for size in sizes)
        held = (expected.num_inverted + expected.num_pictures) / HELD
        passes = run.passes * expected.num_measured + len(groups) * held
        seconds = passes * speed.forward + products * speed.multiplication
        return seconds + (len(sizes) + len(groups)) * speed.part

    def counts(self, run: Run, fractions: Sequence[float]) -> tuple[Mapping[str, int], ...]:
        """After each step, how many units of every group are gone."""
        problem = run.problem
        if problem.measure == "units":
            return uniform_counts(problem, fractions)
        groups = problem.groups.groups
        protected, curves, outputs = {}, {}, Outputs(run)
        for group in Progress.over("costs", groups, problem.verbose):
            stage = problem.stages.get(name := f"costs of {group.name}")
            if stage is None:
                why = self.unknown(run, group)
                known = (
                    norm_saliency(problem.graph, group)[:-1]
                    if why
                    else self.curve(run, group, outputs)
                )
                stage = Stage({"unknown": why}, {"curve": known})
                problem.stages.put(name, stage)
            curves[group.name] = stage.arrays["curve"]
            if why := stage.said["unknown"]:
                protected[group.name] = why
        counts = allocate(
            curves,
            problem.groups.widths,
            Remaining(problem.graph, groups, problem.measure),
            fractions,
            problem.round_to,
            protected,
        )
        for name, reason in protected.items():
            if taken := counts[-1][name]:
                warnings.warn(
                    f"{taken} units of '{name}' are removed although {reason}: nothing else is left to remove for the"
                    " target. Lower it, or give more inputs with calibration=.",
                    stacklevel=2,
                )
            elif problem.verbose:
                print(f"'{name}' is protected: {reason}", flush=True)
        return counts

    def unknown(self, run: Run, group: ChannelGroup) -> str:
        """Why the cost of a group's units is not known; empty if it is."""
        if why := unpriced(run.dense, group):
            return why
        names = run.consumers_of(group)
        if not names:
            return _UNSOLVED
        for name in names:
            rows = run.moments(run.problem.graph, name).count
            if 0 < rows < self.least_rows:
                return (
                    f"'{name}' reads them at {rows} positions of all inputs only, too few to judge"
                )
        return ""

    def curve(self, run: Run, group: ChannelGroup, outputs: Outputs) -> np.ndarray:
        """What every further removal from a group costs the dense network, `(num_units - 1,)`, by elimination."""
        graph, empty, width = run.problem.graph, Plan.empty(run.problem.groups), group.num_units
        activities = remembered(run.dense) if self.activity else {}
        plain = {name: run.moments(graph, name) for name in run.consumers_of(group)}
        moments = {name: _seen(run, name, plain[name], activities) for name in plain}
        order = elimination_order(run, graph, empty, group, width - 1, moments)
        points = np.unique(np.linspace(0, width - 1, self.points).round().astype(int))
        lost = [0.0]
        for point in points[1:]:
            left = ~np.isin(np.arange(width), order[:point])
            errors = [
                compensation.held_out_error(
                    moments[name], weights, np.union1d(rows[left].ravel(), others).astype(int)
                )
                for name, (weights, rows, others) in run.equations(graph, empty, group).items()
            ]
            lost.append(float(np.mean(errors)))
        between = np.interp(np.arange(1, width), points, np.maximum.accumulate(lost))
        costs = np.diff(-len(moments) * np.log1p(-np.minimum(between, 0.999)), prepend=0.0) + _LEAST
        if not (self.at_outputs and run.reads_inputs and len(costs)):
            return costs
        total = np.cumsum(costs)
        gone = min(max(width // 2, 1 + int(np.searchsorted(total, _FELT))), width - 1)
        arrives = outputs.error(without(run, group, order[:gone], plain))
        return np.asarray(costs * max(arrives, _LEAST) / total[gone - 1])


def unpriced(graph: Graph, group: ChannelGroup) -> str:
    """Why the cost of a group's units cannot be known, whatever inputs there are; empty if it can.

    Args:
        graph: the network.
        group: one of its groups.
    """
    for name, width in consumers.too_wide(graph, [group]).items():
        return f"'{name}' reads them {consumers.why_too_wide(width)}"
    if not consumers.solvable(graph, [group]):
        return _UNSOLVED
    return ""


def _seen(run: Run, name: str, moments: Moments, activities: Mapping[Ref, Activity]) -> Moments:
    """A consumer's moments on the dense network, as active as BatchNorm remembers where it does."""
    activity = activities.get(run.dense.calls[name][0].inputs[0])
    if activity is None or not activity.rectified or not moments.halves:
        return moments
    weights = consumers.matrix(run.dense, name)
    fits = (len(weights) - 1) % len(activity.mean) == 0
    return as_remembered(moments, weights, activity) if fits else moments
