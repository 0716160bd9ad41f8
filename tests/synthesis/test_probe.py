"""Probes: any tensor as numbers, and again with other weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from networks import network

from keras_robust_prune import backends
from keras_robust_prune.backends import ModelError
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.synthesis.probe import ActivationProbe

BOTH = pytest.mark.parametrize("keras", backends.NAMES)


@BOTH
@pytest.mark.parametrize("name", ["residual", "separable", "mlp", "shared"])
def test_a_probe_takes_other_weights(name: str, keras: str) -> None:
    graph, rng = read(network(name, keras)), np.random.default_rng(0)
    x = [rng.random((5, *graph.shape(ref)), np.float32) for ref in graph.inputs]
    probe = ActivationProbe(graph, graph.outputs)
    before = probe.run(x)
    kernels = [(layer.name, key) for layer in graph.layers.values() for key in layer.weights]
    others = [
        graph.with_weights({(k, key): 0.5 * graph.layers[k].weights[key]}) for k, key in kernels
    ]
    for other in (*others, graph):
        probe.take(other)
        wanted = ActivationProbe(other, other.outputs).run(x)
        np.testing.assert_array_equal(probe.run(x), wanted)
    np.testing.assert_array_equal(probe.run(x), before)


@BOTH
def test_a_probe_refuses_weights_of_another_shape(keras: str) -> None:
    graph = read(network("mlp", keras))
    probe = ActivationProbe(graph, graph.outputs)
    name = next(name for name, layer in graph.layers.items() if "kernel" in layer.weights)
    layer = graph.layers[name]
    small = {**layer.weights, "kernel": layer.weights["kernel"][:, 1:]}
    wrong = {**graph.layers, name: dataclasses.replace(layer, weights=small)}
    with pytest.raises(ModelError, match=f"'{name}' does not take other weights"):
        probe.take(dataclasses.replace(graph, layers=wrong))
