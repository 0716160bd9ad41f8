"""BatchNormalization as a convolution: the same values, gradients and weights as Keras's own."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.normalizing import normalizations_convolved
from keras_robust_prune.keras_io.reading import build, read

KERASES = pytest.mark.parametrize("keras", backends.NAMES)


def network(keras: str, shape: tuple[int, ...] = (4, 5, 3), **config: Any) -> Graph:
    """One BatchNormalization called `norm`, with weights drawn at random."""
    module = backends.module(keras)
    layer = module.layers.BatchNormalization(name="norm", **config)
    graph = read(module.Sequential([module.Input(shape), layer]))
    rng = np.random.default_rng(0)
    drawn = {
        ("norm", name): rng.uniform(0.5, 2.0, value.shape).astype(np.float32)
        for name, value in graph.layers["norm"].weights.items()
    }
    return graph.with_weights(drawn)


def values_and_gradients(graph: Graph, x: np.ndarray) -> list[np.ndarray]:
    """What a network gives, and the gradients of the sum of its squares: to its input, gamma and beta."""
    model = build(graph)
    given = tf.constant(x)
    weights = model.trainable_weights
    variables = [found if isinstance(found, tf.Variable) else found.value for found in weights]
    with tf.GradientTape() as tape:
        tape.watch([given, *variables])
        values = model(given, training=False)
        loss = tf.reduce_sum(tf.square(values))
    return [np.asarray(values), *map(np.asarray, tape.gradient(loss, [given, *variables]))]


def is_convolved(graph: Graph) -> bool:
    """Whether the layer is made in another way."""
    return normalizations_convolved(graph).layers["norm"].origin is not graph.layers["norm"].origin


@KERASES
@pytest.mark.parametrize("config", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1}])
def test_values_and_gradients_are_those_of_keras(keras: str, config: dict[str, Any]) -> None:
    graph = network(keras, **config)
    assert is_convolved(graph)
    x = np.random.default_rng(1).normal(size=(6, 4, 5, 3)).astype(np.float32)
    ours, theirs = (
        values_and_gradients(found, x) for found in (normalizations_convolved(graph), graph)
    )
    assert len(ours) == len(theirs) == 4 - len(config.keys() & {"scale", "center"})
    for mine, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, their, rtol=2e-5, atol=1e-5)


@KERASES
def test_training_is_that_of_keras(keras: str) -> None:
    graph = network(keras)
    x = np.random.default_rng(1).normal(size=(6, 4, 5, 3)).astype(np.float32)
    ours, theirs = (build(found) for found in (normalizations_convolved(graph), graph))
    np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))
    np.testing.assert_array_equal(
        ours.get_layer("norm").moving_mean, theirs.get_layer("norm").moving_mean
    )


@KERASES
@pytest.mark.parametrize(
    ("shape", "config"),
    [((3,), {}), ((7, 3), {}), ((2, 4, 5, 3), {}), ((4, 5, 3), {"axis": 1})],
)
def test_other_axes_stay(keras: str, shape: tuple[int, ...], config: dict[str, Any]) -> None:
    assert not is_convolved(network(keras, shape, **config))


@KERASES
def test_a_layer_of_the_users_own_stays(keras: str) -> None:
    class Own(backends.module(keras).layers.BatchNormalization):  # type: ignore[misc]
        pass

    graph = network(keras)
    own = dataclasses.replace(graph.layers["norm"], origin=Own)
    assert not is_convolved(graph.with_layers([own]))


@KERASES
def test_half_precision_stays_with_keras(keras: str) -> None:
    graph = network(keras, dtype="mixed_float16")
    x = np.random.default_rng(1).normal(size=(6, 4, 5, 3)).astype(np.float16)
    ours, theirs = (build(found)(x) for found in (normalizations_convolved(graph), graph))
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
