"""Normalisations behind no kernel are folded into what reads them, and the function stays.

`tests/exporting/test_adjusting.py` looks at files, `tests/keras_io/test_random_networks.py` at whatever network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import outputs_of, random_inputs, randomise

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.surgery.folding import folded


def left_of(model: Any) -> int:
    """How many normalisations are left, once the function is seen to be the same."""
    graph, passing = folded(read(model))
    x = random_inputs(model)
    for ours, theirs in zip(outputs_of(build(graph), x), outputs_of(model, x), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    kept = sum("moving_mean" in layer.weights for layer in graph.layers.values())
    assert kept >= len(passing)
    return kept


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize(("between", "left"), [("Dropout", 0), ("MaxPooling2D", 1)])
def test_a_sign_moves_where_nothing_compares(keras: str, between: str, left: int) -> None:
    """The largest of what is multiplied by -1 is no product of the largest."""
    layers = backends.module(keras).layers
    inner = layers.Dropout(0.1) if between == "Dropout" else layers.MaxPooling2D()
    chain = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), inner]
    chain += [layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()]
    model = randomise(backends.module(keras).Sequential([layers.Input((12, 12, 3)), *chain]))
    gamma, *rest = model.layers[1].get_weights()
    model.layers[1].set_weights([np.abs(gamma) * [1, -1, 1, -1], *rest])
    assert left_of(model) == left


@pytest.mark.parametrize("keras", backends.NAMES)
def test_a_unit_that_is_there_twice_keeps_both_factors(keras: str) -> None:
    layers = backends.module(keras).layers
    x = inputs = layers.Input((6,))
    x = layers.BatchNormalization()(layers.Concatenate()([x, x]))
    assert left_of(randomise(backends.module(keras).Model(inputs, layers.Dense(3)(x)))) == 1
