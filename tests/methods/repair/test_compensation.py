"""Elimination against solving every subset anew, consumers against the layers themselves."""

from __future__ import annotations

import numpy as np
import pytest
from networks import CASES, network

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.repair.compensation import (
    HELD_OUT_RIDGES,
    Elimination,
    eliminate,
    held_out_error,
    solve,
)
from keras_robust_prune.methods.repair.consumers import (
    matrix,
    rows_of,
    solvable,
    takes_constant,
    unit_rows,
    with_matrix,
)
from keras_robust_prune.methods.repair.moments import Moments, measure
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.embedding import embed
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.synthesis.priors import start
from keras_robust_prune.synthesis.probe import ActivationProbe


def problem(num_units=6, per_unit=2, num_targets=3, seed=0):
    rng = np.random.default_rng(seed)
    num_rows = num_units * per_unit
    rows = np.concatenate([rng.normal(size=(50, num_rows)), np.ones((50, 1))], 1)
    rows[:, 1] += 0.7 * rows[:, 4]
    weights = rng.normal(size=(num_rows + 1, num_targets))
    targets = rows @ weights + 0.1 * rng.normal(size=(50, num_targets))
    moments = Moments(
        rows.T @ rows / 50,
        rows.T @ targets / 50,
        float(np.square(targets).sum() / 50),
        float(targets.var(0).sum()),
    )
    return moments, weights, np.arange(num_rows).reshape(num_units, per_unit), rows, targets


@pytest.mark.parametrize("per_unit", [1, 3])
def test_every_cost_is_the_rise_of_the_error_when_all_weights_are_solved_anew(per_unit):
    ridge = 1e-9
    moments, weights, rows, *_ = problem(per_unit=per_unit)
    left = list(range(len(rows)))
    part = Elimination(moments, weights, rows, ridge=ridge)

    def error(units):
        kept = np.sort(rows[list(units)].ravel())
        return moments.error(solve(moments, weights, kept, True, ridge))

    while len(left) > 1:
        expected = [error([u for u in left if u != unit]) - error(left) for unit in left]
        np.testing.assert_allclose(part.costs, expected, rtol=1e-4, atol=1e-6)
        index = int(np.argmin(expected))
        part.remove(index)
        left.pop(index)


