"""Pruning in Keras's manner: `compile` says how, `fit` takes one step per epoch.

No training happens here: an epoch is one pruning step, and Keras's callbacks see it as they see any other. The model
they see is masked, so its shape never changes; `Pruner.model` is the physically smaller one.
"""

from __future__ import annotations

import dataclasses
import inspect
import time
import types
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.distributing import Replicas, on_several_workers
from keras_robust_prune.keras_io.outputs import CHECKPOINT, Output, check
from keras_robust_prune.keras_io.quantised import refuse_quantised
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.latency.tiles import width_step
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.memory import limited
from keras_robust_prune.methods.constants import without_dead_units
from keras_robust_prune.methods.measures import Limits
from keras_robust_prune.methods.problem import Method, Problem, PruningState
from keras_robust_prune.methods.reference.progress import PUBLISHED_STEP
from keras_robust_prune.methods.registry import method_for
from keras_robust_prune.methods.stages import NONE, Stages
from keras_robust_prune.pruning.checkpoint import Checkpoint
from keras_robust_prune.pruning.following import followed
from keras_robust_prune.pruning.origin import Origin, call_of, known_by
from keras_robust_prune.pruning.repeating import repeatable
from keras_robust_prune.pruning.result import PruningResult, tier_of
from keras_robust_prune.pruning.steps import Steps
from keras_robust_prune.pruning.stopping import StoppingCriterion, stopping_criterion
from keras_robust_prune.pruning.target import MissedTarget, Target
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups, kept_names
from keras_robust_prune.surgery.plan import Plan
from keras_robust_prune.training.likeness import compiled_like, own_steps, with_class_of
from keras_robust_prune.training.wrappers import set_masks, strip, wrap_graph, write_weights


