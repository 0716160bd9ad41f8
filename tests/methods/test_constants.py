"""Units that are constants: found, folded into biases, removed; they stay where padding makes that inexact."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.constants import fold_constants
from keras_robust_prune.pruning.prune import prune
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal

DEAD = [1, 4, 5]


def zeroed(model: Any, layer: str, units: list[int]) -> Graph:
    """The network with whole filters of a layer set to zero, as magnitude pruning leaves them."""
    graph = read(networks.randomise(model))
    kernel = graph.layers[layer].weights["kernel"].copy()
    kernel[..., units] = 0.0
    return graph.with_weights({(layer, "kernel"): kernel})


def convolutional(keras: str, padding: str, use_bias: bool = True) -> Graph:
    """Convolution, BatchNormalization, ReLU, convolution, pooling, Dense; three filters of the first are zero."""
    module = backends.module(keras)
    layers = module.layers
    inputs = module.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="first")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(4, 3, padding=padding, activation="relu", use_bias=use_bias, name="second")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = module.Model(inputs, layers.Dense(3, name="last")(x))
    return zeroed(model, "first", DEAD)


def outputs(graph: Graph) -> np.ndarray:
    inputs = np.random.default_rng(0).uniform(0, 1, (5, 8, 8, 3)).astype("float32")
    return networks.outputs_of(build(graph), inputs)[0]


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize("use_bias", [True, False])
def test_zeroed_filters_leave_no_trace(keras: str, use_bias: bool) -> None:
    graph = convolutional(keras, "valid", use_bias)
    groups = find_groups(graph)
    folded, plan = fold_constants(graph, groups)
    assert set(DEAD) <= {drop for group, drop, _ in plan.removals if group == "first"}
    smaller = cut(folded, find_groups(folded), plan)
    assert smaller.num_params < graph.num_params
    assert smaller.layers["second"].config["use_bias"]
    dense = outputs(graph)
    for ours in (folded, smaller):
        np.testing.assert_allclose(outputs(ours), dense, rtol=0, atol=1e-5 * np.abs(dense).max())
    # Dropped as zeros, the constants would be missed.
    naive = outputs(cut(graph, groups, plan))
    assert np.abs(naive - dense).max() > 1e-3 * np.abs(dense).max()


def test_at_the_border_of_same_padding_no_constant_is_folded() -> None:
    graph = convolutional("tf_keras", "same")
    folded, plan = fold_constants(graph, find_groups(graph))
    dense = outputs(graph)
    np.testing.assert_allclose(outputs(folded), dense, rtol=0, atol=1e-5)
    assert not set(DEAD) <= {drop for group, drop, _ in plan.removals if group == "first"}


def test_units_that_never_rise_above_their_relu_are_zeros() -> None:
    keras = backends.module("tf_keras")
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(5, "relu", name="a"),
        keras.layers.Dense(2, name="b"),
    ]
    graph = read(networks.randomise(keras.Sequential(layers)))
    kernel, bias = (graph.layers["a"].weights[name].copy() for name in ("kernel", "bias"))
    kernel[:, 2], bias[2] = 1.0, -4.5  # at most 4 - 4.5 on inputs in [0, 1]
    graph = graph.with_weights({("a", "kernel"): kernel, ("a", "bias"): bias})
    groups = find_groups(graph)
    assert Removal("a", 2) in fold_constants(graph, groups)[1].removals
    assert Removal("a", 2) not in fold_constants(graph, groups, (0.0, 2.0))[1].removals


def test_one_unit_stays_where_all_are_constant() -> None:
    keras = backends.module("tf_keras")
    layers = [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    graph = zeroed(keras.Sequential(layers), "a", [0, 1, 2])
    folded, plan = fold_constants(graph, find_groups(graph))
    assert [removal.drop for removal in plan.removals] == [1, 2]
    inputs = np.zeros((1, 4), "float32")
    smaller = cut(folded, find_groups(folded), plan)
    np.testing.assert_allclose(build(smaller)(inputs), build(graph)(inputs), atol=1e-6)


def test_a_network_without_constants_is_left_alone() -> None:
    graph = read(networks.network("mlp"))
    groups = find_groups(graph)
    _, plan = fold_constants(graph, groups, (-1.0, 1.0))
    assert plan == Plan.empty(groups)


@pytest.mark.parametrize("keras", backends.NAMES)
def test_pruning_takes_zeroed_filters_first_and_without_a_trace(keras: str) -> None:
    graph = convolutional(keras, "valid")
    groups = find_groups(graph)
    plain = cut(graph, groups, Plan(tuple(Removal("first", k) for k in DEAD), dict(groups.widths)))
    result = prune(build(graph), 0.5, method="norm", keep=["second"], verbose=0)
    assert set(result.plan.kept("first")) == set(range(6)) - set(DEAD)
    np.testing.assert_allclose(outputs(read(result.model)), outputs(graph), atol=1e-6)
    assert np.abs(outputs(plain) - outputs(graph)).max() > 1e-3
