"""What a pruning method is asked, and what it answers at every step.

A method is an object with a `name` and `steps(problem)`, which yields one `PruningState` per
pruning step. Problems and states are values. What a method draws at a step depends on the problem's
seed and the step's number alone, so a run that starts from a stored state ends like the run that
was interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.inputs import InputSpec, ends_of
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.memory import limited
from keras_robust_prune.methods import schedules
from keras_robust_prune.methods.measures import measure_for
from keras_robust_prune.methods.stages import NONE, Stages
from keras_robust_prune.methods.targets import by_group, of_all
from keras_robust_prune.surgery.groups import ChannelGroups
from keras_robust_prune.surgery.plan import Plan

# Measures that are counted on the graph; any other is asked for what is left.
COUNTED = ("units", "params", "macs")


@dataclasses.dataclass(frozen=True, eq=False)
class PruningState:
    """A network after some pruning steps, and how it came about.

    Attributes:
        step: how many steps are done.
        graph: the network in its full shape; consumers' weights of removed units are zero.
        plan: every removal so far, in order.
        metrics: what was measured on the way, e.g. `{"energy": 0.3, "output_l1": 12.5}`.
        samples: a few of the synthetic inputs that it was decided on, by kind, `(count, *shape)` each.
    """

    step: int
    graph: Graph
    plan: Plan
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    samples: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What shall be removed from which network, and what may be used to decide.

    Attributes:
        graph: the dense network.
        groups: what can be removed from it.
        target: fraction to remove, in [0, 1), or such fractions by group or layer; other groups give none.
        measure: what the fraction counts: `"units"` of every group, `"params"` or `"macs"` of the
            network, `"bytes"` of its float32 file, or a value such as `krp.latency.Latency(table)`; see
            `measures`.
        step: fraction removed by one step; None leaves it to the method.
        schedule: a schedule to follow instead of `target` and `step`.
        input_range: the valid inputs: None takes what the network says, else [0, 1]; see
            `inputs.parse_range`.
        calibration: inputs to measure on: None lets the method make them from the network,
            `"weights"` forbids any, real ones are what `inputs.with_examples` takes.
        round_to: widths that remain become multiples of it.
        seed: of everything that is drawn.
        start: the state to go on from; None begins with the dense network.
        verbose: whether a method may print its progress.
        stages: what an interrupted run had done of the step that it was at.
        strategy: of `tf.distribute`, over whose replicas synthesis, moments and training are spread; None for one.
        memory: gigabytes that TensorFlow and a run may take; None for no limit. Whoever runs a method does so within
            `limited()`.

    Raises:
        ValueError: a value is out of its range.
    """

    graph: Graph
    groups: ChannelGroups
    target: float | Mapping[str, float] = 0.5
    measure: Any = "units"
    step: float | None = None
    schedule: schedules.Schedule | None = None
    input_range: Any = None
    calibration: Any = None
    round_to: int = 1
    seed: int = 0
    start: PruningState | None = None
    verbose: int = 0
    stages: Stages = NONE
    strategy: Any = None
    memory: float | None = None

    def __post_init__(self) -> None:
        each = isinstance(self.target, Mapping)
        problems = [
            *schedules.problems(0.5 if each else self.target, self.step),
            *whole("round_to", self.round_to, 1, "for example 8 for phone kernels"),
            *whole("seed", self.seed, 0, "for example 0"),
        ]
        if each and self.measure != "units":
            problems.append("a target per group counts units: leave measure and limits out")
        if not (isinstance(self.measure, str) and self.measure in COUNTED):
            try:
                object.__setattr__(self, "measure", measure_for(self.measure))
            except ValueError as error:
                problems.append(str(error).rstrip("."))
        if problems:
            raise ValueError("; ".join(problems) + ".")
        _ = self.per_group, self.inputs  # refuse what does not fit

    @cached_property
    def per_group(self) -> Mapping[str, float] | None:
        """The fraction that each group gives; None where the target is one for all."""
        return by_group(self.groups, self.target) if isinstance(self.target, Mapping) else None

    @cached_property
    def total(self) -> float:
        """The fraction to remove of what `measure` counts; with a target per group, of all units."""
        if isinstance(self.target, Mapping):
            return of_all(self.groups, self.per_group or {})
        return self.target

    @cached_property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What each input of the network may be, with the examples of `calibration`."""
        return input_specs(self.graph, self.input_range, self.calibration)

    def inputs_given(self) -> list[np.ndarray]:
        """The inputs of `calibration`, one float32 array per network input; none without any."""
        return [spec.examples for spec in self.inputs if spec.examples is not None]

    def fractions(self, default_step: float) -> tuple[float, ...]:
        """The fraction removed after each step, rising; `default_step` serves if none was asked."""
        if self.schedule is not None:
            return schedules.fractions(self.schedule)
        if self.total == 0.0:
            return ()
        return schedules.fractions(schedules.EqualSteps(self.total, self.step or default_step))

    def limited(self) -> AbstractContextManager[None]:
        """Inside, what is computed keeps to `memory`."""
        return limited(self.memory, 4.0 * self.graph.num_params)

    def input_ends(self) -> tuple[Any, Any]:
        """Lower and upper ends of the inputs, each a list in the order of the inputs if several."""
        return ends_of(self.inputs)

    def first_state(self) -> PruningState:
        """The state to begin with: `start`, or the dense network and an empty plan."""
        return self.start or PruningState(0, self.graph, Plan.empty(self.groups))

    def generator(self, step: int) -> np.random.Generator:
        """The source of everything drawn at a step."""
        return np.random.default_rng([self.seed, step])


def whole(name: str, value: Any, least: int, example: str) -> list[str]:
    """What is wrong with a whole number; nothing if it is one of at least `least`.

    Example:
        >>> whole("seed", -1, 0, "for example 0")
        ['seed is -1, but it is a whole number of at least 0, for example 0']
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= least:
        return []
    return [f"{name} is {value!r}, but it is a whole number of at least {least}, {example}"]


@runtime_checkable
class Method(Protocol):
    """A way to choose what is removed."""

    @property
    def name(self) -> str:
        """What it is called in results and reports."""

    def steps(self, problem: Problem) -> Iterator[PruningState]:
        """One state per pruning step, from the one after `problem.first_state()` to the target.

        The graph of a state has the dense network's shape; the plan of a state begins with the plan
        of the one before.
        """
