"""What a pruning method is asked, and what it answers at every step.

A method is an object with a `name` and `steps(problem)`, which yields one `PruningState` per
pruning step. Problems and states are values. What a method draws at a step depends on the problem's
seed and the step's number alone, so a run that starts from a stored state ends like the run that
was interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.methods import schedules
from keras_robust_prune.surgery.groups import ChannelGroups
from keras_robust_prune.surgery.plan import Plan

MEASURES = ("units", "params", "macs")


@dataclasses.dataclass(frozen=True, eq=False)
class PruningState:
    """A network after some pruning steps, and how it came about.

    Attributes:
        step: how many steps are done.
        graph: the network in its full shape; consumers' weights of removed units are zero.
        plan: every removal so far, in order.
        metrics: what was measured on the way, e.g. `{"energy": 0.3, "output_l1": 12.5}`.
    """

    step: int
    graph: Graph
    plan: Plan
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What shall be removed from which network, and what may be used to decide.

    Attributes:
        graph: the dense network.
        groups: what can be removed from it.
        target: fraction to remove, in [0, 1).
        measure: what the fraction counts: `"units"` of every group, `"params"` or `"macs"` of the
            network.
        step: fraction removed by one step; None leaves it to the method.
        schedule: a schedule to follow instead of `target` and `step`.
        input_range: the valid inputs, `(lower, upper)`: numbers or arrays of one input's shape; for
            several inputs a mapping from their names to such pairs.
        calibration: inputs to measure on: None lets the method make them from the network,
            `"weights"` forbids any, an array holds real ones.
        round_to: widths that remain become multiples of it.
        seed: of everything that is drawn.
        start: the state to go on from; None begins with the dense network.
        verbose: whether a method may print its progress.

    Raises:
        ValueError: a value is out of its range.
    """

    graph: Graph
    groups: ChannelGroups
    target: float = 0.5
    measure: str = "units"
    step: float | None = None
    schedule: schedules.Schedule | None = None
    input_range: Any = (0.0, 1.0)
    calibration: Any = None
    round_to: int = 1
    seed: int = 0
    start: PruningState | None = None
    verbose: int = 0

    def __post_init__(self) -> None:
        schedules.check_fraction("target", self.target)
        if self.step is not None:
            schedules.EqualSteps(self.target, self.step)  # refuses a step out of its range
        if self.measure not in MEASURES:
            raise ValueError(
                f"measure is {self.measure!r}, but it is one of {', '.join(map(repr, MEASURES))}."
            )
        if int(self.round_to) != self.round_to or self.round_to < 1:
            raise ValueError(
                f"round_to is {self.round_to!r}, but it is a whole number of at least 1, for"
                " example 8 for phone kernels."
            )

        if self.calibration is not None:
            self.inputs_given()

    def inputs_given(self) -> list[np.ndarray]:
        """The inputs of `calibration`, one float32 array per network input; none for `"weights"`.

        Raises:
            ValueError: they are not finite, none, or not of the network's shape; all of it at once.
        """
        given, inputs = self.calibration, self.graph.inputs
        if given is None or (isinstance(given, str) and given == "weights"):
            return []
        if isinstance(given, str):
            raise ValueError(
                f"calibration is {given!r}; pass None, 'weights', or an array of inputs."
            )
        if isinstance(given, Mapping):
            missing = [ref.node for ref in inputs if ref.node not in given]
            if missing:
                raise ValueError(f"calibration has no entry for {', '.join(map(repr, missing))}.")
            given = [given[ref.node] for ref in inputs]
        arrays = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(arrays) != len(inputs):
            raise ValueError(
                f"calibration holds {len(arrays)} arrays, but the network has {len(inputs)} inputs."
            )
        found = [np.asarray(array, np.float32) for array in arrays]
        problems = []
        for ref, array in zip(inputs, found, strict=True):
            shape = self.graph.shape(ref)
            if not _fits(array.shape[1:], shape):
                problems.append(
                    f"'{ref.node}' takes {shape}, given are inputs of {array.shape[1:]}"
                )
            elif not len(array):
                problems.append(f"'{ref.node}' is given no input")
            elif not np.isfinite(array).all():
                problems.append(f"'{ref.node}' is given inputs that hold NaN or infinity")
        if problems:
            raise ValueError(f"calibration does not fit the network: {'; '.join(problems)}.")
        return found

    def fractions(self, default_step: float) -> tuple[float, ...]:
        """The fraction removed after each step, rising; `default_step` serves if none was asked."""
        if self.schedule is not None:
            return schedules.fractions(self.schedule)
        if self.target == 0.0:
            return ()
        return schedules.fractions(schedules.EqualSteps(self.target, self.step or default_step))

    def input_ends(self) -> tuple[Any, Any]:
        """Lower and upper ends of the inputs, each a list in the order of the inputs if several.

        Raises:
            ValueError: `input_range` is no pair, or does not name every input.
        """
        given = self.input_range
        names = [ref.node for ref in self.graph.inputs]
        if isinstance(given, Mapping):
            if set(given) != set(names):
                raise ValueError(
                    f"input_range names {sorted(given)}; the network's inputs are {sorted(names)}."
                    " Give a pair (lower, upper) for each."
                )
            pairs = [_pair(given[name]) for name in names]
            lower, upper = [list(ends) for ends in zip(*pairs, strict=True)]
            return (lower, upper) if len(names) > 1 else (lower[0], upper[0])
        return _pair(given)

    def first_state(self) -> PruningState:
        """The state to begin with: `start`, or the dense network and an empty plan."""
        return self.start or PruningState(0, self.graph, Plan.empty(self.groups))

    def generator(self, step: int) -> np.random.Generator:
        """The source of everything drawn at a step."""
        return np.random.default_rng([self.seed, step])


def _fits(given: tuple[int, ...], known: tuple[int | None, ...]) -> bool:
    """Whether a shape is one that a network with open lengths takes."""
    return len(given) == len(known) and all(
        b is None or a == b for a, b in zip(given, known, strict=True)
    )


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


def _pair(given: Any) -> tuple[Any, Any]:
    if not isinstance(given, (tuple, list, np.ndarray)) or len(given) != 2:
        raise ValueError(
            f"input_range is {given!r}; give the least and the greatest input as a pair, for"
            " example (0.0, 1.0), or two arrays of one input's shape."
        )
    return given[0], given[1]
