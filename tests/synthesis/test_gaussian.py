"""Estimated moments against arithmetic and against sampling."""

from __future__ import annotations

import numpy as np
from networks import network

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Ref
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.primitives import activations
from keras_robust_prune.primitives.gaussian import Gaussian
from keras_robust_prune.synthesis.gaussian import propagate
from keras_robust_prune.synthesis.priors import InputSpace, input_spaces


def test_a_dense_layer_passes_moments_exactly():
    keras = backends.module("tf_keras")
    graph = read(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="a")]))
    kernel, bias = np.array([[2.0, 1.0], [0.0, -3.0]]), np.array([0.5, -1.0])
    graph = graph.with_weights({("a", "kernel"): kernel, ("a", "bias"): bias})
    spaces = (InputSpace((2,), np.float32(-3.0), np.float32(3.0)),)
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
    found = propagate(graph, input_spaces(graph))
    layer = next(x for x in graph.layers.values() if x.kind == "BatchNormalization")
    (node,) = graph.calls[layer.name]
    np.testing.assert_allclose(found[node.ref].mean, layer.weights["beta"])
    variance = np.diag(found[node.ref].covariance)
    np.testing.assert_allclose(variance, np.square(layer.weights["gamma"]), rtol=1e-5)
    graph = split_activations(read(network("attention")))
    assert None in propagate(graph, input_spaces(graph)).values()
