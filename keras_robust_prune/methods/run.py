"""What the parts of a method share during one run: the dense network, its consumers, inputs and moments.

Everything is computed when it is first asked for: a method whose parts read no inputs makes none.
"""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from keras_robust_prune import memory
from keras_robust_prune.graph.graph import Graph, Layer
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.repair import consumers
from keras_robust_prune.methods.repair.frontier import Frontier
from keras_robust_prune.methods.repair.moments import Moments, estimate, measure
from keras_robust_prune.methods.stages import Stage
from keras_robust_prune.methods.timing import INPUTS_SHARE, Speed, measured_speed
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan
from keras_robust_prune.synthesis.gaussian import propagate
from keras_robust_prune.synthesis.kinds import PHOTOGRAPHS, Expected, Kind, Synthesis, judged
from keras_robust_prune.synthesis.synthesis import FEWEST

MANY = 512  # real inputs that need no synthetic ones beside them
SHOWN = 12  # inputs of a kind that results hold
HELD = 8  # one of so many inputs is held out
_MANY_PARAMS = 2e7  # from which models that measured, which refer to themselves, are not left to Python's own time


class Run:
    """One run of a method.

    Attributes:
        problem: what shall be removed from which network.
        synthesis: how inputs are made where none are given.
        dense: the dense network, activations split off.
        minutes: how long it may take; None takes as long as the network's size asks for.
    """

    def __init__(
        self, problem: Problem, synthesis: Synthesis, minutes: float | None = None
    ) -> None:
        self.problem, self.synthesis = problem, synthesis
        self.minutes, self._began = minutes, time.monotonic()
        self.dense = split_activations(problem.graph)
        self._moments: dict[str, tuple[tuple[int, ...], Graph, Moments]] = {}

    @property
    def spaces(self) -> tuple[InputSpec, ...]:
        """What each input of the network may be."""
        return self.problem.inputs

    @property
    def reads_inputs(self) -> bool:
        """Whether inputs may be read or made; not with `calibration="weights"`."""
        return not isinstance(self.problem.calibration, str)

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of inputs: real ones first, and synthetic ones unless there are many real."""
        problem = self.problem
        if not self.reads_inputs:
            return ()
        found: tuple[Kind, ...] = ()
        if problem.calibration is not None:
            found = (judged(self.dense, "real", tuple(problem.inputs_given())),)
        if not found or len(found[0].arrays[0]) < MANY:
            found += self._synthetic()
        return found

    def make_inputs(self) -> None:
        """Makes them now, as a stage of its own, not within the one that asks for them first."""
        _ = self.kinds
        self._collect()

    def _synthetic(self) -> tuple[Kind, ...]:
        """Synthetic inputs of every kind, those of the interrupted run if it had made them."""
        problem, stages = self.problem, self.problem.stages
        if (stage := stages.get("inputs")) is None:
            kinds = self._within_time()(
                problem.graph,
                problem.input_range,
                problem.seed,
                problem.verbose,
                problem.strategy,
            )
            said = [(kind.name, kind.distance, kind.entropy) for kind in kinds]
            arrays = {
                f"{number} {place}": np.ascontiguousarray(array)
                for number, kind in enumerate(kinds)
                for place, array in enumerate(kind.arrays)
            }
            stage = Stage({"kinds": said}, arrays)
            stages.put("inputs", stage)
        places = range(len(self.spaces))
        return tuple(
            Kind(name, tuple(stage.arrays[f"{number} {place}"] for place in places), *known)
            for number, (name, *known) in enumerate(stage.said["kinds"])
        )

    @property
    def seconds_left(self) -> float | None:
        """What is left of the time that was given; None if none was."""
        if self.minutes is None:
            return None
        return max(60 * self.minutes - (time.monotonic() - self._began), 1.0)

    @cached_property
    def expected(self) -> Expected:
        """Which inputs will be made and measured on, as far as the network's size and what is given say it."""
        made, given = self.synthesis.expected(self.dense, self.spaces), self.problem.inputs_given()
        num_given = len(given[0]) if given else 0
        if num_given >= MANY:
            return Expected(0, 0, 0.0, num_given)
        return made._replace(num_measured=made.num_measured + num_given)

    @cached_property
    def passes(self) -> float:
        """Passes of the dense network that measuring each of its consumers once takes, of every input measured on."""
        count = self.expected.num_measured
        none = [np.broadcast_to(np.float32(0), (count, *space.shape)) for space in self.spaces]
        return Frontier(self.dense, self.consumers, [none]).passes(self.dense, self.consumers)

    @cached_property
    def speed(self) -> Speed:
        """Of this machine, measured once."""
        found = measured_speed(self.dense, self.spaces)
        self._collect()
        return found

    def _within_time(self) -> Synthesis:
        """How inputs are made: fewer than usual where the time that is given asks for it."""
        if self.minutes is None or self.synthesis.num_inputs is not None:
            return self.synthesis
        usual = self.expected
        most = INPUTS_SHARE * 60 * self.minutes / max(usual.steps * self.speed.gradient, 1e-9)
        if most >= usual.num_inverted:
            return self.synthesis
        return dataclasses.replace(self.synthesis, num_inputs=max(int(most), FEWEST))

    @property
    def num_photographs(self) -> int:
        """How many of the inputs are crops of the package's photographs."""
        return sum(len(kind.arrays[0]) for kind in self.kinds if kind.name == PHOTOGRAPHS)

    @property
    def samples(self) -> dict[str, np.ndarray]:
        """A few inputs of every kind that is not the user's, to be looked at."""
        return {kind.name: kind.arrays[0][:SHOWN] for kind in self.kinds if kind.name != "real"}

    @cached_property
    def inputs(self) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
        """Of each kind the inputs to repair on, and those held out."""
        pairs = [hold_out(kind.arrays, self.problem.seed) for kind in self.kinds]
        return [used for used, _ in pairs], [held for _, held in pairs]

    @cached_property
    def num_measured(self) -> int:
        """From how many of the kinds moments are taken: the first, and beside few real inputs a second.

        Least squares is fitted to the first kind; others are for distillation. A second kind
        that is more than twice as far from what BatchNorm remembers as the real inputs are would only mislead.
        """
        first, second = self.kinds[0], self.kinds[1:2]
        beside = first.name == "real" and second and not second[0].distance > 2 * first.distance
        return 2 if beside else 1

    @cached_property
    def consumers(self) -> tuple[str, ...]:
        """Layers that read units and can be solved anew, in the order of the graph; only those with known moments."""
        names = consumers.solvable(self.dense, self.problem.groups.groups)
        return names if self.reads_inputs else tuple(n for n in names if n in self._estimates)

    def consumers_of(self, group: ChannelGroup) -> tuple[str, ...]:
        """The consumers that read one group."""
        return tuple(name for name in self.consumers if name in group.consumers)

    def groups_of(self, name: str) -> tuple[ChannelGroup, ...]:
        """The groups that one consumer reads."""
        return tuple(group for group in self.problem.groups.groups if name in group.consumers)

    def release(self) -> None:
        """Let go of moments, of what they are measured from, and of the models that did it: gigabytes at times."""
        self._moments.clear()
        self.__dict__.pop("_frontiers", None)
        gc.collect()

    def moments(self, graph: Graph, name: str) -> Moments:
        """Second moments of what a consumer sees on a network as it stands, towards the dense one's answers.

        They are remembered until something before the consumer changes, and the same to the last bit whether they were
        remembered or not.

        Args:
            graph: in full shape.
            name: the consumer.
        """
        if not self.reads_inputs:
            return self._estimates[name]
        split = split_activations(graph)
        refs = [node.inputs[0] for node in split.calls[name]]
        branch = consumers.branch_of(split, name)
        before = split.ending_at([*refs, *(branch.others if branch else ())])
        key = tuple(id(graph.layers.get(layer)) for layer in before.layers)
        known = self._moments.pop(name, None)
        if known is None or known[0] != key:
            found = self._measured(graph, split, name, self._is_dense(graph, before))
            known = key, graph, found  # the graph keeps its layers, and so their identities, alive
        self._moments[name] = known
        most = memory.most(memory.MOMENTS)
        while sum(moments.nbytes for *_, moments in self._moments.values()) > most:
            oldest = next(iter(self._moments))
            if oldest == name:
                break
            del self._moments[oldest]
        return known[2]

    def _is_dense(self, graph: Graph, part: Graph) -> bool:
        """Whether no weight of a part of the network differs from the dense one's."""
        pairs = [
            (graph.layers[name].weights, self.problem.graph.layers[name].weights)
            for name in part.layers
            if name in graph.layers
        ]
        return all(now[key] is then[key] for now, then in pairs for key in then)

    def _measured(self, graph: Graph, split: Graph, name: str, is_dense: bool) -> Moments:
        """Moments of a consumer, measured from where both networks are known on."""
        sources = self.inputs[0][: self.num_measured]
        problem, begun = self.problem, self._frontiers[0].part(self.problem.graph, self.dense, name)
        pruned, parts = self.dense, (begun, begun)
        if not is_dense:
            pruned, parts = split, (begun, self._frontiers[1].part(graph, split, name))
        found = measure(self.dense, pruned, name, sources, problem.seed, parts, problem.strategy)
        self._collect()
        return found

    def _collect(self) -> None:
        """Let go of models of a large network, which refer to themselves: TensorFlow's memory only grows."""
        if self.dense.num_params > _MANY_PARAMS:
            gc.collect()

    @cached_property
    def _frontiers(self) -> tuple[Frontier, Frontier]:
        """Of the dense network and of the pruned one."""
        sources = self.inputs[0][: self.num_measured]
        strategy = self.problem.strategy
        one, other = (
            Frontier(self.dense, self.consumers, sources, strategy=strategy) for _ in range(2)
        )
        return one, other

    def equations(
        self, graph: Graph, plan: Plan, group: ChannelGroup
    ) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Per consumer of a group its weights, the rows of the units still there, and all other rows that stay."""
        found = {}
        for name in self.consumers_of(group):
            layer = graph.layers[name]
            every = consumers.unit_rows(group, layer)
            others = np.setdiff1d(self.kept_rows(layer, plan), every)
            found[name] = (consumers.matrix(graph, name), every[plan.kept(group.name)], others)
        return found

    def kept_rows(self, layer: Layer, plan: Plan) -> np.ndarray:
        """Rows of a consumer whose units stay, ascending."""
        kept = np.ones(len(consumers.matrix(self.dense, layer.name)) - 1, bool)
        for group in self.groups_of(layer.name):
            kept[consumers.unit_rows(group, layer)[plan.dropped[group.name]].ravel()] = False
        return np.flatnonzero(kept)

    @cached_property
    def _estimates(self) -> dict[str, Moments]:
        tensors = propagate(self.dense, self.spaces)
        names = consumers.solvable(self.dense, self.problem.groups.groups)
        found = {name: estimate(self.dense, name, tensors) for name in names}
        return {name: moments for name, moments in found.items() if moments is not None}


def hold_out(
    inputs: Sequence[np.ndarray], seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs to repair on, and an eighth of them that only judges.

    A single input has to do both.
    """
    order = np.random.default_rng([seed, 3]).permutation(len(inputs[0]))
    held, used = np.split(order, [max(1, len(order) // HELD)])
    used = used if len(used) else held
    return [x[used] for x in inputs], [x[held] for x in inputs]
