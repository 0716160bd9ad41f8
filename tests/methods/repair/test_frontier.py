"""Moments measured from a cut against the same measured from the inputs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tf_keras
from networks import network

from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.repair.consumers import matrix, solvable, with_matrix
from keras_robust_prune.methods.repair.frontier import Frontier
from keras_robust_prune.methods.repair.moments import measure
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.priors import start


@pytest.mark.parametrize(
    ("name", "keras"),
    [
        ("residual", "tf_keras"),
        ("residual", "keras"),
        ("concatenate", "keras"),
        ("depthwise", "tf_keras"),
        ("two_inputs", "keras"),
    ],
)
def test_moments_from_a_cut_are_those_from_the_inputs(name, keras):
    graph = read(network(name, keras))
    dense = split_activations(graph)
    spaces = input_specs(graph, (0.0, 1.0))
    rng = np.random.default_rng(0)
    sources = [[space.raw(start(space, 6, rng)) for space in spaces]]
    names = solvable(dense, find_groups(graph).groups)
    frontiers = Frontier(dense, names, sources, 0), Frontier(dense, names, sources, 0)
    pruned, cuts = graph, 0
    for consumer in names:
        split = split_activations(pruned)
        parts = (
            frontiers[0].part(graph, dense, consumer),
            frontiers[1].part(pruned, split, consumer),
        )
        cuts += len(parts[1].graph.nodes) < len(split.nodes)
        expected = measure(dense, split, consumer, sources)
        found = measure(dense, split, consumer, sources, parts=parts)
        for what in ("gram", "cross", "squares"):
            one, other = getattr(found, what), getattr(expected, what)
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())
        pruned = with_matrix(pruned, consumer, 0.9 * matrix(pruned, consumer))
    assert cuts


def test_many_calls_of_little_work_are_cut_too_because_building_them_takes_time():
    """30 dense layers of 8 units make next to no multiplications; what a consumer is measured from has a few calls."""
    layers = tf_keras.layers
    chain = [layers.Dense(8, "relu", name=f"d{k}") for k in range(30)]
    graph = read(tf_keras.Sequential([layers.Input((8,)), *chain, layers.Dense(2)]))
    split = split_activations(graph)
    names = solvable(split, find_groups(graph).groups)
    frontier = Frontier(split, names, [[np.ones((4, 8), "float32")]])
    part = frontier.part(graph, split, names[-1])
    assert len(part.graph.nodes) < len(split.nodes) / 2


def test_passes_are_counted_from_cut_to_cut_and_from_there_to_every_consumer():
    """Four layers alike, of which the last three are consumers; the input's numbers count as much as one of them."""
    layers = tf_keras.layers
    chain = [layers.Dense(8, name=f"d{k}") for k in range(4)]
    graph = read(tf_keras.Sequential([layers.Input((8,)), *chain]))
    split = split_activations(graph)
    names = solvable(split, find_groups(graph).groups)
    assert names == ("d1", "d2", "d3")

    def passes(work):
        frontier = Frontier(split, names, [[np.ones((4, 8), "float32")]], work)
        return frontier.passes(split, names)

    up_to_d2, each_alone = 4, 3  # from cut to cut, then from the last cut to every consumer
    assert passes(0) == pytest.approx((up_to_d2 + each_alone) / 5)
    assert passes(float("inf")) == pytest.approx((3 + 4 + 5) / 5)  # every consumer from the input


def test_a_cut_holds_only_as_long_as_the_layers_before_it_do():
    graph = read(network("mlp"))
    x = np.random.default_rng(0).uniform(size=(5, *graph.shape(graph.inputs[0]))).astype("float32")
    split = split_activations(graph)
    *_, consumer = names = solvable(split, find_groups(graph).groups)
    frontier = Frontier(split, names, [[x]], 0)

    def reaching(changed):
        part = frontier.part(changed, split_activations(changed), consumer)
        assert len(part.graph.nodes) < len(graph.nodes)
        return part.sources[0][0]

    before = reaching(graph)
    assert reaching(graph) is before
    first = next(layer for layer in graph.layers.values() if layer.weights)
    other = {name: 2 * value for name, value in first.weights.items()}
    changed = graph.with_layers([dataclasses.replace(first, weights=other)])
    assert abs(reaching(changed) - before).max() > 0.01


def test_what_does_not_pay_begins_at_the_inputs():
    graph = read(network("mlp"))
    split = split_activations(graph)
    *_, consumer = names = solvable(split, find_groups(graph).groups)
    sources = [[np.zeros((5, *graph.shape(graph.inputs[0])), "float32")]]
    assert Frontier(split, names, sources).part(graph, split, consumer) == (split, sources)
