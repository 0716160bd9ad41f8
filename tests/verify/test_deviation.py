"""Deviations of merges on real layer types, against what the changed network computes."""

from __future__ import annotations

import numpy as np
import pytest
from networks import network
from networks_dense import mlp

from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.primitives.program import Program
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.verify.bounds import interval_bounds
from keras_robust_prune.verify.deviation import consuming_operations, output_deviation

NETWORKS = ("mlp", "sigmoid_mlp", "one_output", "conv_bn", "conv_flatten", "conv1d", "prelu")
NETWORKS += ("residual", "concatenate", "depthwise", "separable", "squeeze_excite", "transposed")
NETWORKS += ("two_inputs", "two_outputs", "nested", "average_max", "operators", "convnext", "mixer")


def changed_logits(
    program: Program,
    consumers: dict[int, np.ndarray],
    drop: int,
    keep: int,
    inputs: list[np.ndarray],
) -> np.ndarray:
    """Every consumer sees the kept unit's value, or 0, in place of the dropped one's."""
    found: list[np.ndarray] = []
    given = dict(zip(program.inputs, inputs, strict=True))
    for place, operation in enumerate(program.operations):
        if operation.primitive is None:
            found.append(given[place])
            continue
        values = [found[k] for k in operation.inputs]
        if place in consumers:
            flat = np.array(values[0]).reshape(len(values[0]), -1)
            flat[:, consumers[place][drop]] = flat[:, consumers[place][keep]] if keep >= 0 else 0
            values[0] = flat.reshape(values[0].shape)
        found.append(operation.primitive.forward(*values))
    return np.concatenate([found[k].reshape(len(inputs[0]), -1) for k in program.logits], axis=1)


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
@pytest.mark.parametrize("name", NETWORKS)
def test_deviations_hold_on_every_kind_of_network(name: str, keras: str):
    graph = read(network(name, keras))
    program, rng = lower(graph), np.random.default_rng(3)
    bounds = interval_bounds(program, -1.0, 1.0)
    shapes = [program.operations[k].shape for k in program.inputs]
    inputs = [rng.choice([-1.0, -0.2, 0.5, 1.0], (40, *shape)) for shape in shapes]
    for group in find_groups(graph).groups:
        consumers = consuming_operations(program, group)
        drops = rng.permutation(group.num_units)[:3]
        keeps = (drops + 1) % group.num_units
        keeps[-1] = -1
        found = output_deviation(program, group, drops, keeps, bounds)
        before = changed_logits(program, {}, 0, 0, inputs)
        for k, (drop, keep) in enumerate(zip(drops, keeps, strict=True)):
            after = changed_logits(program, consumers, drop, keep, inputs)
            assert found[k].contains(after - before, 1e-9)


def test_identical_units_do_not_deviate():
    graph, names = mlp([5, 6, 4, 3])
    kernel, bias = (np.array(graph.layers[names[0]].weights[k]) for k in ("kernel", "bias"))
    kernel[:, 2], bias[2] = kernel[:, 4], bias[4]
    graph = graph.with_weights({(names[0], "kernel"): kernel, (names[0], "bias"): bias})
    program = lower(graph)
    bounds = interval_bounds(program, 0.0, 1.0)
    group = find_groups(graph).by_name[names[0]]
    found = output_deviation(program, group, [2, 2], [4, 1], bounds)
    assert found.magnitude[0].max() < 1e-12
    assert found.magnitude[1].max() > 1e-3


def test_the_relational_form_knows_that_both_units_see_the_same_input():
    """Of a single layer: z_1 - z_0 = .1 x_0 - .2 x_1 in [-.2, .1] over [0, 1], and ReLUs bring no more."""
    graph, names = mlp([3, 4, 2], seed=5)
    kernel, bias = (np.array(graph.layers[names[0]].weights[k]) for k in ("kernel", "bias"))
    kernel[:, 1], bias[1] = kernel[:, 0] + np.array([0.1, -0.2, 0.0], "float32"), bias[0]
    graph = graph.with_weights({(names[0], "kernel"): kernel, (names[0], "bias"): bias})
    program = lower(graph)
    bounds = interval_bounds(program, 0.0, 1.0)
    group = find_groups(graph).by_name[names[0]]
    found = output_deviation(program, group, [0], [1], bounds)
    outgoing = np.abs(graph.layers[names[1]].weights["kernel"][0])
    assert (found.width[0] <= outgoing * (0.2 + 0.1) + 1e-6).all()
    assert (bounds.values[2].width[0, :2] > 0.3).all()


def test_parts_are_put_together(monkeypatch: pytest.MonkeyPatch):
    graph, names = mlp([5, 8, 4, 3])
    program = lower(graph)
    bounds = interval_bounds(program, 0.0, 1.0)
    group = find_groups(graph).by_name[names[0]]
    drops, keeps = [0, 1, 2, 3, 4], [1, 2, 3, -1, 0]
    whole = output_deviation(program, group, drops, keeps, bounds)
    monkeypatch.setattr("keras_robust_prune.verify.deviation.BUDGET", 1)
    parts = output_deviation(program, group, drops, keeps, bounds)
    np.testing.assert_allclose(whole.lower, parts.lower, atol=1e-12)
    np.testing.assert_allclose(whole.upper, parts.upper, atol=1e-12)
    assert output_deviation(program, group, [], [], bounds).shape == (0, 3)


def test_what_does_not_fit_is_refused():
    graph, names = mlp([5, 8, 3])
    program = lower(graph)
    group = find_groups(graph).by_name[names[0]]
    with pytest.raises(ValueError, match="one entry per candidate"):
        output_deviation(program, group, [0, 1], [2], interval_bounds(program, 0.0, 1.0))
    boxes = interval_bounds(program, np.zeros((2, 5)), np.ones((2, 5)))
    with pytest.raises(ValueError, match="one box"):
        output_deviation(program, group, [0], [2], boxes)
