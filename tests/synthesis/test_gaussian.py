"""Estimated moments against arithmetic and against sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import network

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Ref
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.primitives import activations
from keras_robust_prune.primitives.gaussian import Gaussian
from keras_robust_prune.synthesis.gaussian import propagate


def test_a_dense_layer_passes_moments_exactly():
    keras = backends.module("tf_keras")
    graph = read(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="a")]))
    kernel, bias = np.array([[2.0, 1.0], [0.0, -3.0]]), np.array([0.5, -1.0])
    graph = graph.with_weights({("a", "kernel"): kernel, ("a", "bias"): bias})
    spaces = (InputSpec((2,), np.float32(-3.0), np.float32(3.0)),)
    found = propagate(graph, spaces)[Ref("a")]
    # Neutral value 0, variance 6**2 / 12 = 3.
    np.testing.assert_allclose(found.mean, bias)
    np.testing.assert_allclose(found.covariance, 3.0 * kernel.T @ kernel)


def test_activations_agree_with_sampling():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3)) * 0.4
    inner = Gaussian(rng.normal(size=3) * 0.5, root @ root.T)
    samples = rng.multivariate_normal(inner.mean, inner.covariance, 400_000)
    for name in sorted(activations.NAMES - {"exponential", "exp", "hard_shrink"}):
        function = activations.named(name, "keras").forward
        found, values = inner.activated(function), function(samples)
        np.testing.assert_allclose(found.mean, values.mean(0), atol=0.02, err_msg=name)
        variance = np.diag(found.covariance)
        np.testing.assert_allclose(variance, values.var(0), rtol=0.1, err_msg=name)


def test_tiles_are_positive_definite_and_keep_each_position():
    inner = Gaussian(np.array([1.0, 2.0]), np.array([[2.0, 0.5], [0.5, 1.0]]))
    tiled = inner.tiled(3)
    assert tiled.mean.tolist() == [1.0, 2.0] * 3
    np.testing.assert_allclose(tiled.covariance[2:4, 2:4], inner.covariance)
    assert np.linalg.eigvalsh(tiled.covariance).min() > 0


def test_batchnorm_brings_its_own_scale_and_unknown_layers_end_the_estimate():
    graph = split_activations(read(network("conv_bn")))
    found = propagate(graph, input_specs(graph))
    layer = next(x for x in graph.layers.values() if x.kind == "BatchNormalization")
    (node,) = graph.calls[layer.name]
    np.testing.assert_allclose(found[node.ref].mean, layer.weights["beta"])
    variance = np.diag(found[node.ref].covariance)
    np.testing.assert_allclose(variance, np.square(layer.weights["gamma"]), rtol=1e-5)
    graph = split_activations(read(network("attention")))
    assert None in propagate(graph, input_specs(graph)).values()


def passed(layer: Any, shape: tuple[int, ...], inner: Gaussian) -> Gaussian | None:
    """What a layer's type makes of moments of its input."""
    module = backends.module(backends.keras_name(layer))
    graph = split_activations(read(module.Sequential([module.layers.Input(shape), layer])))
    node = graph.nodes[-1]
    return layer_type(graph.layer_of(node)).moments(graph, node, [inner])


NUMBER_BY_NUMBER = [
    ("ReLU", {"max_value": 6.0}),
    ("ReLU", {"negative_slope": 0.5}),
    ("ReLU", {"threshold": 1.0}),
    ("LeakyReLU", {}),
    ("ELU", {"alpha": 2.0}),
    ("PReLU", {"alpha_initializer": "ones"}),
    ("Activation", {"activation": "selu"}),
    ("Rescaling", {"scale": -0.5, "offset": 3.0}),
    ("Dropout", {"rate": 0.9}),
]


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize(("kind", "config"), NUMBER_BY_NUMBER, ids=str)
def test_a_layer_passes_moments_by_the_function_that_it_applies(
    kind: str, config: dict[str, Any], keras: str
):
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 3))
    inner = Gaussian(np.array([5.0, -1.0, 1.0]), root @ root.T)
    samples = rng.multivariate_normal(inner.mean, inner.covariance, 100_000).astype("float32")
    layer = getattr(backends.module(keras).layers, kind)(**config)
    found, values = passed(layer, (3,), inner), np.asarray(layer(samples))
    np.testing.assert_allclose(found.mean, values.mean(0), atol=0.05)
    np.testing.assert_allclose(found.covariance, np.cov(values.T), atol=0.2)


def test_thresholds_are_no_identity():
    inner = Gaussian(np.zeros(2), np.eye(2))
    found = passed(backends.tf_keras().layers.ThresholdedReLU(theta=1.0), (2,), inner)
    # E[x; x > 1] = exp(-1/2) / sqrt(2 pi) = .2420
    np.testing.assert_allclose(found.mean, 0.242, atol=0.05)


@pytest.mark.parametrize("kind", ["Softmax", "LayerNormalization", "UnitNormalization"])
def test_what_is_not_known_is_none(kind: str):
    inner = Gaussian(np.zeros(2), np.eye(2))
    assert passed(getattr(backends.keras().layers, kind)(), (2,), inner) is None


@pytest.mark.parametrize("kind", ["AveragePooling1D", "MaxPooling1D"])
def test_pooling_reads_neighbours_that_are_alike_by_half(kind: str):
    rng = np.random.default_rng(2)
    inner = Gaussian(np.array([1.0, -2.0]), np.array([[4.0, 1.0], [1.0, 1.0]]))
    tiled = inner.tiled(3)
    samples = rng.multivariate_normal(tiled.mean, tiled.covariance, 100_000).reshape(-1, 3, 2)
    found = passed(getattr(backends.keras().layers, kind)(3), (3, 2), inner)
    values = samples.mean(1) if kind == "AveragePooling1D" else samples.max(1)
    np.testing.assert_allclose(found.mean, values.mean(0), atol=0.03)
    np.testing.assert_allclose(found.covariance, np.cov(values.T), atol=0.1)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Conv1D", {"filters": 3, "kernel_size": 2}),
        ("DepthwiseConv1D", {"kernel_size": 2, "depth_multiplier": 2}),
        ("SeparableConv1D", {"filters": 3, "kernel_size": 2}),
    ],
)
def test_convolutions_pass_moments_exactly(kind: str, config: dict[str, Any]):
    """Against the matrix of the whole layer, on two positions side by side."""
    inner = Gaussian(np.array([1.0, -2.0]), np.array([[4.0, 1.0], [1.0, 1.0]]))
    layer = getattr(backends.keras().layers, kind)(**config)
    found = passed(layer, (2, 2), inner)
    if kind == "SeparableConv1D":
        assert found is None  # over one axis it has no linear view
        return
    matrix = np.asarray(layer(np.eye(4, dtype="float32").reshape(4, 2, 2)))[:, 0]
    tiled = inner.tiled(2)
    np.testing.assert_allclose(found.mean, tiled.mean @ matrix, atol=1e-5)
    np.testing.assert_allclose(found.covariance, matrix.T @ tiled.covariance @ matrix, atol=1e-5)