class Pruner:
    """Removes units from a trained model, step by step.

    Args:
        model: a tf_keras or Keras 3 model, or the path of one; it is never changed.
        input_range: the valid inputs: None takes what the network says, else (0, 1); `(lower, upper)`, numbers or
            arrays of one input's shape, or an `InputSpec`; for several inputs a mapping from their names to such.
        calibration: None makes inputs from the network, `"weights"` forbids any; real unlabelled inputs
            are used instead: an array `(num, ...)`, a list or a mapping by name for several inputs, the
            path of an `.npz` file or of a folder of pictures, or a `tf.data.Dataset`.
        keep: names of layers whose units stay.
        round_to: widths that remain become multiples of it.
        device: instead of `round_to`, whose kernels they shall fit; see `prune`.
        seed: of everything that is drawn.
        memory: gigabytes that a run may take; see `prune`.
        trust: whether a model's file may run code of its own; see `krp.load`.

    Raises:
        ModelError: the model cannot be read.
        ValueError: no unit of it can be removed, `keep` names no layer of it, the inputs do not fit, or
            its class has a `train_step` of its own and cannot be made from inputs and outputs.

    Example:
        >>> import tf_keras
        >>> layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(8), tf_keras.layers.Dense(2)]
        >>> pruner = Pruner(tf_keras.Sequential(layers))
        >>> pruner.compile(method="norm", target=0.5, step=0.25)
        >>> pruner.fit(verbose=0).history["kept_units"]
        [6, 4]
        >>> pruner.model.layers[0].units
        4
    """

    def __init__(
        self,
        model: Any,
        *,
        input_range: Any = None,
        calibration: Any = None,
        keep: Iterable[str] = (),
        round_to: int = 1,
        device: str | tuple[str, str] | None = None,
        seed: int = 0,
        memory: float | None = None,
        trust: bool = False,
    ) -> None:
        self._given = strip(model, trust)
        refuse_quantised(self._given)
        given = read(self._given)
        if own_steps(self._given):
            with_class_of(self._given, build(given))  # refused now, not when all is done
        keep = kept_names(keep)
        groups = find_groups(given, keep)
        with limited(memory, 4.0 * given.num_params):
            self.inputs = input_specs(given, input_range, calibration)
        self.dense = without_dead_units(given, groups, self.inputs)
        self.groups = groups if self.dense is given else find_groups(self.dense, keep)
        self.state = PruningState(0, self.dense, Plan.empty(self.groups))
        self.stopped = self.missed = self.criterion = ""
        self._options: dict[str, Any] = {
            "input_range": self.inputs,
            "calibration": "weights"
            if isinstance(calibration, str) and calibration == "weights"
            else None,
            "round_to": width_step(round_to, device),
            "seed": seed,
            "memory": memory,
        }
        self._keep = keep
        self._source, self._seconds = given, 0.0
        self._call: dict[str, Any] = {"input_range": input_range, "calibration": calibration}
        self._call |= {"keep": keep, "round_to": round_to, "device": device}
        self._call |= {"seed": seed, "memory": memory, "trust": trust}
        self._read = {"model": model} if isinstance(model, (str, Path)) else {}
        self._masked: Any = None
        self._metrics: dict[str, Any] = {}

    def compile(
        self,
        method: str | Method = "robust",
        target: float | Mapping[str, float] = 0.5,
        *,
        measure: Any = "units",
        limits: Mapping[Any, float | str] | None = None,
        step: float | None = None,
        schedule: Any = None,
        stop: str | None = None,
        minutes: float | None = None,
        loss: Any = None,
        metrics: Sequence[Any] = (),
        checkpoint: str | Path | None = None,
        strategy: Any = None,
    ) -> None:
        """Say how to prune.

        Args:
            method: `"robust"`, `"paper"`, `"greedy"`, `"baseline"`, `"norm"`, `"random"`, or an object
                with a name and `steps(problem)`.
            target: fraction to remove, [0, 1), or such fractions by group or layer; see `prune`.
            measure: what the fraction counts: `"units"` of every layer, `"params"` or `"macs"` of the
                network, `"bytes"` of its float32 file, or a value such as
                `krp.latency.Latency(table)`.
            limits: what may be left of several measures at once, instead of target and measure; see `prune`.
            step: fraction that one step removes; None leaves it to the method.
            schedule: `schedule(step) -> (should_prune, fraction)`, such as a
                `tfmot.sparsity.keras.PruningSchedule`, instead of target and step.
            stop: a stopping criterion, e.g. `"pgd@0.05>=0.9*dense"`; pruning ends at the last step that
                keeps it.
            minutes: about how long `"robust"` may take; see `prune`.
            loss: for `validation_data`, as in Keras.
            metrics: likewise.
            checkpoint: a file that holds every step, and what is done of the one under way; a run that finds it
                there goes on from it to the same result.
            strategy: a `tf.distribute.Strategy` over whose replicas `robust` spreads synthetic inputs, the forward
                passes of second moments, and the batches of distillation.

        Raises:
            FileExistsError: `checkpoint` is there and is none.
            ValueError: a value is out of its range, a target names no group, `checkpoint` is the model's own path,
                or workers of a strategy would each go on from their own.
        """
        self._method = method_for(method, minutes)
        self._call |= {"method": method, "target": target, "measure": measure, "limits": limits}
        self._call |= {"step": step, "schedule": schedule, "stop": stop, "minutes": minutes}
        self._call |= {"checkpoint": checkpoint}
        if isinstance(target, Mapping) and (schedule is not None or limits is not None):
            raise ValueError(
                "A target per group says how much goes of each: leave schedule and limits out."
            )
        if limits is not None:
            measure = Limits(limits)
            target = measure.target(self.dense, self.groups.groups)
        self._wanted = {
            "target": target,
            "measure": measure,
            "step": step,
            "schedule": schedule,
        }
        self._stop = stop
        self._criterion: StoppingCriterion | None = stopping_criterion(stop)
        self._checkpoint = None if checkpoint is None else Path(checkpoint)
        if checkpoint is not None:
            check([Output("checkpoint", checkpoint, CHECKPOINT, resumed=True)], self._read)
        if checkpoint is not None and on_several_workers(strategy):
            raise ValueError(
                "checkpoint= is for one process: several workers would each go on from another place. Leave it out"
                " where the strategy has several."
            )
        self._strategy = strategy
        self._metrics = {"loss": loss, "metrics": list(metrics)}
        self._problem(0)

    def fit(
        self,
        validation_data: Any = None,
        callbacks: Sequence[Any] = (),
        verbose: int = 1,
    ) -> Any:
        """Prune, one epoch per step. A further `fit` goes on from where this one ended.

        Args:
            validation_data: inputs and labels as Keras's `evaluate` takes them: a tuple, a
                `tf.data.Dataset`, a `Sequence`, or a generator, which is read once. They are reported
                on, and decide nothing.
            callbacks: Keras callbacks; they see the masked model and one epoch per step.
            verbose: 0 is silent; 1 says how far the work is, in a line that moves, and at times how a step
                ended; 2 says it of every step.

        Returns:
            A Keras `History`. Its logs are `kept_units`, `pruned_fraction`, `params`, `macs`, what
            the method measures (`energy`, `output_l1`, `output_entropy`), and the validation
            metrics as `val_...`.
        """
        begin = time.monotonic()
        validation_data = repeatable(validation_data)
        hooks, history = self._hooks(validation_data, callbacks, verbose)
        stages: Stages = NONE
        if self._checkpoint is not None:
            stages = found = Checkpoint(self._checkpoint, self.dense, self._settings())
            if self._checkpoint.exists() and not self.state.step:
                self.state = found.load(self.groups.widths) or self.state
        problem = self._problem(verbose, stages)
        self.stopped = ""
        plans = [self.state.plan]
        if self._criterion is not None:
            with problem.limited():
                self._criterion.prepare(self.dense, problem)
        hooks.on_train_begin()
        with problem.limited(), Steps(self._target, verbose, self.state.step) as told:
            for state in self._method.steps(problem):
                for callback in callbacks:  # ours may look at more than what Keras hands over
                    if hasattr(callback, "on_pruning_step"):
                        callback.on_pruning_step(state, problem, self._method.name)
                if self._criterion is not None:
                    broken = self._criterion.failed_by(cut(state.graph, self.groups, state.plan))
                    if broken:
                        self.stopped = broken
                        break
                hooks.on_epoch_begin(self.state.step)
                logs = self._take(state, validation_data, stages)
                plans.append(state.plan)
                hooks.on_epoch_end(state.step - 1, logs)
                told.step(state, self.graph, logs)
                if getattr(self._masked, "stop_training", False):
                    self.stopped = "a callback asked for it"
                    break
        hooks.on_train_end()
        self._seconds += time.monotonic() - begin
        if self._masked is not None:
            self.state = followed(self._masked, self.state, plans, self.groups)
        self.missed = "" if self.stopped else self._target.missed(self.graph, self.plan)
        if self.missed:
            warnings.warn(self.missed, MissedTarget, stacklevel=2)
        self.criterion = "" if self._criterion is None else self._criterion.met_by(self.graph)
        return history

    @property
    def masked(self) -> Any:
        """The model that callbacks see: full shape, units masked."""
        if self._masked is None:
            self._masked = wrap_graph(self.state.graph, self.groups)
            set_masks(self._masked, self.dense, self.groups, self.state.plan)
        return self._masked

    @property
    def graph(self) -> Graph:
        """The smaller network as it stands, as a graph."""
        return cut(self.state.graph, self.groups, self.state.plan)

    @property
    def model(self) -> Any:
        """The smaller model as it stands, of the Keras that was given, compiled like it."""
        return compiled_like(self._given, with_class_of(self._given, build(self.graph)))

    @property
    def plan(self) -> Plan:
        """Every removal so far."""
        return self.state.plan

    def result(self, history: Any) -> PruningResult:
        """What `prune` returns.

        Args:
            history: what `fit` returned.
        """
        graph, target = self.graph, self._target
        return PruningResult(
            model=self.model,
            plan=self.plan,
            history=dict(history.history),
            tier=tier_of(self._method, self._options["calibration"], self.inputs, history.history),
            method=self._method.name,
            dense=self.dense,
            graph=graph,
            stopped=self.stopped,
            criterion=self.criterion,
            inputs=self.inputs,
            measure=target.name,
            asked=target.asked,
            amounts=(left := target.amounts(self.plan)),
            removed=target.removed(graph, self.plan, left),
            missed=self.missed,
            origin=self._origin,
        )

    @property
    def _origin(self) -> Origin:
        """How what stands came about."""
        call = call_of(self._read.get("model", "model"), self._call, _defaults())
        source = known_by(self._source)
        problem = dataclasses.replace(self._problem(0), start=None)
        return Origin(call, self._method, problem, source, self._seconds, self.state.samples)

    @property
    def _target(self) -> Target:
        """What was to be removed."""
        own = getattr(self._method, "step", PUBLISHED_STEP)
        problem = self._problem(0)
        fractions = problem.fractions(own or problem.total or 1.0)
        given = (self._wanted["measure"], max(fractions, default=0.0), self.dense, self.groups)
        return Target(*given, self._options["round_to"], len(fractions))

    def _problem(self, verbose: int, stages: Stages = NONE) -> Problem:
        given = {**self._wanted, **self._options, "verbose": verbose, "stages": stages}
        given["strategy"] = self._strategy
        start = self.state if self.state.step else None
        return Problem(self.dense, self.groups, **given, start=start)

    def _settings(self) -> dict[str, Any]:
        """Everything beside the network that decides how the run ends, by name."""
        given = {**self._wanted, **self._options, "keep": sorted(self._keep)}
        given["input_range"] = [spec.digest for spec in self.inputs]
        given["strategy"] = Replicas(self._strategy).count
        return {**given, "method": self._method, "stop": self._stop}

    def _hooks(
        self, validation_data: Any, callbacks: Sequence[Any], verbose: int
    ) -> tuple[Any, Any]:
        """The callbacks and Keras's `History` among them, bound to the masked model if need be."""
        module = backends.module(self.dense.keras)
        if not callbacks and validation_data is None:
            history = module.callbacks.History()
            history.set_model(types.SimpleNamespace(history=None))
            return history, history
        given = {**self._metrics, "loss": self._metrics["loss"] or _no_loss}
        self.masked.compile(**given)
        listed = module.callbacks.CallbackList(
            list(callbacks), add_history=True, model=self.masked, verbose=verbose, epochs=1, steps=1
        )
        self.masked.stop_training = False
        return listed, self.masked.history

    def _take(self, state: PruningState, validation_data: Any, stages: Stages) -> dict[str, float]:
        """Make a state ours: weights and masks of the masked model, checkpoint, logs."""
        small = cut(state.graph, self.groups, state.plan)
        if self._masked is not None:
            write_weights(self._masked, mask(state.graph, self.groups, state.plan))
            set_masks(self._masked, self.dense, self.groups, state.plan)
        self.state = state
        stages.note(state)
        logs: dict[str, float] = {
            "kept_units": sum(state.plan.widths.values()) - len(state.plan.removals),
            "pruned_fraction": state.plan.fraction,
            "params": small.num_params,
            "macs": num_macs(small),
            **state.metrics,
        }
        if validation_data is not None:
            given = {"x": validation_data}
            if isinstance(validation_data, (tuple, list)):
                given = dict(zip(("x", "y", "sample_weight"), validation_data, strict=False))
            found = self._masked.evaluate(**given, verbose=0, return_dict=True)
            if (self._metrics or {}).get("loss") is None:
                found.pop("loss", None)
            logs.update({f"val_{name}": float(value) for name, value in found.items()})
        return logs


def _no_loss(labels: Any, outputs: Any) -> Any:
    """Stands in where no loss is asked for: nothing is trained."""
    return backends.tensorflow().zeros(())


def _defaults() -> dict[str, Any]:
    """Of the arguments that say what a run is asked."""
    asked = [inspect.signature(part).parameters for part in (Pruner, Pruner.compile)]
    return {name: item.default for part in asked for name, item in part.items()}
