"""The search over budgets: what it proposes, how it repairs, and that it finds what groups give better together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from networks import network

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods import run as runs
from keras_robust_prune.methods import search
from keras_robust_prune.methods.allocation import Remaining
from keras_robust_prune.methods.by_cost import ByCost
from keras_robust_prune.methods.outputs import Outputs
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.repair import compensation, consumers
from keras_robust_prune.methods.run import Run
from keras_robust_prune.surgery.cutting import merge
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.synthesis.kinds import Synthesis
from keras_robust_prune.synthesis.probe import ActivationProbe


def problem_of(name: str, keras: str = "tf_keras", **options) -> Problem:
    graph = read(network(name, keras))
    shape = graph.shape(graph.inputs[0])
    x = np.random.default_rng(0).random((runs.MANY, *shape), np.float32)
    given = {"target": 0.4, "measure": "macs", "input_range": (0.0, 1.0), "calibration": x}
    return Problem(graph, find_groups(graph), **{**given, **options})


@pytest.fixture(scope="module", params=backends.NAMES)
def run(request) -> Run:
    return Run(problem_of("residual", request.param), Synthesis())


def literal(run: Run, counts: dict[str, int], order):
    """The same as `CheapRepair`, consumer after consumer on a graph that is built up."""
    problem = run.problem
    removals = tuple(Removal(name, unit) for name, n in counts.items() for unit in order(name)[:n])
    plan = Plan.empty(problem.groups) + removals
    graph = merge(problem.graph, problem.groups, removals)
    for name in run.consumers:
        if any(counts[group.name] for group in run.groups_of(name)):
            known, before = run.moments(problem.graph, name), consumers.matrix(graph, name)
            kept = run.kept_rows(graph.layers[name], plan)
            constant = consumers.takes_constant(graph, name)
            ridge = compensation.best_ridge(known, before, kept, constant)
            values = compensation.solve(known, before, kept, constant, ridge)
            graph = consumers.with_matrix(graph, name, values)
    return graph


def outputs_of(graph, x):
    return build(graph).predict(x, verbose=0)


def test_a_cheap_repair_solves_every_consumer_on_the_dense_networks_moments(run):
    counts = {group.name: group.num_units // 3 for group in run.problem.groups.groups}
    repair = search.CheapRepair(run)
    found, wanted = repair(counts), literal(run, counts, repair.order)
    x = run.inputs[1][0][0]
    np.testing.assert_allclose(outputs_of(found, x), outputs_of(wanted, x), rtol=2e-3, atol=2e-4)


def test_what_was_solved_is_forgotten_only_where_it_does_not_count(run):
    repair = search.CheapRepair(run)
    groups = run.problem.groups.groups
    for count in (1, 2, 3, 2, 1, 0, 4, 5, 1):
        counts = {group.name: min(count, group.num_units - 1) for group in groups}
        again = search.CheapRepair(run)
        again._moments = repair._moments  # the ridge is chosen once
        for name, layer in repair(counts).layers.items():
            wanted = again(counts).layers[name].weights
            assert all(np.array_equal(layer.weights[key], wanted[key]) for key in wanted), name


def test_a_probe_takes_other_weights(run):
    counts = {group.name: 1 for group in run.problem.groups.groups}
    small, dense = literal(run, counts, search.CheapRepair(run).order), run.problem.graph
    probe, x = ActivationProbe(dense, dense.outputs), run.inputs[1][0]
    before = probe.run(x)
    probe.take(small)
    np.testing.assert_array_equal(probe.run(x)[0], ActivationProbe(small, small.outputs).run(x)[0])
    probe.take(dense)
    np.testing.assert_array_equal(probe.run(x)[0], before[0])


@pytest.mark.parametrize("round_to", [1, 2])
def test_moves_keep_the_budget_and_the_blocks(round_to):
    run = Run(problem_of("residual", round_to=round_to), Synthesis())
    problem = run.problem
    remaining = Remaining(problem.graph, problem.groups.groups, "macs")
    widths, rng = problem.groups.widths, np.random.default_rng(0)
    kept = {name: round_to * -(-width // (2 * round_to)) for name, width in widths.items()}
    counts = {name: max(width - kept[name], 0) for name, width in widths.items()}
    budget, seen = remaining(counts) * (1 + 1e-9), set()
    for _ in range(200):
        then = search._moved(run, counts, sorted(widths), 0.5, remaining, budget, rng)
        assert remaining(then) <= budget
        assert all(0 <= n < widths[name] for name, n in then.items())
        assert all((widths[name] - n) % round_to == 0 or not n for name, n in then.items())
        seen.add(tuple(then.values()))
        counts = then
    assert len(seen) == {1: 7, 2: 3}[round_to]  # all that two groups of 8 and 6 units have there


def test_the_search_spares_what_the_outputs_need(run):
    problem, groups = run.problem, run.problem.groups.groups
    remaining = Remaining(problem.graph, problem.groups.groups, "macs")
    widest = max(problem.groups.widths, key=problem.groups.widths.get)
    counts = dict.fromkeys(problem.groups.widths, 0) | {widest: problem.groups.widths[widest] - 1}
    outputs, repair = Outputs(run), search.CheapRepair(run)
    found = search.searched(run, counts, groups, remaining, 40, outputs)
    assert remaining(found) <= remaining(counts) * (1 + 1e-9)
    assert outputs.error(repair(found)) < 0.9 * outputs.error(repair(counts))
    assert search.searched(run, counts, groups, remaining, 40, outputs) == found  # of its seed
    assert search.searched(run, counts, groups, remaining, 0, outputs) == counts


def test_steps_on_the_way_take_no_more_than_the_end():
    problem = problem_of("residual")
    fractions = (0.1, 0.2, 0.4)
    steps = ByCost(moves=10).counts(Run(problem, Synthesis()), fractions)
    for before, after in itertools.pairwise(steps):
        assert all(before[name] <= after[name] for name in after)
    remaining = Remaining(problem.graph, problem.groups.groups, "macs")
    assert remaining(steps[-1]) <= (1 - fractions[-1]) * remaining.total * (1 + 1e-6)


def test_a_network_for_which_few_moves_are_affordable_is_not_searched(run, monkeypatch):
    assert search.usual_moves(run) == 300
    held = sum(len(arrays[0]) for arrays in run.inputs[1])
    monkeypatch.setattr(search, "work_of", lambda graph: 1.5e12 / (30.5 * held))
    assert search.usual_moves(run) == 30
    monkeypatch.setattr(search, "work_of", lambda graph: 1.5e12 / (19 * held))
    assert search.usual_moves(run) == 0
