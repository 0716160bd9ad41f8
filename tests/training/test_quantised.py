"""Together with tfmot's quantisation-aware training: prune before, train after, export the result."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras

import keras_robust_prune as krp
from keras_robust_prune import backends

X = np.random.default_rng(0).uniform(size=(64, 6, 6, 1)).astype("float32")
Y = (X.mean((1, 2, 3)) > 0.5).astype(int)


@pytest.fixture(scope="module")
def trained() -> Any:
    """A network that was pruned, then trained on with the rounding of int8."""
    model = tf_keras.Sequential(
        [
            tf_keras.Input((6, 6, 1)),
            tf_keras.layers.Conv2D(8, 3, activation="relu", name="conv"),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(2, name="out"),
        ],
        name="net",
    )
    small = krp.prune(model, 0.5, method="norm", verbose=0).model
    model = backends.tfmot().quantization.keras.quantize_model(small)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(X, Y, epochs=2, verbose=0)
    return model


def test_the_file_has_the_ranges_that_were_learnt(trained: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = krp.export_tflite(trained, tmp_path / "a.tflite", "dynamic", calibration=None)
    assert report.ops["CONV_2D"] == 1
    assert report.ops["QUANTIZE"] == 1
    kernels = 3 * 3 * 4 + 4 * 4 * 4 * 2  # of four filters, one byte each
    assert kernels < report.num_bytes < 4 * kernels + 4000
    assert report.agreement is not None
    assert report.agreement >= 0.9
    assert krp.evaluate(tmp_path / "a.tflite", X, Y, verbose=0).accuracy == pytest.approx(
        trained.evaluate(X, Y, verbose=0)[1], abs=0.1
    )


@pytest.mark.parametrize("call", [krp.prune, krp.wrap, krp.inspect, krp.Pruner])
def test_what_was_quantised_is_refused_with_the_way(call: Any, trained: Any) -> None:
    with pytest.raises(
        ValueError, match=r"Prune before: small = krp\.prune.*quantize_model\(small\)"
    ):
        call(trained)


def test_its_file_too(trained: Any, tmp_path: Path) -> None:
    trained.save(tmp_path / "q.keras")
    with pytest.raises(ValueError, match=r"within tfmot\.quantization\.keras\.quantize_scope\(\)"):
        krp.prune(tmp_path / "q.keras")
