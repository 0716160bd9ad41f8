"""The callback that prunes a wrapped model step by step inside an ordinary `fit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.distributing import outside_scope, take_over_from_chief
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.methods.problem import Method, Problem, PruningState
from keras_robust_prune.methods.registry import method_for
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.methods.schedules import check_fraction
from keras_robust_prune.methods.targets import by_group, of_all
from keras_robust_prune.surgery.cutting import mask
from keras_robust_prune.surgery.groups import find_groups, kept_names
from keras_robust_prune.training.wrappers import masked_layers, plan_of, set_masks, write_weights

HOOKS = [f"on_{mode}_{end}" for mode in ("train", "test", "predict") for end in ("begin", "end")]
HOOKS += [
    f"on_{mode}_batch_{end}" for mode in ("train", "test", "predict") for end in ("begin", "end")
]
HOOKS += ["on_epoch_begin", "on_epoch_end", "on_batch_begin", "on_batch_end"]


class NeutralCallback:
    """What both Keras versions ask of a callback; does nothing at every hook."""

    _supports_tf_logs = False
    _chief_worker_only = None
    async_safe = True

    def __init__(self) -> None:
        self.model: Any = None
        self.params: Mapping[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Keras hands over the model that is trained."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Keras hands over numbers of epochs and steps."""
        self.params = params

    def _implements_train_batch_hooks(self) -> bool:
        return False

    _implements_test_batch_hooks = _implements_train_batch_hooks
    _implements_predict_batch_hooks = _implements_train_batch_hooks


def _nothing(self: NeutralCallback, *args: Any, **kwargs: Any) -> None:
    """Nothing happens at this hook."""


for _hook in HOOKS:
    setattr(NeutralCallback, _hook, _nothing)


@dataclasses.dataclass(frozen=True)
class EpochSchedule:
    """Removes in equal parts from epoch `begin` to epoch `end`, both included.

    Example:
        >>> [EpochSchedule(0.6, 1, 3)(epoch)[1] for epoch in range(5)]
        [0.0, 0.2, 0.4, 0.6, 0.6]
    """

    target: float
    begin_step: int
    end_step: int

    def __call__(self, epoch: int) -> tuple[bool, float]:
        """Whether units go at the begin of an epoch, and the fraction that is gone then."""
        done = min(max(epoch - self.begin_step + 1, 0), self.end_step - self.begin_step + 1)
        fraction = self.target * done / (self.end_step - self.begin_step + 1)
        return self.begin_step <= epoch <= self.end_step, round(fraction, 12)


