"""Every method against what is asked of all of them, and each against what it alone promises."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from networks_dense import mlp

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.methods.allocation import Remaining
from keras_robust_prune.methods.problem import Method, Problem, PruningState
from keras_robust_prune.methods.reference.energy import PublishedEnergy
from keras_robust_prune.methods.reference.guided import Greedy, Paper
from keras_robust_prune.methods.reference.strategies import METHODS, Baseline, Norm, Random
from keras_robust_prune.methods.saliency import norm_saliency
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.verify.bounds import interval_bounds
from keras_robust_prune.verify.updating import updated_bounds

ALL = [Paper(), Paper(PublishedEnergy(), "relative", True), Greedy(), Baseline(), Norm(), Random()]
RECURSIVE = [method for method in ALL if method.name != "baseline"]


def network(activation: str = "relu") -> Graph:
    return mlp([6, 16, 12, 3], activation, seed=1)[0]


def problem(target: float = 0.5, **given: object) -> Problem:
    graph = given.pop("graph", None) or network()
    return Problem(graph, find_groups(graph), target, **{"step": 1 / 8, **given})  # type: ignore[arg-type]


def run(method: Method, task: Problem) -> list[PruningState]:
    return list(method.steps(task))


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_every_step_removes_its_share(method: Method):
    states = run(method, problem(0.5))
    assert [state.step for state in states] == [1, 2, 3, 4]
    gone = [Counter(removal.group for removal in state.plan.removals) for state in states]
    assert [count["dense_0"] for count in gone] == [2, 4, 6, 8]
    assert [count["dense_1"] for count in gone] == [2, 3, 5, 6]


@pytest.mark.parametrize("method", RECURSIVE, ids=repr)
def test_any_target_below_1_is_reached(method: Method):
    state = run(method, problem(0.9))[-1]
    assert len(state.plan.kept("dense_0")) == 16 - 14
    assert len(state.plan.kept("dense_1")) == 12 - 10


@pytest.mark.parametrize("method", RECURSIVE, ids=repr)
def test_one_big_step_is_enough(method: Method):
    (state,) = run(method, problem(0.9, step=1.0))
    assert len(state.plan.removals) == 14 + 10


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_no_target_no_steps(method: Method):
    assert run(method, problem(0.0)) == []


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_the_same_seed_gives_the_same_plan(method: Method):
    plans = [run(method, problem(seed=7))[-1].plan for _ in range(2)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_a_run_goes_on_from_any_state_as_if_never_stopped(method: Method):
    whole = run(method, problem(0.5, seed=3))
    resumed = run(method, problem(0.5, seed=3, start=whole[1]))
    assert [state.step for state in resumed] == [3, 4]
    assert resumed[-1].plan == whole[-1].plan
    kernels = [states[-1].graph.layers["dense_2"].weights["kernel"] for states in (whole, resumed)]
    np.testing.assert_array_equal(*kernels)


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_plans_grow_and_masked_networks_equal_cut_ones(method: Method):
    task = problem(0.5)
    before = ()
    for state in run(method, task):
        assert state.plan.removals[: len(before)] == before
        before = state.plan.removals
        inputs = np.random.default_rng(0).uniform(size=(20, 6))
        (whole,) = lower(mask(state.graph, task.groups, state.plan))(inputs)
        (small,) = lower(cut(state.graph, task.groups, state.plan))(inputs)
        np.testing.assert_allclose(small, whole, atol=1e-9)


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_the_dense_network_stays_as_it_is(method: Method):
    graph = network()
    before = {name: dict(layer.weights) for name, layer in graph.layers.items()}
    copies = {n: {w: v.copy() for w, v in ws.items()} for n, ws in before.items()}
    run(method, problem(graph=graph))
    for name, weights in copies.items():
        for weight, value in weights.items():
            np.testing.assert_array_equal(graph.layers[name].weights[weight], value)


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_widths_become_multiples(method: Method):
    state = run(method, problem(0.45, round_to=4))[-1]
    assert [len(state.plan.kept(name)) for name in ("dense_0", "dense_1")] == [12, 8]


@pytest.mark.parametrize("method", [METHODS["paper"], METHODS["random"]], ids=repr)
def test_another_seed_gives_another_plan(method: Method):
    plans = {run(method, problem(seed=seed))[-1].plan.removals for seed in range(6)}
    assert len(plans) > 1


@pytest.mark.parametrize("name", ["greedy", "baseline", "norm"])
def test_nothing_is_drawn(name: str):
    plans = {run(METHODS[name], problem(seed=seed))[-1].plan.removals for seed in range(3)}
    assert len(plans) == 1


@pytest.mark.parametrize("method", [METHODS["paper"], METHODS["greedy"]], ids=repr)
def test_identical_twins_are_merged_first_and_nothing_changes(method: Method):
    graph = network()
    kernel = graph.layers["dense_0"].weights["kernel"].copy()
    bias = graph.layers["dense_0"].weights["bias"].copy()
    for twin, other in ((3, 9), (1, 14)):
        kernel[:, twin], bias[twin] = kernel[:, other], bias[other]
    graph = graph.with_weights({("dense_0", "kernel"): kernel, ("dense_0", "bias"): bias})
    groups = find_groups(graph, keep=["dense_1"])
    (state,) = method.steps(Problem(graph, groups, target=1 / 8, step=1 / 8))
    assert {frozenset(removal[1:]) for removal in state.plan.removals} == {
        frozenset({3, 9}),
        frozenset({1, 14}),
    }
    inputs = np.random.default_rng(0).uniform(size=(20, 6))
    np.testing.assert_allclose(lower(state.graph)(inputs)[0], lower(graph)(inputs)[0], atol=1e-6)
    assert state.metrics["output_l1"] < 1e-2


@pytest.mark.parametrize("method", [METHODS["paper"], METHODS["greedy"]], ids=repr)
def test_metrics_are_of_the_step(method: Method):
    for state in run(method, problem(0.5)):
        assert set(state.metrics) == {"energy", "output_l1", "output_entropy"}
        assert 0.0 <= state.metrics["energy"] <= 1.0
        assert state.metrics["output_l1"] > 0.0


def test_norm_takes_the_least():
    graph = network()
    (state,) = METHODS["norm"].steps(problem(1 / 8, graph=graph))
    group = find_groups(graph).by_name["dense_0"]
    least = np.argsort(norm_saliency(graph, group))[:2]
    assert [r.drop for r in state.plan.removals if r.group == "dense_0"] == least.tolist()
    assert all(removal.into is None for removal in state.plan.removals)


def test_baseline_merges_no_unit_twice_and_says_so():
    state = run(METHODS["baseline"], problem(0.5))[-1]
    touched = Counter(
        (removal.group, unit) for removal in state.plan.removals for unit in removal[1:]
    )
    assert set(touched.values()) == {1}
    with pytest.raises(ValueError, match="at most half"):
        run(METHODS["baseline"], problem(0.6))


def test_a_kept_unit_may_take_over_again():
    state = run(METHODS["paper"], problem(0.75))[-1]
    into = Counter((removal.group, removal.into) for removal in state.plan.removals)
    assert max(into.values()) > 1


def test_bounds_of_an_edited_network_are_recomputed_where_they_can_change():
    graph = network()
    task = problem(0.25, graph=graph, input_range=(-1.0, 1.0))
    state = run(METHODS["paper"], task)[-1]
    before = interval_bounds(graph, -1.0, 1.0)
    found = updated_bounds(before, state.graph, ["dense_1", "dense_2"])
    expected = interval_bounds(state.graph, -1.0, 1.0)
    assert len(found.values) == len(expected.values)
    for one, other in zip(found.values, expected.values, strict=True):
        np.testing.assert_array_equal(one.lower, other.lower)
        np.testing.assert_array_equal(one.upper, other.upper)
    first = found.program.places[graph.node["dense_0"].ref]
    assert found.values[first] is before.values[first]
    inputs = np.random.default_rng(0).uniform(-1, 1, (5, 6))
    np.testing.assert_array_equal(found.program(inputs)[0], lower(state.graph)(inputs)[0])


@pytest.mark.parametrize("measure", ["params", "macs"])
def test_a_budget_of_the_total_is_met_and_not_by_far(measure: str):
    task = problem(0.5, measure=measure)
    state = run(METHODS["norm"], task)[-1]
    remaining = Remaining(task.graph, task.groups.groups, measure)
    gone = {name: int(dropped.sum()) for name, dropped in state.plan.dropped.items()}
    assert remaining(gone) <= 0.5 * remaining.total
    fewer = {name: count - 1 for name, count in gone.items()}
    assert remaining(fewer) > 0.5 * remaining.total
