"""Whatever the network: cut equals mask, target 0 and folding change nothing, what is read can be built again."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from random_networks import random_network

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.folding import folded
from keras_robust_prune.surgery.groups import ChannelGroups, find_groups
from keras_robust_prune.surgery.plan import Plan, Removal

# tests/benchmarks/random_networks.py looks at as many as one likes.
NUM_NETWORKS = 12


def random_plan(groups: ChannelGroups, seed: int) -> Plan:
    """Between one and all but one units of every group."""
    generator = np.random.default_rng(seed)
    removals = [
        Removal(group.name, int(unit))
        for group in groups.groups
        for unit in generator.permutation(group.num_units)[: generator.integers(1, group.num_units)]
    ]
    return Plan(tuple(removals), dict(groups.widths))


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize("seed", range(NUM_NETWORKS))
def test_a_random_network(seed: int, keras: str) -> None:
    model, inputs = random_network(seed, keras)
    dense = networks.outputs_of(model, inputs)
    graph = read(model)
    for ours, theirs in zip(networks.outputs_of(build(graph), inputs), dense, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    short, _ = folded(graph)
    if short is not graph:
        for ours, theirs in zip(networks.outputs_of(build(short), inputs), dense, strict=True):
            assert np.abs(ours - theirs).max() <= 1e-5 * max(np.abs(theirs).max(), 1.0)
    try:
        groups = find_groups(graph)
    except ValueError:  # every unit reaches a barrier
        return

    nothing = cut(graph, groups, Plan.empty(groups))
    for name, layer in graph.layers.items():
        assert nothing.layers[name].config == layer.config
        for weight, value in layer.weights.items():
            np.testing.assert_array_equal(nothing.layers[name].weights[weight], value)

    plan = random_plan(groups, seed)
    smaller = cut(graph, groups, plan)
    assert smaller.num_params < graph.num_params
    masked = networks.outputs_of(build(mask(graph, groups, plan)), inputs)
    built = build(smaller)
    for ours, theirs in zip(networks.outputs_of(built, inputs), masked, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-5 * max(np.abs(theirs).max(), 1.0)
    assert [node.shapes for node in read(built).nodes] == [node.shapes for node in smaller.nodes]
