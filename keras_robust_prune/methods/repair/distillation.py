"""Distillation: the pruned network learns the dense one's answers on synthetic inputs, and around them.

No label and no loss of the user's is involved: the targets are the dense network's logits. The inputs are synthetic (or
real unlabelled) ones, half of every batch moved at random, half adversarially against the pruned network, within a
radius that is measured on the network itself. On large networks, where moving them would take half of the time, inputs
stay where they are, the last map before pooling is a target too, and crops of photographs are drawn anew for every
batch. Held-out inputs of every kind decide how far of the way is gone.

Reference:
    [Wang et al., 2022](https://arxiv.org/abs/2203.14195) find the last map before pooling the best target for few
    inputs; we take the logits beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.layers.base import known_size
from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.methods.repair.course import (
    Course,
    LastMap,
    batch_passes,
    cost_of,
    usual_steps,
)
from keras_robust_prune.methods.repair.repair import Repair
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.stages import NONE, Stages
from keras_robust_prune.methods.timing import Speed
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut, entries_left
from keras_robust_prune.surgery.embedding import embed
from keras_robust_prune.synthesis.kinds import PHOTOGRAPHS
from keras_robust_prune.synthesis.pictures import Draw, crops
from keras_robust_prune.synthesis.probe import logit_refs

_LARGE = 1.5e8  # multiplications of the dense network from which inputs stay where they are
_COMPILED = 4.0  # gradients: of both networks, to weights and inputs
_LOSS = 0.1  # of the error on any kind of inputs that is borne
_WAYS = (1.0, 0.5, 0.25)  # shares of the way between the weights before and after that are judged


@dataclasses.dataclass(frozen=True)
class Distillation(Repair):
    """Trains the whole pruned network, after the last step, to give the dense one's logits.

    The number of steps decides, never the clock, so a run repeats. Notes `distillation_error_before`,
    `distillation_error_after` (on inputs held out, over the variance of the dense network's logits; lower is better),
    `distillation_kept` (how far of the way from the weights before to those after is gone: 1, 1/2, 1/4, or 0 where no
    part of it lowers the error on the kinds of inputs together), `distillation_radius` and `distillation_steps`.

    Attributes:
        num_steps: how many; None lets the network's size decide, 50 to 6,000.
        seconds: about how long it may take: the first steps are timed, and as many are taken as fit. The result then
            depends on the machine and on what else runs there. None for no limit.
        perturb: whether inputs are moved; None moves them for all but large networks.
    """

    num_steps: int | None = None
    seconds: float | None = None
    perturb: bool | None = None

    def takes(self, run: Run, speed: Speed) -> float:
        """About how many seconds it will take."""
        if self.seconds is not None:
            return self.seconds
        graph, left = run.problem.graph, 1 - run.problem.total
        perturb = num_macs(graph) < _LARGE if self.perturb is None else self.perturb
        cost = cost_of(graph, perturb)
        steps = self.num_steps or usual_steps(cost, left * cost, perturb)
        forward, gradient = batch_passes(left, perturb)
        each = forward * speed.forward + gradient * speed.gradient
        return steps * each + _COMPILED * speed.compiled

    def network(self, run: Run, state: PruningState) -> PruningState:
        """The state with the pruned network distilled, if that helps; as it was without inputs."""
        if not run.reads_inputs:
            return state
        problem, (used, held) = run.problem, run.inputs
        done = distil(
            problem.graph,
            cut(state.graph, problem.groups, state.plan),
            used,
            held,
            run.spaces,
            seed=problem.seed,
            num_steps=self.num_steps,
            seconds=self.seconds if run.seconds_left is None else run.seconds_left,
            verbose=problem.verbose,
            perturb=self.perturb,
            shares=[k.entropy if k.is_picture else 1.0 for k in run.kinds],
            last=last_map(run, state),
            stages=problem.stages,
            strategy=problem.strategy,
            draws=[crops if kind.name == PHOTOGRAPHS else None for kind in run.kinds],
        )
        graph = state.graph
        if done.kept:
            graph = embed(graph, done.graph, problem.groups, state.plan)
        metrics = {
            "distillation_error_before": done.error_before,
            "distillation_error_after": done.error_after,
            "distillation_kept": done.kept,
            "distillation_radius": done.radius,
            "distillation_steps": float(done.num_steps),
        }
        return dataclasses.replace(state, graph=graph, metrics={**state.metrics, **metrics})


def last_map(run: Run, state: PruningState) -> LastMap | None:
    """The last tensor with positions before they are pooled, however many layers mix it afterwards.

    None where there are several outputs or ways, or nothing between the input and the layers without positions.
    """
    refs, dense, groups = logit_refs(run.dense), run.dense, run.problem.groups
    if len(refs) != 1:
        return None
    ref = refs[0]
    while len(dense.shape(ref)) == 1 or _is_pooled(dense, ref):
        node = dense.node[ref.node]
        if len(node.inputs) != 1:
            return None
        (ref,) = node.inputs
    known = ref if ref in groups.where else dense.node[ref.node].inputs[0]  # before an activation
    if ref in (*refs, *dense.inputs) or known not in groups.where:
        return None
    axis, stay = entries_left(known, groups, state.plan)
    return LastMap(ref, np.flatnonzero(stay)) if axis == len(dense.shape(ref)) - 1 else None


def _is_pooled(dense: Graph, ref: Ref) -> bool:
    """Whether a tensor has the channels of one with more positions, and no weight lies between."""
    inputs = dense.node[ref.node].inputs
    if len(inputs) != 1 or dense.layer_of(ref).weights:
        return False
    here, before = dense.shape(ref), dense.shape(inputs[0])
    return here[-1] == before[-1] and known_size(here) < known_size(before)


@dataclasses.dataclass(frozen=True, eq=False)
class Distilled:
    """What distillation did.

    Attributes:
        graph: the pruned network, better or as it was.
        kept: how far of the way from the weights before to those after is gone, 0 to 1.
        error_before, error_after: squared logit error on the inputs held out and around them, over
            the variance of the dense network's logits. Lower is better.
        radius: the l-inf radius, as a share of the input range.
        num_steps: how many were taken.
    """

    graph: Graph
    kept: float
    error_before: float
    error_after: float
    radius: float
    num_steps: int


def distil(
    dense: Graph,
    pruned: Graph,
    sources: Sequence[Sequence[np.ndarray]],
    held: Sequence[Sequence[np.ndarray]],
    spaces: Sequence[InputSpec],
    seed: int = 0,
    num_steps: int | None = None,
    seconds: float | None = None,
    verbose: int = 0,
    perturb: bool | None = None,
    shares: Sequence[float] = (),
    last: LastMap | None = None,
    stages: Stages = NONE,
    strategy: Any = None,
    draws: Sequence[Draw | None] = (),
) -> Distilled:
    """Train the pruned network to give the dense one's logits.

    Args:
        dense: the network to learn from.
        pruned: a smaller network with the same inputs and outputs, physically cut.
        sources: kinds of unlabelled inputs; each one array per network input.
        held: the same, of inputs that neither training nor any repair before it has seen: they
            decide whether the result is kept.
        spaces: their ranges.
        seed: of batches and noise.
        num_steps: how many; None lets the network's size decide.
        seconds: about how long it may take; None for no limit. See `Distillation`.
        verbose: 1 prints progress.
        perturb: whether inputs are moved; None lets the network's size decide.
        shares: how much each kind counts, however many its inputs are; alike if empty.
        last: the last map before pooling, a further target where inputs are not moved.
        stages: what an interrupted run had done of it.
        strategy: of `tf.distribute`, over whose replicas batches are spread; None for one.
        draws: per kind what gives more of its inputs, in [0, 1] between their bounds, for every batch where inputs are
            not moved; None where `sources` are all there are, and for all if empty.

    Returns:
        The result, with a decision taken on inputs that training did not see.
    """
    if perturb is None:
        perturb = num_macs(dense) < _LARGE
    wanted = None if perturb else last
    course = Course(dense, pruned, sources, spaces, perturb, seed, shares, wanted, strategy, draws)
    before, start = course.errors(held), course.values()
    steps = course.train(num_steps, seconds, verbose, stages)
    end, found = course.values(), {0.0: before}
    for way in _WAYS:
        course.set([a + way * (b - a) for a, b in zip(start, end, strict=True)])
        found[way] = course.errors(held)
        if way == 1.0 and (found[way] < before).all():
            break
    kept = best_way(found)
    course.set([a + kept * (b - a) for a, b in zip(start, end, strict=True)])
    graph = course.trained() if kept else pruned
    after = float(found[kept or 1.0].mean())
    return Distilled(graph, kept, float(before.mean()), after, course.radius, steps)


def best_way(errors: Mapping[float, np.ndarray]) -> float:
    """How far to go: where the kinds of inputs gain most, by geometric mean, and none loses more than a tenth.

    Args:
        errors: by share of the way, 0 among them, the error on each kind of held-out inputs.

    Example:
        >>> before, all_the_way = np.array([1.0, 1.0]), np.array([0.2, 1.3])
        >>> best_way({0.0: before, 1.0: all_the_way, 0.5: np.array([0.5, 0.9])})
        0.5
    """
    before = np.maximum(errors[0.0], 1e-12)
    gains = {}
    for way, found in errors.items():
        ratio = np.maximum(np.nan_to_num(found / before, nan=np.inf), 1e-12)
        if ratio.max() <= 1 + _LOSS:
            gains[way] = float(np.log(ratio).mean())
    return min(sorted(gains), key=gains.__getitem__)
