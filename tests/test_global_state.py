"""Generators, environment and filters of the caller are as before."""

from __future__ import annotations

import os
import random
import warnings
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import keras_robust_prune as krp
from keras_robust_prune import backends


def state() -> dict[str, Any]:
    return {
        "random": random.getstate(),
        "numpy": [str(part) for part in np.random.get_state()],  # noqa: NPY002
        "tensorflow": tf.random.get_global_generator().state.numpy().tolist(),
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
    }


@pytest.mark.parametrize("name", backends.NAMES)
@pytest.mark.slow
def test_calls_leave_global_state_alone(name: str, tmp_path: Any) -> None:
    keras = backends.module(name)
    stack = [keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dropout(0.1)]
    model = keras.Sequential([*stack, keras.layers.Dense(2)])
    path = tmp_path / "model.keras"
    model.save(path)
    x, y = np.full((3, 4), 0.5), np.array([0, 1, 0])
    validation = {"validation_data": (x, y), "metrics": ["accuracy"], "callbacks": []}
    masked = krp.wrap(model)
    for call in (
        lambda: krp.prune(model, method="norm", verbose=0, **validation),
        lambda: krp.evaluate(model, x, y, attacks="pgd@0.1"),
        lambda: krp.export(
            model, tmp_path / "model.tflite", "int8", min_agreement=0.0, overwrite=True
        ),
        lambda: krp.wrap(model),
        lambda: krp.strip(masked),
        lambda: krp.load(path),
    ):
        before = state()
        call()
        after = state()
        assert [key for key in before if before[key] != after[key]] == []
