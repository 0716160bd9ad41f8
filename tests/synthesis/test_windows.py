"""Inversion of large pictures: nearer to the statistics and to the classes, for networks of any and of one size."""

from __future__ import annotations

import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.synthesis.kinds import resemblance
from keras_robust_prune.synthesis.pictures import crops, procedural
from keras_robust_prune.synthesis.probe import logit_refs
from keras_robust_prune.synthesis.synthesis import synthetic_inputs
from keras_robust_prune.synthesis.windows import _of_any_size, is_large, match_windows


def classifier(keras: str, last: str):
    module = backends.module(keras)
    module.utils.set_random_seed(0)
    layers = module.layers
    pooled = [layers.GlobalAveragePooling2D()] if last == "pooled" else [layers.Flatten()]
    model = module.Sequential(
        [
            module.Input((96, 96, 3)),
            layers.Conv2D(6, 5, strides=8, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            *pooled,
            layers.Dense(3, name="logits"),
        ]
    )
    model.get_layer("norm").moving_mean.assign(np.linspace(-0.5, 0.5, 6))
    model.get_layer("norm").moving_variance.assign(np.full(6, 0.3))
    return split_activations(read(model))


@pytest.mark.parametrize(
    ("keras", "last", "draw"),
    [("tf_keras", "pooled", crops), ("keras", "pooled", procedural), ("keras", "flat", crops)],
)
def test_windows_come_nearer_to_the_statistics_and_to_the_classes(keras, last, draw):
    graph = classifier(keras, last)
    spaces = input_specs(graph, (-1.0, 1.0))
    (space,) = spaces
    assert is_large(space)
    taken = _of_any_size(graph, logit_refs(graph), (48, 48, 3))
    assert (taken is None) == (last == "flat")

    def made():
        rng = np.random.default_rng(0)
        return match_windows(graph, logit_refs(graph), space, 6, rng, draw)

    arrays, distance = made()
    assert arrays[0].shape == (6, 96, 96, 3)
    assert abs(arrays[0]).max() <= 1.0
    assert set(distance) == {"norm"}
    first = space.raw(draw(space, 6, np.random.default_rng(0)))
    assert resemblance(graph, arrays) < 0.8 * resemblance(graph, [first])
    np.testing.assert_array_equal(arrays[0], made()[0][0])


def test_large_pictures_are_inverted_window_by_window_and_begin_where_they_may():
    graph = classifier("tf_keras", "pooled")
    with_photographs, without = (
        synthetic_inputs(graph, (-1.0, 1.0), count=4, photographs=flag).arrays[0]
        for flag in (True, False)
    )
    assert abs(with_photographs - without).max() > 0.5
