"""Radii and moved inputs, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.synthesis.perturbation import radius
from keras_robust_prune.synthesis.probe import ActivationProbe, logit_refs


@pytest.fixture
def linear():
    """Two logits, x0 * 70 and -x1 * 30, on inputs in [0, 2]."""
    keras = backends.module("tf_keras")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[70.0, 0.0], [0.0, -30.0]]), np.zeros(2)])
    graph = split_activations(read(model))
    return ActivationProbe(graph, logit_refs(graph)), input_specs(graph, (0.0, 2.0))


def test_the_radius_moves_a_margin_by_seven_logits(linear):
    probe, spaces = linear
    x = np.full((4, 2), 1.0, "float32")
    # the margin 70 x0 + 30 x1 changes by 100 per unit, 200 over the range
    assert radius(probe, [x], spaces) == pytest.approx(7 / 200)
