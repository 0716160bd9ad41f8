"""The method `robust`: valid plans, exact cuts, nothing lost where nothing must be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from networks import CASES, network, outputs_of, random_inputs

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.registry import method_for
from keras_robust_prune.methods.repair.course import Course
from keras_robust_prune.methods.repair.distillation import Distillation, distil
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.methods.run import Run, hold_out
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.kinds import Synthesis
from keras_robust_prune.synthesis.priors import start

QUICK = Robust(
    repair=(LeastSquares(), Distillation(num_steps=3)), synthesis=Synthesis(num_inputs=16)
)
RECONSTRUCT = Robust(repair="reconstruct", synthesis=Synthesis(num_inputs=32))


def problem_of(model, **options):
    graph = read(model)
    options = {"target": 0.5, "input_range": (-1.0, 1.0)} | options
    return Problem(graph, find_groups(graph), **options)


def drawn(graph, count, seed=0):
    rng = np.random.default_rng(seed)
    return [space.raw(start(space, count, rng)) for space in input_specs(graph, (-1.0, 1.0))]


SAMPLE = ["mlp", "conv1d", "residual", "separable", "two_inputs", "embedding", "attention"]


@pytest.mark.parametrize(("name", "keras"), [case for case in CASES if case[0] in SAMPLE])
@pytest.mark.parametrize("tier", ["weights", "real"])
def test_the_cut_network_is_the_state_and_every_group_gave_its_share(name, keras, tier):
    model = network(name, keras)
    problem = problem_of(model)
    if tier == "real":
        problem = dataclasses.replace(problem, calibration=drawn(problem.graph, 12))
    else:
        problem = dataclasses.replace(problem, calibration="weights")
    (state,) = RECONSTRUCT.steps(problem)
    for group in problem.groups.groups:
        assert state.plan.dropped[group.name].sum() == group.num_units // 2
    inputs = random_inputs(model)
    small, full = build(cut(state.graph, problem.groups, state.plan)), build(state.graph)
    for got, wanted in zip(outputs_of(small, inputs), outputs_of(full, inputs), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4 * max(abs(wanted).max(), 1e-6))


@pytest.mark.parametrize("name", ["mlp", "conv_bn", "residual"])
def test_the_same_seed_gives_the_same_result(name):
    problem = problem_of(network(name), seed=3)
    states = [list(QUICK.steps(problem))[-1] for _ in range(2)]
    assert states[0].plan == states[1].plan
    for layer in states[0].graph.layers.values():
        for weight, value in layer.weights.items():
            again = states[1].graph.layers[layer.name].weights[weight]
            np.testing.assert_allclose(again, value, atol=1e-5)
    first, second = (state.metrics for state in states)
    assert first["distillation_error_after"] == pytest.approx(second["distillation_error_after"])
    improved = first["distillation_error_after"] < first["distillation_error_before"]
    assert (first["distillation_kept"] > 0) == improved


def doubled(model):
    """The same MLP with every hidden unit twice, at half its outgoing weight each."""
    values = model.get_weights()
    for index in range(0, len(values) - 2, 2):
        kernel, bias, behind = values[index : index + 3]
        values[index] = np.concatenate([kernel, kernel], 1)
        values[index + 1] = np.concatenate([bias, bias])
        values[index + 2] = np.concatenate([behind, behind], 0) / 2
    return values


@pytest.mark.parametrize("calibration", [None, "weights"])
def test_a_network_of_twins_loses_half_its_units_and_nothing_else(calibration):
    keras = backends.module("tf_keras")

    def mlp(width):
        layers = [keras.Input((6,)), keras.layers.Dense(width, "relu"), keras.layers.Dense(3)]
        return keras.Sequential(layers)

    keras.utils.set_random_seed(0)
    small, large = mlp(8), mlp(16)
    large.set_weights(doubled(small))
    problem = problem_of(large, calibration=calibration)
    (state,) = RECONSTRUCT.steps(problem)
    kept = state.plan.kept(problem.groups.groups[0].name)
    assert sorted(unit % 8 for unit in kept) == list(range(8))
    x = np.random.default_rng(0).uniform(-1, 1, (50, 6)).astype("float32")
    wanted = small(x).numpy()
    np.testing.assert_allclose(build(state.graph)(x).numpy(), wanted, atol=2e-3)


def test_several_steps_remove_more_each_time_and_reach_the_target():
    problem = problem_of(network("mlp"), step=0.25, target=0.5)
    states = list(RECONSTRUCT.steps(problem))
    assert len(states) == 2
    assert states[1].plan.removals[: len(states[0].plan.removals)] == states[0].plan.removals
    resumed = list(RECONSTRUCT.steps(dataclasses.replace(problem, start=states[0])))
    assert [state.plan for state in resumed] == [states[1].plan]


@pytest.mark.parametrize("measure", ["params", "macs"])
def test_budgets_are_kept(measure):
    problem = problem_of(network("residual"), measure=measure, target=0.3)
    (state,) = RECONSTRUCT.steps(problem)
    small = cut(state.graph, problem.groups, state.plan)
    if measure == "params":
        assert small.num_params <= 0.7 * problem.graph.num_params
    else:
        assert num_macs(small) <= 0.7 * num_macs(problem.graph)


def test_reconstruction_beats_removal_alone_on_the_inputs_it_saw():
    problem = problem_of(network("conv_flatten"))
    inputs = drawn(problem.graph, 40)
    problem = dataclasses.replace(problem, calibration=inputs)
    (state,) = RECONSTRUCT.steps(problem)
    (plain,) = method_for("random").steps(dataclasses.replace(problem, step=0.5))
    dense, repaired, removed = (
        outputs_of(build(graph), inputs)[0] for graph in (problem.graph, state.graph, plain.graph)
    )
    assert np.square(repaired - dense).mean() < 0.5 * np.square(removed - dense).mean()


def test_distillation_is_kept_only_where_it_helps_on_inputs_held_out():
    graph = read(network("mlp"))
    inputs = drawn(graph, 80)
    spaces = input_specs(graph, (-1.0, 1.0))
    same = distil(graph, graph, [inputs], [inputs], spaces, num_steps=5)
    assert not same.kept
    assert same.error_before == pytest.approx(0.0, abs=1e-6)
    rng = np.random.default_rng(0)
    shaken = graph.with_weights(
        {
            (layer.name, weight): value + rng.normal(0, 0.2, value.shape).astype("float32")
            for layer in graph.layers.values()
            for weight, value in layer.weights.items()
        }
    )
    used, held = hold_out(inputs)
    better = distil(graph, shaken, [used], [held], spaces, num_steps=100)
    assert better.kept
    assert better.error_after < better.error_before


def test_distillation_reports_the_error_of_what_it_rejects(monkeypatch):
    """Ten steps at a rate that ruins the network: what was measured afterwards is told, not the better of two."""
    monkeypatch.setattr("keras_robust_prune.methods.repair.course._RATE", 10.0)
    method = dataclasses.replace(QUICK, repair=(LeastSquares(), Distillation(num_steps=10)))
    problem = problem_of(network("mlp"))
    (state,) = method.steps(problem)
    assert state.metrics["distillation_kept"] == 0.0
    after = state.metrics["distillation_error_after"]
    assert not after <= state.metrics["distillation_error_before"]
    (plain,) = dataclasses.replace(QUICK, repair="reconstruct").steps(problem)
    for layer in plain.graph.layers.values():
        for weight, value in layer.weights.items():
            kept = state.graph.layers[layer.name].weights[weight]
            np.testing.assert_allclose(kept, value, atol=1e-6)


def test_a_time_limit_lowers_the_number_of_steps_and_no_time_does_not():
    graph = read(network("mlp"))
    used, held = hold_out(drawn(graph, 40))
    spaces = input_specs(graph, (-1.0, 1.0))
    free = distil(graph, graph, [used], [held], spaces, num_steps=30)
    short = distil(graph, graph, [used], [held], spaces, num_steps=30, seconds=1e-6)
    assert (free.num_steps, short.num_steps) == (30, 1)


def test_the_rate_rises_and_falls_to_nothing():
    graph = read(network("mlp"))
    inputs = drawn(graph, 8)
    course = Course(graph, graph, [inputs], input_specs(graph, (-1.0, 1.0)), True, 0)
    values = [course.rate_of(step, 200) for step in (0, 25, 50, 125, 200)]
    assert values == pytest.approx([0.0, 1e-3, 2e-3, 1e-3, 0.0], abs=1e-6)


def test_a_repair_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="choose 'distill' or 'reconstruct'"):
        Robust(repair="retrain")
    with pytest.raises(
        TypeError, match=r"repair is LeastSquares, but it is an instance.*LeastSquares\(\)"
    ):
        Robust(repair=(LeastSquares,))
    assert method_for("robust") == Robust()


def test_arguments_of_the_first_version_go_on_or_say_that_they_do_nothing():
    with pytest.warns(DeprecationWarning, match=r"Distillation\(num_steps=...\) now"):
        method = Robust(num_steps=7)
    assert method.repair == (LeastSquares(), Distillation(num_steps=7))
    with pytest.warns(DeprecationWarning, match=r"Synthesis\(num_inputs=...\) now"):
        assert dataclasses.replace(method, num_inputs=9).synthesis == Synthesis(num_inputs=9)
    with pytest.warns(DeprecationWarning, match="does nothing any more"):
        assert Robust(anneal=20) == Robust()
    with pytest.raises(TypeError, match="no argument 'epochs'"):
        Robust(epochs=3)


def test_a_few_real_inputs_are_joined_by_synthetic_ones_and_many_are_not():
    problem = problem_of(network("mlp"))
    for count, kinds in ((12, 2), (512, 1)):
        given = dataclasses.replace(problem, calibration=drawn(problem.graph, count))
        used, held = Run(given, Synthesis(num_inputs=16)).inputs
        assert len(used) == len(held) == kinds
        assert len(used[0][0]) + len(held[0][0]) == count
