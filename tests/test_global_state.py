"""Generators, policies, backend, environment, handlers, filters and the folder are the caller's, before and after."""

from __future__ import annotations

import os
import random
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import keras_robust_prune as krp
from keras_robust_prune import backends, demo
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.synthesis.kinds import Synthesis

# What of the menu is a class that only holds what it is given, or registers what is the user's.
HOLD = {"Attack", "Evaluation", "ExportReport", "FileDescription", "InputSpec", "LayerType"}
HOLD |= {"Metadata", "ModelError", "Plan", "PruningResult", "Quantization", "Removal", "Robust"}
HOLD |= {"TensorBoard", "register_attack", "register_layer", "register_quantization"}


def state() -> dict[str, Any]:
    keras, tf_keras = backends.keras(), backends.tf_keras()
    return {
        "random": random.getstate(),
        "numpy": [str(part) for part in np.random.get_state()],  # noqa: NPY002
        "tensorflow": tf.random.get_global_generator().state.numpy().tolist(),
        "policies": (
            keras.config.dtype_policy().name,
            tf_keras.mixed_precision.global_policy().name,
        ),
        "backend": (
            keras.config.backend(),
            *(
                (module.backend.floatx(), module.backend.image_data_format())
                for module in (keras, tf_keras)
            ),
        ),
        "environment": dict(os.environ),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "filters": list(warnings.filters),
        "folder": os.getcwd(),
    }


def calls(name: str, folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every function of the menu, by name."""
    keras = backends.module(name)
    stack = [keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dropout(0.1)]
    model = keras.Sequential([*stack, keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    path, lite = folder / "model.keras", folder / "model.tflite"
    model.save(path)
    x, y = np.full((3, 4), 0.5, np.float32), np.array([0, 1, 0])
    validation = {"validation_data": (x, y), "metrics": ["accuracy"], "callbacks": []}
    repair = (LeastSquares(), Distillation(num_steps=2))
    robust = krp.Robust(repair=repair, synthesis=Synthesis(num_inputs=16))
    given = {"overwrite": True, "min_agreement": 0.0}
    masked, silent = krp.wrap(model), {"verbose": 0}

    def fit() -> None:
        pruner = krp.Pruner(model)
        pruner.compile(robust, checkpoint=folder / "run")
        pruner.fit(verbose=0)

    def train() -> None:
        wrapped = krp.wrap(model)
        wrapped.compile("sgd", "mse")
        pruning = krp.RobustPruning(0.5, begin=0, end=0, method="norm")
        wrapped.fit(x, np.zeros((3, 2)), epochs=1, verbose=0, callbacks=[pruning])

    yield "wrap", lambda: krp.wrap(model)
    yield "strip", lambda: krp.strip(masked)
    yield "load", lambda: krp.load(path)
    yield "summary", lambda: str(krp.summary(model))
    yield "inspect", lambda: str(krp.inspect(path))
    yield "prune", lambda: krp.prune(model, method="norm", verbose=0, **validation)
    yield "Pruner", fit
    yield "RobustPruning", train
    yield "sensitivity", lambda: krp.sensitivity(model, fractions=(0.5,), num_inputs=8, **silent)
    yield "evaluate", lambda: krp.evaluate(model, x, y, attacks="pgd@0.1", **silent)
    yield "certify", lambda: krp.certify(model, model, x, 0.01, **silent)
    yield "export_tflite", lambda: krp.export_tflite(model, lite, **given)
    yield "export", lambda: krp.export(model, lite, "int8", **given)
    yield "describe_tflite", lambda: str(krp.describe_tflite(lite))
    yield "compare_files", lambda: krp.compare_files([lite], x, y, runs=2, **silent)


@pytest.mark.slow
@pytest.mark.parametrize("name", backends.NAMES)
def test_calls_leave_global_state_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = dict(calls(name, tmp_path))
    assert set(found) == set(krp.MENU) - HOLD
    for label, call in found.items():
        before = state()
        call()
        after = state()
        assert [key for key in before if before[key] != after[key]] == [], label
    before = state()
    demo.load()
    assert before == state()
