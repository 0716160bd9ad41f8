"""A callback that writes what pruning does to TensorBoard's event files."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.problem import Problem, PruningState
from keras_robust_prune.methods.saliency import norm_saliency
from keras_robust_prune.pruning.pictures import picture_of
from keras_robust_prune.surgery.groups import ChannelGroups, find_groups
from keras_robust_prune.surgery.plan import Plan
from keras_robust_prune.training.callbacks import NeutralCallback
from keras_robust_prune.training.wrappers import masked_layers, plan_of

# Under which stage of a method's step what it measures stands, by how its name begins.
STAGES = {"reconstruction": "repair", "distillation": "distillation", "num_photographs": "inputs"}
COUNTS = ("kept_units", "pruned_fraction", "params", "macs")


class TensorBoard(NeutralCallback):
    """Writes scalars, widths, costs, synthetic inputs and hyper-parameters for TensorBoard.

    In `krp.prune(callbacks=[...])` and `Pruner.fit` one step is one epoch. In an ordinary `fit` of a model that `wrap`
    made it stands behind `RobustPruning`; there the masks tell the widths. Keras's own `TensorBoard` may write beside
    it.

    Tags are `pruning/...` (fraction removed, units, parameters and MACs left), `repair/...`, `distillation/...` and
    `method/...` (what each stage of a step measured), `validation/...` and `training/...` (metrics of the labelled
    data), `width/GROUP` (units left), `cost/GROUP` (a histogram: incoming times outgoing norm of each unit left) and
    `inputs/KIND` (synthetic inputs as images).

    Args:
        log_dir: the folder; of each run one of its own.

    Raises:
        ValueError: TensorBoard is not installed.

    Example:
        >>> import tempfile
        >>> import keras_robust_prune as krp
        >>> import tf_keras
        >>> layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(8), tf_keras.layers.Dense(2)]
        >>> folder = tempfile.mkdtemp()
        >>> board = krp.TensorBoard(folder)
        >>> _ = krp.prune(tf_keras.Sequential(layers), method="norm", callbacks=[board], verbose=0)
        >>> any("tfevents" in name for name in os.listdir(folder))
        True
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        self.log_dir = os.fspath(log_dir)
        try:
            self._hparams = importlib.import_module("tensorboard.plugins.hparams.api")
        except ImportError as error:
            raise ValueError(
                "krp.TensorBoard writes with TensorBoard, which is not installed: pip install tensorboard"
            ) from error
        self._writer: Any = None
        self._seen: tuple[PruningState, Problem] | None = None
        self._told = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the event file."""
        self._writer = backends.tensorflow().summary.create_file_writer(self.log_dir)
        self._seen, self._told = None, False

    def on_pruning_step(self, state: PruningState, problem: Problem, method: str) -> None:
        """A step of a method is done; it is written when its epoch ends."""
        self._seen = state, problem
        if not self._told:
            self._tell(method, problem)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Writes the step, or the epoch."""
        summary = backends.tensorflow().summary
        graph, groups, plan = self._network()
        with self._writer.as_default(step=epoch):
            for name, value in (logs or {}).items():
                summary.scalar(_tag(name, self._seen is not None), float(value))
            for group in groups.groups:
                alive = plan.kept(group.name)
                summary.scalar(f"width/{group.name}", len(alive))
                summary.histogram(f"cost/{group.name}", norm_saliency(graph, group)[alive])
            if self._seen is not None:
                self._pictures(*self._seen)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the event file."""
        self._writer.close()

    def _network(self) -> tuple[Graph, ChannelGroups, Plan]:
        """What stands: as the method says, or as the masks of the model that is trained do."""
        if self._seen is not None:
            state, problem = self._seen
            return state.graph, problem.groups, state.plan
        if not masked_layers(self.model):
            raise ValueError(
                f"'{self.model.name}' is not pruned here: use krp.TensorBoard in the fit of krp.wrap(model), or in"
                " krp.prune(callbacks=[...])."
            )
        graph = read(self.model)
        groups = find_groups(graph)
        return graph, groups, plan_of(self.model, graph, groups)

    def _pictures(self, state: PruningState, problem: Problem) -> None:
        for kind, samples in state.samples.items():
            drawn = [picture_of(sample, problem.inputs[0]) for sample in samples]
            shown = [picture for picture in drawn if picture is not None]
            if shown:
                images = np.stack(shown)
                backends.tensorflow().summary.image(
                    f"inputs/{kind}", images, max_outputs=len(images)
                )

    def _tell(self, method: str, problem: Problem) -> None:
        """Writes the hyper-parameters."""
        self._told = True
        found: dict[str, Any] = {"method": method, "target": problem.total, "seed": problem.seed}
        found["measure"] = str(getattr(problem.measure, "name", problem.measure))
        found |= {"round_to": problem.round_to, "step": problem.step or 0.0}
        for name, fraction in (problem.per_group or {}).items():
            found[f"target/{name}"] = fraction
        with self._writer.as_default(step=0):
            self._hparams.hparams(found)


def _tag(name: str, pruned: bool) -> str:
    """Where a logged value stands; `pruned` is whether a method logged it, not a fit."""
    if name in COUNTS:
        return f"pruning/{name}"
    if name.startswith("val_"):
        return f"validation/{name.removeprefix('val_')}"
    for begin, stage in STAGES.items():
        if name.startswith(begin):
            return f"{stage}/{name}"
    return f"{'method' if pruned else 'training'}/{name}"
