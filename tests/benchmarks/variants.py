"""`robust` with one ingredient switched off or exchanged, and the references beside it.

What is an option of a method is set; what the package always does is exchanged while the method runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build
from keras_robust_prune.methods.budgets import Uniform
from keras_robust_prune.methods.by_cost import ByCost
from keras_robust_prune.methods.problem import Method, Problem, PruningState
from keras_robust_prune.methods.registry import method_for
from keras_robust_prune.methods.repair import compensation, distillation
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.repair.moments import Moments
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.selectors import AtRandom, LeastNorm
from keras_robust_prune.surgery.plan import Plan
from keras_robust_prune.synthesis import kinds
from keras_robust_prune.synthesis.kinds import Synthesis


@dataclasses.dataclass(frozen=True)
class Exchanged:
    """`robust` with a function of the package exchanged for another."""

    module: ModuleType
    function: str
    stand_in: Any

    @property
    def name(self) -> str:
        """What it is called in progress and results."""
        return f"robust without {self.function}"

    def steps(self, problem: Problem) -> Iterator[PruningState]:
        """Those of `robust`."""
        with mock.patch.object(self.module, self.function, self.stand_in):
            yield from Robust().steps(problem)


_JUDGED = compensation._judged  # as it is where nothing is exchanged


def judged_in_sample(moments: Moments, *given: Any) -> list[float]:
    """By ridge the error on each half of the inputs of what is solved on the same half: costs in sample."""
    alone = [dataclasses.replace(moments, halves=(half, half)) for half in moments.halves]
    return np.mean([_JUDGED(half, *given) for half in alone], axis=0).tolist()


def as_they_come(classes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The first inputs, whatever their classes."""
    del classes, rng
    return np.arange(count)


def no_map(run: Run, state: PruningState) -> None:
    """No last map: logits alone are learnt."""
    del run, state


@dataclasses.dataclass(frozen=True)
class TfmotMasks:
    """tfmot's magnitude masks on every kernel, without the training they are made for."""

    name: str = "tfmot magnitude masks"

    def steps(self, problem: Problem) -> Iterator[PruningState]:
        """One state with an empty plan."""
        sparsity = backends.tfmot().sparsity.keras
        schedule = sparsity.ConstantSparsity(problem.target, begin_step=0, frequency=1)
        model = sparsity.prune_low_magnitude(build(problem.graph), schedule)
        masked = {}
        for layer in model.layers:
            if hasattr(layer, "pruning_obj"):
                layer.pruning_step.assign(0)
                layer.pruning_obj.conditional_mask_update()
                for weight, mask_of, _ in layer.pruning_vars:
                    name = weight.name.split("/")[-1].split(":")[0]
                    masked[layer.layer.name, name] = (weight * mask_of).numpy()
        plan = Plan.empty(problem.groups)
        yield PruningState(1, problem.graph.with_weights(masked), plan)


def variants() -> dict[str, tuple[Method, dict[str, object]]]:
    """Compositions and changes of the problem, by what is different."""
    solved, trained = LeastSquares(), Distillation()
    return {
        "robust": (Robust(), {}),
        "no distillation": (Robust(repair=(solved,)), {}),
        "no least squares": (Robust(repair=(trained,)), {}),
        "no repair": (Robust(repair=()), {}),
        "no perturbed inputs": (Robust(repair=(solved, Distillation(perturb=False))), {}),
        "noise instead of inversion": (Robust(synthesis=Synthesis(invert=False)), {}),
        "photographs alone": (Robust(synthesis="photographs"), {}),
        "inverted inputs alone": (Robust(synthesis="inverted"), {}),
        "procedural pictures for photographs": (Robust(synthesis="procedural"), {}),
        "classes as they come": (Exchanged(kinds, "spread", as_they_come), {}),
        "no last map": (Exchanged(distillation, "last_map", no_map), {}),
        "costs in sample": (Exchanged(compensation, "_judged", judged_in_sample), {}),
        "uniform budgets": (Robust(budget=Uniform()), {}),
        "budgets without BatchNorm's memory": (Robust(budget=ByCost(activity=False)), {}),
        "budgets by local costs": (Robust(budget=ByCost(at_outputs=False)), {}),
        "random choice with repair": (Robust(selector=AtRandom()), {}),
        "norm choice with repair": (Robust(selector=LeastNorm()), {}),
        "four steps": (Robust(), {"step": "quarter"}),
        "weights alone (T0)": (Robust(), {"calibration": "weights"}),
        "norm": (method_for("norm"), {}),
        "random": (method_for("random"), {}),
        "paper": (method_for("paper"), {}),
        "tfmot magnitude masks": (TfmotMasks(), {}),
    }