class RobustPruning(NeutralCallback):
    """Prunes a model that `wrap` made, at the begin of epochs of its `fit`.

    It sets masks and re-solves weights; training goes on with what is left. Masks are weights of
    the model: checkpoints hold them, `EarlyStopping(restore_best_weights=True)` restores them, and
    a further `fit` goes on from them.

    Args:
        target: fraction of the units to remove from every layer, [0, 1), or such fractions by group or layer.
        begin: the first epoch, counted from 0, at whose begin units go.
        end: the last such epoch.
        method: as for `prune`; `"robust"` without its distillation, because training follows.
        schedule: any `schedule(epoch) -> (should_prune, fraction)` instead of target, begin and end. A
            `tfmot.sparsity.keras.PruningSchedule` whose `frequency` is above 1 counts training steps, as
            in tfmot; what it asks for is removed at the begin of the next epoch.
        input_range: the valid inputs, as for `prune`.
        calibration: as for `prune`.
        keep: names of layers whose units stay.
        seed: of everything that is drawn.

    Raises:
        ValueError: the model was not wrapped, or `end` lies before `begin`.

    Example:
        >>> RobustPruning(target=0.5, begin=1, end=4).schedule(2)
        (True, 0.25)
    """

    def __init__(
        self,
        target: float | Mapping[str, float] = 0.5,
        begin: int = 0,
        end: int = 0,
        *,
        method: str | Method = "robust",
        schedule: Callable[[int], tuple[Any, Any]] | None = None,
        input_range: Any = None,
        calibration: Any = None,
        keep: tuple[str, ...] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if end < begin:
            raise ValueError(f"end is {end}, which lies before begin, {begin}.")
        self.target: float | Mapping[str, float] = target
        if not isinstance(target, Mapping):
            self.target = target = check_fraction("target", target)
        elif schedule is not None:
            raise ValueError("A target per group says how much goes of each: leave schedule out.")
        whole = 1.0 if isinstance(target, Mapping) else target  # of what each group gives
        # Training itself repairs what distillation would.
        self.method = Robust(repair="reconstruct") if method == "robust" else method_for(method)
        self.schedule = schedule or EpochSchedule(whole, begin, end)
        self.input_range = input_range
        self.calibration = calibration
        self.keep = kept_names(keep)
        self.seed = seed
        self.inputs: tuple[InputSpec, ...] = ()
        self.logs: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Checks that the model is wrapped, and takes over its masks."""
        layers = masked_layers(self.model)
        if not layers:
            raise ValueError(
                f"'{self.model.name}' is not wrapped, so there are no masks to set. Train"
                " krp.wrap(model) instead."
            )
        if isinstance(self.target, Mapping):
            by_group(find_groups(read(self.model), self.keep), self.target)  # refused now
        for layer in layers.values():
            layer.mask_is_scheduled = True

    def on_train_end(self, logs: Any = None) -> None:
        """Lets go of the model: training it without the callback is told again."""
        for layer in masked_layers(self.model).values():
            layer.mask_is_scheduled = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Removes what the schedule asks for; weights and masks change only when all is decided."""
        should_prune, fraction = self._asked(epoch)
        if not bool(should_prune) or float(fraction) <= 0.0:
            return
        graph = read(self.model)
        groups = find_groups(graph, self.keep)
        plan = plan_of(self.model, graph, groups)
        if isinstance(self.target, Mapping):  # of which the schedule counts the part that is done
            fraction *= of_all(groups, by_group(groups, self.target))
        done = plan.fraction
        if float(fraction) <= done + 1e-9:
            return
        graph = mask(graph, groups, plan)
        problem = Problem(
            graph,
            groups,
            self.target,
            schedule=_Fractions((done, float(fraction)) if done else (float(fraction),)),
            input_range=self._specs(graph),
            calibration="weights" if self._forbids_inputs else None,
            seed=self.seed + epoch,
            start=PruningState(1 if done else 0, graph, plan),
        )
        for state in outside_scope(lambda: list(self.method.steps(problem))):
            write_weights(self.model, state.graph)
            set_masks(self.model, graph, groups, state.plan)
            self.logs = {"pruned_fraction": state.plan.fraction, **state.metrics}
        take_over_from_chief(self.model)

    def _asked(self, epoch: int) -> tuple[Any, Any]:
        """What the schedule says now; one with a `frequency` counts training steps, as in tfmot."""
        frequency = int(getattr(self.schedule, "frequency", 1))
        if frequency <= 1:
            return self.schedule(epoch)
        begin, end = (int(getattr(self.schedule, name)) for name in ("begin_step", "end_step"))
        done = int(np.asarray(self.model.optimizer.iterations))
        last = min(done, end) if end >= 0 else done
        if last < begin:
            return False, 0.0
        return self.schedule(begin + (last - begin) // frequency * frequency)

    @property
    def _forbids_inputs(self) -> bool:
        return isinstance(self.calibration, str) and self.calibration == "weights"

    def _specs(self, graph: Graph) -> tuple[InputSpec, ...]:
        """What the inputs may be, and the examples, which are read once."""
        if not self.inputs:
            self.inputs = input_specs(graph, self.input_range, self.calibration)
        return self.inputs

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the fraction removed, and what the method measured, into the logs."""
        if logs is not None:
            logs.update(self.logs or {"pruned_fraction": 0.0})


@dataclasses.dataclass(frozen=True)
class _Fractions:
    """A schedule of given fractions, one per step."""

    values: tuple[float, ...]
    begin_step: int = 0

    @property
    def end_step(self) -> int:
        return len(self.values) - 1

    def __call__(self, step: int) -> tuple[bool, float]:
        return True, self.values[step]
