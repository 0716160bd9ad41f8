"""Pruning in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_robust_prune.methods.problem import Method
from keras_robust_prune.pruning.pruner import Pruner
from keras_robust_prune.pruning.result import PruningResult


def prune(
    model: Any,
    target: float | Mapping[str, float] = 0.5,
    *,
    measure: Any = "units",
    limits: Mapping[Any, float | str] | None = None,
    method: str | Method = "robust",
    input_range: Any = None,
    step: float | None = None,
    schedule: Any = None,
    calibration: Any = None,
    keep: Iterable[str] = (),
    round_to: int = 1,
    device: str | tuple[str, str] | None = None,
    seed: int = 0,
    stop: str | None = None,
    minutes: float | None = None,
    memory: float | None = None,
    loss: Any = None,
    metrics: Sequence[Any] = (),
    validation_data: tuple[Any, Any] | None = None,
    callbacks: Sequence[Any] = (),
    checkpoint: str | Path | None = None,
    strategy: Any = None,
    verbose: int = 1,
    trust: bool = False,
) -> PruningResult:
    """Make a trained model smaller, without its training data.

    The arguments are those of `Pruner`, `Pruner.compile` and `Pruner.fit`, in one call.

    Args:
        model: a tf_keras or Keras 3 model, or the path of one; it is never changed.
        target: fraction to remove, [0, 1), or such fractions by group or layer, e.g. `{"conv_3": 0.7}`; groups
            that are not named give none. `krp.sensitivity` says what each costs.
        measure: what the fraction counts: `"units"` of every layer, `"params"` or `"macs"`, `"bytes"` of
            the float32 file, or a value such as `krp.latency.Latency(table)`.
        limits: what may be left of several measures at once, instead of target and measure: fractions, or text
            with a unit, e.g. `{"bytes": "250 kB", "macs": 0.5, krp.latency.Latency(table): 0.6}`.
        method: `"robust"`, `"paper"`, `"greedy"`, `"baseline"`, `"norm"`, `"random"`, or an object.
        input_range: the valid inputs: None takes what the network says, else (0, 1); `(lower, upper)`, numbers or
            arrays of one input's shape, or an `InputSpec`; for several inputs a mapping from their names to such.
        step: fraction that one step removes; None leaves it to the method.
        schedule: a `tfmot.sparsity.keras.PruningSchedule` instead of target and step.
        calibration: None makes inputs from the network (T1), `"weights"` uses none (T0), real unlabelled
            inputs are used instead: an array, a list or a mapping by name, the path of an `.npz` file or
            of a folder of pictures, a `tf.data.Dataset` or a generator (T2; with `"robust"`, fewer than 512 of them are
            joined by synthetic ones, which count alike).
        keep: names of layers whose units stay.
        round_to: widths that remain become multiples of it.
        device: instead of `round_to`: widths that waste no tile of a device's kernels, see `krp.latency.tile`:
            `"cpu"` (of a phone), `"gpu"`, `"hexagon"` or `"host"`, with the type of the file if not float32, e.g.
            `("cpu", "int8")`. For targets of the whole network, where one layer gives what another cannot.
        seed: of everything that is drawn; the same call gives the same plan.
        stop: a stopping criterion, e.g. `"pgd@0.05>=0.9*dense"`.
        minutes: about how long `"robust"` may take, instead of what the network's size asks for and what it announces
            beforehand. The result then depends on the machine.
        memory: gigabytes that TensorFlow and the run may take; None lets the run take what suits most machines, some
            four for a network of 224 pixels. Within a limit batches are smaller and more is computed anew.
        loss: for `validation_data`.
        metrics: likewise.
        validation_data: inputs and labels to report on; they decide nothing.
        callbacks: Keras callbacks; they see one epoch per step.
        checkpoint: a file that holds every step, and what is done of one under way; a run that finds it goes on from it
            to the same result.
        strategy: a `tf.distribute.Strategy` over whose replicas (several GPUs, several machines) `robust` spreads
            synthetic inputs, the forward passes of second moments, and the batches of distillation.
        verbose: 0 is silent.
        trust: whether a model's file may run code of its own; see `krp.load`.

    Returns:
        The smaller model with its plan, history and summary.

    Raises:
        ModelError: the model cannot be read.
        ValueError: a value is out of its range, or no unit can be removed.

    Example:
        >>> import tf_keras
        >>> layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(8), tf_keras.layers.Dense(2)]
        >>> result = prune(tf_keras.Sequential(layers), 0.5, method="norm", verbose=0)
        >>> result.model.layers[0].units
        4

    Reference:
        [Meng et al., 2023](https://arxiv.org/abs/2204.00783) for `method="paper"`; `"robust"` is
        this project's own.
    """
    pruner = Pruner(
        model,
        input_range=input_range,
        calibration=calibration,
        keep=keep,
        round_to=round_to,
        device=device,
        seed=seed,
        memory=memory,
        trust=trust,
    )
    pruner.compile(
        method,
        target,
        measure=measure,
        limits=limits,
        step=step,
        schedule=schedule,
        stop=stop,
        minutes=minutes,
        loss=loss,
        metrics=metrics,
        checkpoint=checkpoint,
        strategy=strategy,
    )
    history = pruner.fit(validation_data, callbacks, verbose)
    return pruner.result(history)