@pytest.mark.parametrize("per_unit", [1, 9])
def test_removals_that_are_carried_out_together_are_as_exact_as_one_at_a_time(per_unit):
    """More rows go than are gathered; what is left costs what it costs if the elimination begins with it."""
    moments, weights, rows, *_ = problem(num_units=150 // per_unit, per_unit=per_unit)
    part, left = Elimination(moments, weights, rows), list(range(len(rows)))
    while len(left) > 3:
        part.remove(index := int(np.argmin(part.costs)))
        left.pop(index)
    anew = Elimination(moments, weights, rows[left])
    np.testing.assert_allclose(part.costs, anew.costs, rtol=1e-6, atol=1e-9)


def test_errors_of_the_rows_that_are_left_are_those_of_all_rows():
    moments, weights, *_ = problem()
    rows = np.array([0, 3, 4, 12])
    few = np.zeros_like(weights)
    few[rows] = weights[rows]
    assert moments.error(few, rows) == pytest.approx(moments.error(few), rel=1e-9)


def test_errors_on_the_other_half_are_those_of_all_targets_up_to_what_a_sketch_of_them_says():
    """600 targets: the literal twin solves for all of them on the even inputs and judges on the odd ones, and back."""
    layers = backends.tf_keras().layers
    model = backends.tf_keras().Sequential(
        [layers.Input((8,)), layers.Dense(20, "relu", name="a"), layers.Dense(600, name="b")]
    )
    model.set_weights(
        [np.random.default_rng(k).normal(size=w.shape) for k, w in enumerate(model.weights)]
    )
    graph = split_activations(read(model))
    x = np.random.default_rng(0).normal(size=(90, 8)).astype("float32")
    found = measure(graph, graph, "b", [[x]])
    kernel, bias, weights = *(np.asarray(w, float) for w in model.weights[:2]), matrix(graph, "b")
    rows = np.concatenate([np.maximum(x @ kernel + bias, 0), np.ones((90, 1))], 1)
    kept, free = np.arange(6, 20), np.arange(6, 21)

    def judged(fit, other, ridge):
        gram, cross = fit.T @ fit / len(fit), fit.T @ (fit @ weights) / len(fit)
        strength = np.append(np.full(20, ridge * np.diag(gram)[:-1].mean()), ridge * 1e-3)
        right = cross + strength[:, None] * weights
        solved = np.linalg.solve(gram[6:, 6:] + np.diag(strength[6:]), right[6:])
        targets = other @ weights
        return (
            np.square(targets - other[:, free] @ solved).sum() / len(other) / targets.var(0).sum()
        )

    halves = rows[::2], rows[1::2]
    expected = min(
        np.mean([judged(*halves, ridge), judged(*halves[::-1], ridge)]) for ridge in HELD_OUT_RIDGES
    )
    assert [half.cross.shape for half in found.halves] == [(21, 256)] * 2
    np.testing.assert_allclose(found.cross, rows.T @ (rows @ weights) / 90, rtol=1e-4, atol=1e-4)
    assert held_out_error(found, weights, kept) == pytest.approx(expected, rel=0.1)
    assert held_out_error(found, weights, np.arange(20)) < 1e-6


def test_a_unit_that_repeats_another_goes_first_and_costs_nothing():
    moments, weights, rows, data, targets = problem(per_unit=1)
    data[:, 3] = data[:, 0]
    moments = Moments(data.T @ data / 50, data.T @ targets / 50, moments.squares, moments.energy)
    part = Elimination(moments, weights, rows)
    ((unit, cost),) = eliminate([part], range(6), 1)
    assert unit in (0, 3)
    assert cost < 1e-3


def test_solving_is_least_squares_without_ridge_and_the_weights_with_much():
    moments, weights, _, rows, targets = problem()
    kept = np.array([0, 1, 4, 5, 9])
    free = np.append(kept, 12)
    found = solve(moments, weights, kept, True, 1e-12)
    expected = np.linalg.lstsq(rows[:, free], targets, rcond=None)[0]
    np.testing.assert_allclose(found[free], expected, atol=1e-6)
    assert not found[np.setdiff1d(np.arange(12), kept)].any()
    np.testing.assert_allclose(solve(moments, weights, kept, True, 1e9)[kept], weights[kept])
    frozen = solve(moments, weights, kept, False, 1e-12)
    np.testing.assert_array_equal(frozen[-1], weights[-1])
    expected = np.linalg.lstsq(rows[:, kept], targets - weights[-1], rcond=None)[0]
    np.testing.assert_allclose(frozen[kept], expected, atol=1e-6)


def graph_of(name, keras):
    graph = split_activations(read(network(name, keras)))
    return graph, find_groups(graph)


@pytest.mark.parametrize(
    ("name", "keras"),
    [("mlp", "keras"), ("conv1d", "tf_keras"), ("conv_flatten", "keras")]
    + [("residual", "tf_keras"), ("separable", "keras"), ("nested", "tf_keras")],
)
def test_rows_times_matrix_is_what_the_layer_computes(name, keras):
    graph, groups = graph_of(name, keras)
    rng = np.random.default_rng(0)
    inputs = [space.raw(start(space, 3, rng)) for space in input_specs(graph)]
    found = solvable(graph, groups.groups)
    assert found
    for consumer in found:
        node = graph.calls[consumer][0]
        source, target = ActivationProbe(graph, [node.inputs[0], node.ref]).run(inputs)
        rows = np.asarray(rows_of(graph.layers[consumer], source)).astype("float64")
        values = matrix(graph, consumer)
        computed = rows @ values[:-1] + values[-1]
        np.testing.assert_allclose(
            computed, target.reshape(-1, target.shape[-1]), atol=1e-4 * abs(target).max()
        )
        same = with_matrix(graph, consumer, values)
        for weight, value in graph.layers[consumer].weights.items():
            np.testing.assert_array_equal(same.layers[consumer].weights[weight], value)


def test_a_constant_without_bias_moves_into_the_batchnorm_behind():
    graph, groups = graph_of("residual", "tf_keras")
    names = [n for n in solvable(graph, groups.groups) if "bias" not in graph.layers[n].weights]
    names = [n for n in names if takes_constant(graph, n)]
    assert names
    node = graph.calls[names[0]][0]
    (behind,) = graph.consumers[node.ref]
    values = matrix(graph, names[0])
    values[-1] += 0.25
    rng = np.random.default_rng(0)
    inputs = [space.raw(start(space, 3, rng)) for space in input_specs(graph)]
    before, after = (
        ActivationProbe(g, [behind.ref]).run(inputs)[0]
        for g in (graph, with_matrix(graph, names[0], values))
    )
    norm = graph.layers[behind.layer]
    variance = norm.weights["moving_variance"] + norm.config["epsilon"]
    step = 0.25 * norm.weights["gamma"] / np.sqrt(variance)
    np.testing.assert_allclose(after - before, np.broadcast_to(step, before.shape), atol=1e-4)


def test_solving_on_the_dense_network_itself_changes_nothing():
    graph, groups = graph_of("conv_flatten", "keras")
    rng = np.random.default_rng(0)
    inputs = [space.raw(start(space, 20, rng)) for space in input_specs(graph)]
    for consumer in solvable(graph, groups.groups):
        moments = measure(graph, graph, consumer, [inputs])
        values = matrix(graph, consumer)
        assert moments.error(values) < 1e-6
        solved = solve(moments, values, np.arange(len(values) - 1), True)
        assert moments.error(solved) < 1e-5


@pytest.mark.parametrize(("name", "keras"), [c for c in CASES if c[1] == "tf_keras"][::3])
def test_embedding_is_the_inverse_of_cutting(name, keras):
    graph = read(network(name, keras))
    try:
        groups = find_groups(graph)
    except ValueError:
        pytest.skip("nothing can be removed from this network")
    plan = Plan(tuple(Removal(group.name, 0) for group in groups.groups), dict(groups.widths))
    small = cut(mask(graph, groups, plan), groups, plan)
    shaken = small.with_weights(
        {
            (layer.name, weight): value + 0.5
            for layer in small.layers.values()
            for weight, value in layer.weights.items()
            if np.issubdtype(value.dtype, np.floating)
        }
    )
    back = cut(embed(graph, shaken, groups, plan), groups, plan)
    for layer in shaken.layers.values():
        for weight, value in layer.weights.items():
            found = back.layers[layer.name].weights[weight]
            # An attention's kernel is divided by its factor and multiplied again: two roundings of float32.
            np.testing.assert_allclose(found, value, rtol=2**-22, atol=0)


def test_unit_rows_cover_every_tap_once():
    graph, groups = graph_of("conv_bn", "tf_keras")
    for group in groups.groups:
        for consumer in solvable(graph, [group]):
            rows = unit_rows(group, graph.layers[consumer])
            assert len(np.unique(rows)) == rows.size
            shape = graph.layers[consumer].weights["kernel"].shape
            if len(shape) == 4:
                assert rows.shape[1] == shape[0] * shape[1]


def test_second_moments_are_summed_in_double_precision():
    """Rows far from 0, whose differences float32 products lose: the moments are those of float64 to its rounding."""
    layers = backends.module("tf_keras").layers
    model = backends.module("tf_keras").Sequential(
        [layers.Input((3,)), layers.Dense(4, name="a"), layers.Dense(2, name="b")]
    )
    graph = split_activations(read(model))
    x = np.random.default_rng(0).normal(1e3, 1.0, (400, 3)).astype("float32")
    (rows,) = ActivationProbe(graph, [graph.calls["b"][0].inputs[0]]).run([x])
    rows = np.concatenate([rows.astype("float64"), np.ones((400, 1))], 1)
    found = measure(graph, graph, "b", [[x]])
    np.testing.assert_allclose(found.gram, rows.T @ rows / 400, rtol=1e-12)
