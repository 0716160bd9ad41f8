"""The optimiser is Adam, its rates are a cosine, and TensorFlow forgets both once a run is over."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from networks import network

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.keras_io.adam import Adam, cosine
from keras_robust_prune.keras_io.distributing import Replicas
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.synthesis.kinds import Synthesis


def test_steps_are_those_of_keras():
    tf, keras = backends.tensorflow(), backends.tf_keras()
    start = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    ours, theirs = tf.Variable(start), tf.Variable(start)
    adam, optimizer = (
        Adam([ours], Replicas(), beta_2=0.99),
        keras.optimizers.Adam(0.05, beta_2=0.99, epsilon=1e-8),
    )
    optimizer.build([theirs])
    step = tf.function(lambda x, number: adam.apply([x], tf.constant(0.05), number))
    for number in range(20):
        gradient = tf.constant(start * np.cos(number).astype(np.float32))
        step(gradient, tf.constant(number))
        optimizer.apply_gradients([(gradient, theirs)])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)
    assert abs(ours.numpy() - start).max() > 0.1


def test_rates_are_those_of_keras():
    schedules = backends.tf_keras().optimizers.schedules
    falling = schedules.CosineDecay(0.5, 60, alpha=0.1)
    rising = schedules.CosineDecay(0.0, 40, warmup_target=0.5, warmup_steps=20)
    for number in (0, 1, 19, 20, 21, 45, 60):
        assert cosine(number, 60, 0.5, 0.05) == pytest.approx(float(falling(number)), abs=1e-6)
        assert cosine(number, 60, 0.5, warm=20) == pytest.approx(float(rising(number)), abs=1e-6)


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.slow
def test_a_run_leaves_no_compiled_graph_behind(keras: str):
    """One of each kind of network: synthetic inputs and distillation are compiled anew in every run."""
    model = network("conv_bn", keras)
    repair = (LeastSquares(), Distillation(num_steps=2))
    method = krp.Robust(repair=repair, synthesis=Synthesis(num_inputs=16))

    def graphs(seed: int) -> int:
        krp.prune(model, 0.5, method=method, seed=seed, verbose=0)
        gc.collect()
        return sum(type(item).__name__ == "FuncGraph" for item in gc.get_objects())

    first = graphs(0)
    assert graphs(1) <= first
