"""The event files of `krp.TensorBoard`, read back."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

import keras_robust_prune as krp
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.pruning.tensorboard import TensorBoard
from keras_robust_prune.synthesis.kinds import Synthesis

X = np.random.default_rng(0).random((16, 6, 6, 1), np.float32)
Y = np.arange(16) % 3


def model() -> Any:
    layers = [tf_keras.Input((6, 6, 1)), tf_keras.layers.Conv2D(8, 3, name="conv")]
    layers += [tf_keras.layers.Flatten(), tf_keras.layers.Dense(4, name="dense")]
    return tf_keras.Sequential([*layers, tf_keras.layers.Dense(3, name="out")])


def events(folder: Path) -> EventAccumulator:
    """Every event of a folder, nothing thinned out."""
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    return found.Reload()


def values(found: EventAccumulator, tag: str) -> list[tuple[int, Any]]:
    return [(event.step, make_ndarray(event.tensor_proto)) for event in found.Tensors(tag)]


def scalars(found: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(step, float(value)) for step, value in values(found, tag)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[EventAccumulator, Any]:
    """Two steps of `robust`, with labelled data."""
    folder = tmp_path_factory.mktemp("events")
    method = Robust(repair="reconstruct", synthesis=Synthesis("inverted", 24))
    options: dict[str, Any] = {"step": 0.25, "seed": 3, "verbose": 0, "metrics": ["accuracy"]}
    options |= {"validation_data": (X, Y), "loss": "sparse_categorical_crossentropy"}
    board = krp.TensorBoard(folder)
    result = krp.prune(
        model(), {"conv": 0.5, "dense": 0.5}, method=method, callbacks=[board], **options
    )
    return events(folder), result


def test_scalars_of_every_step_and_stage(run: tuple[EventAccumulator, Any]) -> None:
    found, result = run
    history = result.history
    names = {"pruning/pruned_fraction": "pruned_fraction", "pruning/macs": "macs"}
    names |= {
        "validation/accuracy": "val_accuracy",
        "repair/reconstruction_error": "reconstruction_error",
    }
    for tag, name in names.items():
        assert [step for step, _ in scalars(found, tag)] == [0, 1]
        np.testing.assert_allclose([v for _, v in scalars(found, tag)], history[name], rtol=1e-6)


def test_widths_of_every_group(run: tuple[EventAccumulator, Any]) -> None:
    assert scalars(run[0], "width/conv") == [(0, 6.0), (1, 4.0)]
    assert scalars(run[0], "width/dense") == [(0, 3.0), (1, 2.0)]


def test_histograms_hold_a_cost_for_every_unit_left(run: tuple[EventAccumulator, Any]) -> None:
    counts = [value[:, 2].sum() for _, value in values(run[0], "cost/conv")]
    assert counts == [6, 4]


def test_synthetic_inputs_are_images(run: tuple[EventAccumulator, Any]) -> None:
    (_, first), _ = values(run[0], "inputs/inverted")
    assert first[:2].tolist() == [b"6", b"6"]  # width and height, then a PNG of each
    assert len(first) == 2 + 12
    picture = tf.io.decode_png(first[2]).numpy()
    sample = run[1].origin.samples["inverted"][0]
    np.testing.assert_allclose(picture, 255 * sample, atol=0.51)


def test_hyper_parameters_are_there(run: tuple[EventAccumulator, Any]) -> None:
    metadata = run[0].SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(metadata).session_start_info.hparams
    assert told["method"].string_value == "robust"
    assert told["seed"].number_value == 3
    assert told["target"].number_value == 0.5
    assert told["target/conv"].number_value == 0.5


def test_in_an_ordinary_fit_the_masks_tell(tmp_path: Path) -> None:
    masked = krp.wrap(model())
    masked.compile("sgd", "sparse_categorical_crossentropy")
    pruning = krp.RobustPruning(0.5, begin=1, end=2, method="norm")
    hooks = [pruning, krp.TensorBoard(tmp_path)]
    masked.fit(X, Y, epochs=3, verbose=0, callbacks=hooks)
    found = events(tmp_path)
    assert scalars(found, "width/conv") == [(0, 8.0), (1, 6.0), (2, 4.0)]
    assert [step for step, _ in scalars(found, "training/loss")] == [0, 1, 2]


def test_a_model_without_masks_is_refused(tmp_path: Path) -> None:
    plain = model()
    plain.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"krp\.wrap\(model\)"):
        plain.fit(X, Y, verbose=0, callbacks=[krp.TensorBoard(tmp_path)])


def test_without_tensorboard_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        TensorBoard("events")
