from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.methods.saliency import (
    Pair,
    disjoint_pairs,
    incoming,
    norm_saliency,
    outgoing,
    outgoing_norms,
    pair_distances,
)
from keras_robust_prune.surgery.groups import ChannelGroup, find_groups


def chain(*layers: Layer, shapes: list[tuple[int, ...]]) -> Graph:
    nodes = [Node("x", "x", shapes=(shapes[0],))]
    for layer, shape in zip(layers, shapes[1:], strict=True):
        ref = nodes[-1].ref
        nodes.append(Node(layer.name, layer.name, (ref,), {}, (ref,), (shape,)))
    by_name = {layer.name: layer for layer in (Layer("x", "InputLayer", {}), *layers)}
    return Graph(by_name, tuple(nodes), (Ref("x"),), (nodes[-1].ref,))


def dense(name: str, rng: np.random.Generator, fan_in: int, units: int, activation: str) -> Layer:
    config = {"name": name, "units": units, "activation": activation, "use_bias": True}
    weights = {
        "kernel": rng.normal(size=(fan_in, units)).astype("float32"),
        "bias": rng.normal(size=units).astype("float32"),
    }
    return Layer(name, "Dense", config, weights)


def two_layers(units: int = 6, seed: int = 0) -> tuple[Graph, ChannelGroup]:
    rng = np.random.default_rng(seed)
    first, last = dense("first", rng, 4, units, "relu"), dense("last", rng, units, 3, "softmax")
    graph = chain(first, last, shapes=[(4,), (units,), (3,)])
    return graph, find_groups(graph).by_name["first"]


def convolutional(seed: int = 1) -> tuple[Graph, ChannelGroup]:
    """A convolution, BatchNormalization, ReLU, Flatten, a dense layer: 2x2 places, 5 filters."""
    rng = np.random.default_rng(seed)
    config = {"name": "conv", "filters": 5, "kernel_size": (2, 2), "strides": (1, 1)}
    config |= {"padding": "valid", "activation": "linear", "use_bias": True, "groups": 1}
    config |= {"data_format": "channels_last", "dilation_rate": (1, 1)}
    conv = Layer(
        "conv",
        "Conv2D",
        config,
        {
            "kernel": rng.normal(size=(2, 2, 3, 5)).astype("float32"),
            "bias": rng.normal(size=5).astype("float32"),
        },
    )
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    values = [rng.uniform(0.5, 2.0, 5).astype("float32") for _ in names]
    normalization = Layer(
        "bn",
        "BatchNormalization",
        {"name": "bn", "axis": [-1], "epsilon": 0.001},
        dict(zip(names, values, strict=True)),
    )
    relu = Layer("relu", "Activation", {"name": "relu", "activation": "relu"})
    flatten = Layer("flatten", "Flatten", {"name": "flatten", "data_format": "channels_last"})
    last = dense("last", rng, 20, 3, "softmax")
    shapes = [(3, 3, 3), (2, 2, 5), (2, 2, 5), (2, 2, 5), (20,), (3,)]
    graph = chain(conv, normalization, relu, flatten, last, shapes=shapes)
    return graph, find_groups(graph).by_name["conv"]


def test_pairs_are_judged_by_the_formula():
    graph, group = two_layers()
    x, b = graph.layers["first"].weights["kernel"], graph.layers["first"].weights["bias"]
    v = graph.layers["last"].weights["kernel"]
    distances, norms = pair_distances(graph, group, "relative"), outgoing_norms(graph, group)
    for i in range(6):
        for j in range(6):
            apart = np.linalg.norm(x[:, i].astype(float) - x[:, j])
            if i != j:
                apart += abs(b[i] - b[j]) / (abs(b[i]) + abs(b[j]))
            assert distances[i, j] == pytest.approx(apart, rel=1e-5)
            assert norms[j] == pytest.approx(np.linalg.norm(v[j]), rel=1e-5)


def test_a_bias_is_the_weight_of_a_constant_input():
    graph, group = two_layers()
    x, b = graph.layers["first"].weights["kernel"], graph.layers["first"].weights["bias"]
    found = pair_distances(graph, group)
    expected = np.linalg.norm(np.append(x[:, 1], b[1]) - np.append(x[:, 4], b[4]))
    assert found[1, 4] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(found.diagonal(), np.zeros(6))


def test_another_way_with_biases_is_refused():
    with pytest.raises(ValueError, match="'weight', 'relative'"):
        pair_distances(*two_layers(), bias="none")


