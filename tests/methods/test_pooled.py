"""Layers behind global pooling see one row per input: their units are not free because a few inputs cannot tell."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods import run
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.kinds import Synthesis


def drawn(count, seed):
    """Pictures of 4x4 coloured squares, dark to bright."""
    rng = np.random.default_rng(seed)
    squares = rng.random((count, 4, 4, 3)).repeat(3, 1).repeat(3, 2)
    return (squares * rng.random((count, 1, 1, 1))).astype("float32")


def pooled():
    """Three convolutions with BatchNorm, the last one wide, before global pooling; statistics of 500 pictures."""
    keras = backends.module("tf_keras")
    keras.utils.set_random_seed(0)
    layers = [keras.Input((12, 12, 3))]
    for name, units, size, stride in (("a", 16, 3, 2), ("b", 48, 3, 1), ("head", 256, 1, 1)):
        layers.append(
            keras.layers.Conv2D(units, size, stride, padding="same", use_bias=False, name=name)
        )
        layers += [keras.layers.BatchNormalization(name=f"{name}_norm"), keras.layers.ReLU(6.0)]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(40, name="classes")]
    model, x = keras.Sequential(layers), drawn(500, 1)
    for layer in model.layers[1::3]:
        if layer.name.endswith("_norm"):
            seen = keras.Model(model.inputs, layer.input).predict(x, verbose=0)
            seen, rng = seen.reshape(-1, seen.shape[-1]), np.random.default_rng(seen.shape[-1])
            width = seen.shape[-1]
            scale, shift = rng.uniform(0.5, 1.5, width), rng.normal(-0.5, 0.5, width)
            layer.set_weights([scale, shift, seen.mean(0), seen.var(0)])
    return model


@pytest.fixture(scope="module")
def problem():
    graph = read(pooled())
    return Problem(graph, find_groups(graph), target=0.3, measure="macs", calibration=drawn(40, 2))


@pytest.mark.slow
def test_units_before_global_pooling_are_not_taken_for_free(problem, monkeypatch):
    """40 rows explain what 255 units say as well as what 134 do: version 0.1.0 took 122 of 'head' and nothing else."""
    monkeypatch.setattr(run, "MANY", 40)
    (state,) = Robust(repair="reconstruct").steps(problem)
    gone = {name: int(dropped.sum()) for name, dropped in state.plan.dropped.items()}
    assert gone["head"] < 90
    assert gone["a"] + gone["b"] > 0


@pytest.mark.slow
def test_what_too_few_rows_are_known_of_is_protected(problem, monkeypatch, capsys):
    monkeypatch.setattr(run, "MANY", 12)

    few = dataclasses.replace(problem, calibration=drawn(12, 2), verbose=1)
    (state,) = Robust(repair="reconstruct").steps(few)
    assert not state.plan.dropped["head"].any()
    said = capsys.readouterr().out
    assert "'head' is protected: 'classes' reads them at 11 positions of all inputs only" in said
    hard = dataclasses.replace(problem, calibration=drawn(12, 2), target=0.99)
    with pytest.warns(
        UserWarning, match=r"units of 'head' are removed although 'classes'.*calibration="
    ):
        list(Robust(repair="reconstruct").steps(hard))


def flattened():
    """A convolution of 160 units on 8 x 8 positions behind Flatten: 10,240 rows, and a narrow one before it."""
    keras = backends.module("keras")
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 1, name="narrow")]
    layers += [keras.layers.Conv2D(160, 1, name="wide"), keras.layers.Flatten()]
    return read(keras.Sequential([*layers, keras.layers.Dense(2, name="flat")]))


def test_a_layer_too_wide_to_be_solved_anew_protects_what_it_reads(capsys):
    graph = flattened()
    x = np.random.default_rng(0).random((40, 8, 8, 1)).astype("float32")
    problem = Problem(
        graph, find_groups(graph), target=0.3, measure="macs", calibration=x, verbose=1
    )
    (state,) = Robust(repair="reconstruct", synthesis=Synthesis(num_inputs=64)).steps(problem)
    assert "'wide' is protected: 'flat' reads them in 10,240 rows" in capsys.readouterr().out
    assert {name: int(gone.sum()) for name, gone in state.plan.dropped.items()}["wide"] == 0


def test_a_layer_too_wide_to_be_repaired_is_told_of():
    graph = flattened()
    x = np.random.default_rng(0).random((40, 8, 8, 1)).astype("float32")
    problem = Problem(graph, find_groups(graph), target=0.25, calibration=x)
    with pytest.warns(UserWarning, match=r"'flat' is not repaired: .* in 10,240 rows.*keep="):
        (state,) = Robust(repair="reconstruct", synthesis=Synthesis(num_inputs=64)).steps(problem)
    assert {name: int(gone.sum()) for name, gone in state.plan.dropped.items()}["wide"] == 40
