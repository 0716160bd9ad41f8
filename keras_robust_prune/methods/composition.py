"""A method in parts: a budget (how much of each group), a selector (which units), repairs (what is done about it)."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keras_robust_prune.methods.budgets import Budget, uniform_counts
from keras_robust_prune.methods.packing import packed, unpacked
from keras_robust_prune.methods.problem import Problem, PruningState
from keras_robust_prune.methods.repair.consumers import too_wide, why_too_wide
from keras_robust_prune.methods.repair.repair import Repair
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.selectors import Selector
from keras_robust_prune.methods.timing import INPUTS_SHARE, Estimate
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.surgery.cutting import merge
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.synthesis.kinds import Synthesis


@dataclasses.dataclass(frozen=True)
class Composition:
    """Budget, selector and repairs, in every combination.

    Attributes:
        budget: how many units of each group go.
        selector: which.
        repair: what is done about it, in this order; nothing if empty.
        synthesis: how inputs are made where none are given; parts that read none do not ask for any.
        step: fraction that one step removes where the problem does not say; None removes all in one step.
        name: what the method is called in results and reports.
        minutes: about how long a run may take: fewer inputs are made, and as many steps of distillation are taken as
            fit. The result then depends on the machine and on what else runs there. None for no limit.

    Example:
        >>> from keras_robust_prune.methods.budgets import Uniform
        >>> from keras_robust_prune.methods.selectors import LeastNorm
        >>> Composition(Uniform(), LeastNorm(), name="least norm")
        Composition(budget=Uniform(), selector=LeastNorm(), repair=(), name='least norm')
    """

    budget: Budget
    selector: Selector
    repair: tuple[Repair, ...] = ()
    synthesis: Synthesis = dataclasses.field(default_factory=Synthesis)
    step: float | None = None
    name: str = "composition"
    minutes: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "repair", tuple(self.repair))
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes is {self.minutes!r}, but it is a time above 0, such as 10.")
        parts = [("budget", self.budget, Budget), ("selector", self.selector, Selector)]
        parts += [("repair", part, Repair) for part in self.repair]
        for what, part, kind in parts:
            if not isinstance(part, kind):
                raise TypeError(
                    f"{what} is {getattr(part, '__name__', part)}, but it is an instance of a"
                    f" subclass of {kind.__name__}, for example {_EXAMPLES[what]}."
                )

    def __repr__(self) -> str:
        fields = dataclasses.fields(self)
        said = [
            f
            for f in fields
            if f.name not in ("synthesis", "step", "minutes") or not _usual(self, f)
        ]
        text = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in said)
        return f"{type(self).__name__}({text})"

    @property
    def reads_inputs(self) -> bool:
        """Whether any part looks at inputs."""
        repair = any(part.reads_inputs for part in self.repair)
        return self.budget.reads_inputs or self.selector.reads_inputs or repair

    def estimate(self, run: Run) -> Estimate:
        """How long a run will take, about, before it begins."""
        expected, speed = run.expected, run.speed
        inputs = _PASSES * (expected.num_inverted + expected.num_pictures) * speed.forward
        if steps := expected.num_inverted * expected.steps:
            inputs += steps * speed.gradient + speed.compiled
        stages = [self.budget.takes(run, speed), 0.0]
        for repair in self.repair:
            stages[not repair.by_consumer] += repair.takes(run, speed)
        found = Estimate(inputs, *stages)
        if self.minutes is None:
            return found
        given = 60 * self.minutes
        inputs = min(inputs, INPUTS_SHARE * given)
        left = given - inputs - found.repair
        return Estimate(inputs, found.repair, max(left, 0.0) if found.distillation else 0.0)

    def steps(self, problem: Problem) -> Iterator[PruningState]:
        """One state per step."""
        fractions = problem.fractions(self.step or problem.total or 1.0)
        if not fractions:
            return
        run = Run(problem, self.synthesis, self.minutes)
        state = problem.first_state()
        if self.reads_inputs and run.reads_inputs and state.step < len(fractions):
            if problem.verbose:
                self._announce(run, len(fractions) - state.step)
            run.make_inputs()
        each = problem.per_group is not None
        counts = uniform_counts(problem, fractions) if each else self.budget.counts(run, fractions)
        for step in range(state.step, len(fractions)):
            plan = state.plan if state.plan.widths else Plan.empty(problem.groups)
            state = PruningState(step, state.graph, plan)
            state = self._remove(run, state, counts[step], problem.generator(step))
            if step == len(fractions) - 1:
                run.release()
                for repair in self.repair:
                    state = repair.network(run, state)
                problem.stages.drop()
            problem.stages.drop("repair")
            taken = {"num_photographs": run.num_photographs} if self.reads_inputs else {}
            state = dataclasses.replace(state, step=step + 1, metrics={**state.metrics, **taken})
            if self.reads_inputs:
                state = dataclasses.replace(state, samples=run.samples)
            yield state

    def _announce(self, run: Run, num_steps: int) -> None:
        """Say how long the stages of a run take, before the first of so many steps."""
        found = self.estimate(run)
        print(found, flush=True)
        repairs = [("repair", found.repair)] * num_steps
        inputs, end = ("synthetic inputs", found.inputs), ("distillation", found.distillation)
        Progress.expect([inputs, *repairs, end])

    def _remove(
        self,
        run: Run,
        state: PruningState,
        goal: Mapping[str, int],
        generator: np.random.Generator,
    ) -> PruningState:
        """Choose until every group has lost its count, and repair every consumer.

        An interrupted run goes on behind the last consumer that it had repaired.
        """
        stages, dense = run.problem.stages, run.problem.graph
        done: list[str] = []
        if (found := stages.get("repair")) is not None:
            state, done = unpacked(found, dense, run.problem.groups.widths), found.said["consumers"]
            generator.bit_generator.state = found.said["generator"]
        pending = [group for group in run.problem.groups.groups if goal[group.name]]
        repairs = [repair for repair in self.repair if repair.by_consumer]
        consumers = run.consumers if repairs else ()
        if repairs:
            self._tell_of_wide(run, pending)
        for name in Progress.over("repair", consumers, run.problem.verbose):
            mine = [group for group in run.groups_of(name) if goal[group.name]]
            if not mine:
                continue
            chosen = [group for group in mine if group in pending]
            pending = [group for group in pending if group not in chosen]
            if name in done:
                continue
            state = self._choose(run, state, chosen, goal, generator)
            for repair in repairs:
                state = repair.consumer(run, state, name)
            if stages.keeps:
                done, drawn = [*done, name], generator.bit_generator.state
                stages.put("repair", packed(state, dense, consumers=done, generator=drawn))
        for group in pending:
            state = self._choose(run, state, [group], goal, generator)
        return state

    def _tell_of_wide(self, run: Run, groups: Sequence[ChannelGroup]) -> None:
        """Warn of layers that lose inputs and are not repaired, because their second moments take too much memory."""
        for name, width in too_wide(run.dense, groups).items():
            warnings.warn(
                f"'{name}' is not repaired: it reads what is removed {why_too_wide(width)}. Keep the layers"
                " before it with keep=, or pool before it.",
                stacklevel=2,
            )

    def _choose(
        self,
        run: Run,
        state: PruningState,
        groups: Sequence[ChannelGroup],
        goal: Mapping[str, int],
        generator: np.random.Generator,
    ) -> PruningState:
        """The state with the missing units of some groups chosen, one group after the other, and then removed."""
        removals: tuple[Removal, ...] = ()
        for group in groups:
            missing = goal[group.name] - int(state.plan.dropped[group.name].sum())
            if missing <= 0:
                continue
            units = list(self.selector.select(run, state, group, missing, generator))
            if len(units) != missing:
                raise ValueError(
                    f"{self.selector!r} chose {len(units)} units of '{group.name}'; it was asked for {missing}."
                    " Return as many as `count` says, each of them once."
                )
            chosen = tuple(Removal(group.name, int(unit)) for unit in units)
            state = dataclasses.replace(state, plan=state.plan + chosen)
            removals += chosen
        graph = merge(state.graph, run.problem.groups, removals)
        return dataclasses.replace(state, graph=graph)


_PASSES = 3  # forward passes of every input that is made, to be balanced and judged
_EXAMPLES = {"budget": "Uniform()", "selector": "LeastNorm()", "repair": "LeastSquares()"}


def _usual(method: Composition, field: dataclasses.Field[object]) -> bool:
    """Whether a field has its default."""
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return getattr(method, field.name) == default
