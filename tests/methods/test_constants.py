"""Units that are constants: found, folded into biases, removed; and measured where padding makes that inexact."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.constants import constant_units, fold_constants
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
    found = constant_units(graph, groups)["first"]
    assert set(DEAD) <= set(np.flatnonzero(found))
    folding = fold_constants(graph, groups)
    assert set(DEAD) <= {drop for group, drop, _ in folding.plan.removals if group == "first"}
    assert all(border == 0 for border in folding.inexact_border.values())
    assert folding.left == {}
    smaller = cut(folding.graph, folding.groups, folding.plan)
    assert smaller.num_params < graph.num_params
    assert smaller.layers["second"].config["use_bias"]
    dense = outputs(graph)
    for ours in (folding.graph, smaller):
        np.testing.assert_allclose(outputs(ours), dense, rtol=0, atol=1e-5 * np.abs(dense).max())
    # Dropped as zeros, the constants would be missed.
    naive = outputs(cut(graph, groups, folding.plan))
    assert np.abs(naive - dense).max() > 1e-3 * np.abs(dense).max()


def test_the_border_of_same_padding_is_inexact_and_measured() -> None:
    graph = convolutional("tf_keras", "same")
    groups = find_groups(graph)
    exact = fold_constants(graph, groups)
    dense = outputs(graph)
    np.testing.assert_allclose(outputs(exact.graph), dense, rtol=0, atol=1e-5)
    assert exact.left["first"] >= 1

    folding = fold_constants(graph, groups, inexact=True)
    assert {removal.drop for removal in folding.plan.removals if removal.group == "first"} >= set(
        DEAD
    )
    border = folding.inexact_border["second"]
    assert border > 0
    assert "'second' pads" in str(folding)
    # What the report says is what a border sees: compare the convolution's outputs before its activation.
    second = graph.layers["second"]
    linear = {name: g.with_layers([_linear(g)]) for name, g in (("a", graph), ("b", folding.graph))}
    ref = graph.calls[second.name][0].ref
    before, after = (outputs(linear[name].ending_at([ref])) for name in "ab")
    difference = np.abs(before - after).max(axis=(0, 3))
    assert difference.max() == pytest.approx(border, rel=1e-4)
    np.testing.assert_allclose(difference[1:-1, 1:-1], 0, atol=1e-5)


def _linear(graph: Graph) -> Any:
    layer = graph.layers["second"]
    return type(layer)(
        layer.name,
        layer.kind,
        {**layer.config, "activation": "linear"},
        layer.weights,
        layer.origin,
    )


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
    assert constant_units(graph, groups)["a"][2]
    assert not constant_units(graph, groups, (0.0, 2.0))["a"][2]


def test_one_unit_stays_where_all_are_constant() -> None:
    keras = backends.module("tf_keras")
    layers = [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    graph = zeroed(keras.Sequential(layers), "a", [0, 1, 2])
    folding = fold_constants(graph, find_groups(graph))
    assert [removal.drop for removal in folding.plan.removals] == [1, 2]
    inputs = np.zeros((1, 4), "float32")
    smaller = cut(folding.graph, folding.groups, folding.plan)
    np.testing.assert_allclose(build(smaller)(inputs), build(graph)(inputs), atol=1e-6)


def test_a_network_without_constants_is_left_alone() -> None:
    graph = read(networks.network("mlp"))
    groups = find_groups(graph)
    folding = fold_constants(graph, groups, (-1.0, 1.0))
    assert folding.plan == Plan.empty(groups)
    assert str(folding) == "0 constant units folded into biases of 0 layers"


@pytest.mark.parametrize("keras", backends.NAMES)
def test_pruning_takes_zeroed_filters_first_and_without_a_trace(keras: str) -> None:
    graph = convolutional(keras, "valid")
    groups = find_groups(graph)
    plain = cut(graph, groups, Plan(tuple(Removal("first", k) for k in DEAD), dict(groups.widths)))
    result = prune(build(graph), 0.5, method="norm", keep=["second"], verbose=0)
    assert set(result.plan.kept("first")) == set(range(6)) - set(DEAD)
    np.testing.assert_allclose(outputs(read(result.model)), outputs(graph), atol=1e-6)
    assert np.abs(outputs(plain) - outputs(graph)).max() > 1e-3
