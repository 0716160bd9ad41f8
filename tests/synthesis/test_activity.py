"""What BatchNorm remembers, against sampling from it, and inputs that are too quiet."""

from __future__ import annotations

import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers import split_activations
from keras_robust_prune.methods.repair.compensation import held_out_error
from keras_robust_prune.methods.repair.consumers import matrix
from keras_robust_prune.methods.repair.moments import Moments, as_remembered, measure
from keras_robust_prune.synthesis.activity import gain, remembered
from keras_robust_prune.synthesis.probe import ActivationProbe

GAMMA, BETA = np.array([1.0, -0.5, 2.0, 0.1]), np.array([0.0, 0.5, -1.0, 5.9])


def network(keras, activation):
    """Pictures, BatchNorm, an activation, a 3x3 convolution, global average pooling, Dense."""
    layers = backends.module(keras).layers
    activation = activation(layers) if callable(activation) else layers.Activation(activation)
    norm = layers.BatchNormalization(name="norm")
    stack = [layers.Input((6, 6, 4)), norm, activation, layers.Conv2D(5, 3, name="conv")]
    model = backends.module(keras).Sequential([*stack, layers.Flatten()])
    norm.set_weights([GAMMA, BETA, np.full(4, 0.3), np.full(4, 4.0)])
    return split_activations(read(model))


def standard(count, seed=0):
    """Inputs that the BatchNorm's statistics are those of."""
    return np.random.default_rng(seed).normal(0.3, 2.0, (count, 6, 6, 4)).astype("float32")


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize(
    "activation",
    [
        "relu",
        "tanh",
        "swish",
        "gelu",
        lambda layers: layers.ReLU(6.0),
        lambda layers: layers.ReLU(3.0),
    ],
)
def test_the_remembered_mean_is_that_of_inputs_with_the_stored_statistics(keras, activation):
    graph = network(keras, activation)
    (node,) = graph.calls["conv"]
    known = remembered(graph)[node.inputs[0]]
    (seen,) = ActivationProbe(graph, [node.inputs[0]]).run([standard(500)])
    seen = seen.reshape(-1, 4)
    np.testing.assert_allclose(known.mean, seen.mean(0), atol=4 * 2 / np.sqrt(18_000))
    np.testing.assert_allclose(known.deviation, seen.std(0), atol=0.05)
    assert known.rectified


def test_a_mean_passes_what_keeps_it_and_nothing_else():
    layers = backends.module("tf_keras").layers
    x = layers.Input((6, 6, 4))
    behind = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    kept = [layers.GlobalAveragePooling2D(), layers.AveragePooling2D(2), layers.Flatten()]
    kept += [layers.Dropout(0.5), layers.ZeroPadding2D(1)]
    lost = [layers.MaxPooling2D(2), layers.GlobalMaxPooling2D()]
    outputs = [layer(behind) for layer in [*kept, *lost]]
    model = backends.module("tf_keras").Model(x, outputs)
    model.get_layer("norm").set_weights([GAMMA, BETA, np.zeros(4), np.ones(4)])
    graph = read(model)
    found = remembered(graph)
    assert [ref in found for ref in graph.outputs] == [True] * len(kept) + [False] * len(lost)
    for ref in graph.outputs[: len(kept)]:
        np.testing.assert_allclose(found[ref].mean, found[graph.node[ref.node].inputs[0]].mean)


def test_quiet_inputs_count_as_if_they_were_as_active_as_the_data():
    graph = network("tf_keras", "relu")
    weights = matrix(graph, "conv")
    (node,) = graph.calls["conv"]
    activity = remembered(graph)[node.inputs[0]]
    real = measure(graph, graph, "conv", [[standard(200)]])
    quiet = measure(
        graph, graph, "conv", [[np.float32(0.3) + 0.5 * (standard(200) - np.float32(0.3))]]
    )
    found = as_remembered(quiet, weights, activity)
    means = found.gram[-1, :-1].reshape(9, 4).mean(0)
    np.testing.assert_allclose(means, activity.mean, rtol=0.01)
    assert quiet.energy < 0.5 * real.energy
    assert abs(found.energy / real.energy - 1) < abs(quiet.energy / real.energy - 1)
    same = as_remembered(real, weights, activity)
    assert same.energy == pytest.approx(real.energy, rel=0.1)
    assert gain(activity, np.array([1e-9, 1e3, *activity.mean[2:]])).tolist() == [
        8.0,
        0.5,
        1.0,
        1.0,
    ]


def test_what_was_fitted_to_few_rows_is_judged_on_others():
    """20 rows and 30 units, all of which count: any 20 of them fit the rows, and no 20 of them the targets."""
    rng = np.random.default_rng(0)
    weights = np.concatenate([rng.normal(size=(30, 5)), np.zeros((1, 5))])

    def moments(count):
        rows = np.concatenate([rng.normal(size=(count, 30)), np.ones((count, 1))], 1)
        targets = rows @ weights
        squares = float(np.square(targets).sum() / count)
        gram, cross = rows.T @ rows / count, rows.T @ targets / count
        return Moments(gram, cross, squares, squares - float(np.square(cross[-1]).sum()))

    kept = np.arange(20)
    few = moments(20)
    assert held_out_error(few, weights, kept) < 1e-3  # without halves: as it was fitted
    halves = Moments(few.gram, few.cross, few.squares, few.energy, (moments(10), moments(10)))
    found = held_out_error(halves, weights, kept)
    assert 0.25 < found < 1.5  # a third of the variance is in the 10 units that are gone
    assert held_out_error(halves, weights, np.arange(30)) < found