def test_bias_term_is_the_published_one_for_biases_of_one_sign_and_at_most_1():
    graph, group = two_layers()
    bias = np.array([3.0, 1.0, 0.0, 0.0, 2.0, -2.0], "float32")
    graph = graph.with_weights({("first", "bias"): bias})
    unbiased = graph.with_weights({("first", "bias"): np.zeros(6, "float32")})
    term = pair_distances(graph, group, "relative") - pair_distances(unbiased, group)
    assert term[0, 1] == pytest.approx(abs(3 - 1) / abs(3 + 1))
    assert term[2, 3] == 0.0
    assert term[0, 2] == pytest.approx(1.0)
    assert term[4, 5] == pytest.approx(1.0)


def test_batch_normalization_is_folded_into_filters_that_it_follows():
    graph, group = convolutional()
    (weights,), (biases,) = incoming(graph, group)
    conv, bn = graph.layers["conv"].weights, graph.layers["bn"].weights
    for k in range(5):
        scale = bn["gamma"][k] / np.sqrt(bn["moving_variance"][k] + 0.001)
        expected = conv["kernel"][..., k].ravel() * scale
        np.testing.assert_allclose(np.sort(weights[k]), np.sort(expected), rtol=1e-5)
        shift = (conv["bias"][k] - bn["moving_mean"][k]) * scale + bn["beta"][k]
        assert biases[k, 0] == pytest.approx(shift, rel=1e-5)


def test_flattened_filters_own_several_rows():
    graph, group = convolutional()
    (rows,) = outgoing(graph, group)
    assert rows.shape == (5, 4 * 3)
    kernel = graph.layers["last"].weights["kernel"]
    expected = np.linalg.norm(kernel.reshape(4, 5, 3), axis=(0, 2))
    np.testing.assert_allclose(outgoing_norms(graph, group), expected, rtol=1e-6)


def test_norm_saliency_is_the_product_of_norms():
    graph, group = two_layers()
    x, v = graph.layers["first"].weights["kernel"], graph.layers["last"].weights["kernel"]
    expected = np.linalg.norm(x, axis=0) * np.linalg.norm(v, axis=1)
    np.testing.assert_allclose(norm_saliency(graph, group), expected, rtol=1e-6)


def test_identical_twins_come_first():
    graph, group = two_layers()
    kernel = graph.layers["first"].weights["kernel"].copy()
    bias = graph.layers["first"].weights["bias"].copy()
    kernel[:, 5], bias[5] = kernel[:, 2], bias[2]
    graph = graph.with_weights({("first", "kernel"): kernel, ("first", "bias"): bias})
    norms = outgoing_norms(graph, group)
    first = next(disjoint_pairs(pair_distances(graph, group), norms, np.arange(6)))
    assert {first.drop, first.keep} == {2, 5}
    assert first.saliency == 0.0


def greedy_walk(distances: np.ndarray, norms: np.ndarray, alive: np.ndarray) -> list[Pair]:
    """All pairs sorted, then walked."""
    order = sorted(alive.tolist(), key=lambda unit: (norms[unit], unit))
    pairs = sorted(
        (distances[drop, keep] * norms[drop], rank, distances[drop, keep], other, drop, keep)
        for rank, drop in enumerate(order)
        for other, keep in enumerate(order)
        if rank < other
    )
    used: set[int] = set()
    found = []
    for cost, _, _, _, drop, keep in pairs:
        if drop not in used and keep not in used:
            used |= {drop, keep}
            found.append(Pair(drop, keep, float(cost)))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 24), st.integers(0, 10_000), st.booleans())
def test_lazy_pairs_are_the_greedy_walk(num_units: int, seed: int, ties: bool):
    rng = np.random.default_rng(seed)
    if ties:
        points = rng.integers(0, 3, (num_units, 2)).astype(float)
        norms = rng.integers(0, 3, num_units).astype(float)
    else:
        points, norms = rng.normal(size=(num_units, 3)), rng.uniform(size=num_units)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    alive = np.flatnonzero(rng.uniform(size=num_units) < 0.8)
    assert list(disjoint_pairs(distances, norms, alive)) == greedy_walk(distances, norms, alive)


def test_fewer_than_two_units_make_no_pair():
    assert list(disjoint_pairs(np.zeros((3, 3)), np.ones(3), np.array([1]))) == []
    assert list(disjoint_pairs(np.zeros((3, 3)), np.ones(3), np.array([], int))) == []
