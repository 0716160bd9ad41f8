"""What removals do at the outputs: measured, and counted by the budget."""

from __future__ import annotations

import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import MASK
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods import run as runs
from keras_robust_prune.methods.by_cost import ByCost
from keras_robust_prune.methods.outputs import Outputs, without
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.methods.run import Run
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.kinds import Synthesis

LOUD, QUIET = 1.0, 0.03  # how much of each of two equal branches reaches the output


def drawn(count):
    return np.random.default_rng(0).normal(size=(count, 6)).astype("float32")


@pytest.fixture(scope="module", params=backends.NAMES)
def problem(request):
    """Two branches with equal weights; the second one's last layer gives 3 % of the first one's."""
    keras = backends.module(request.param)
    rng = np.random.default_rng(1)
    hidden, mixed = rng.normal(size=(6, 16)), rng.normal(size=(16, 8)) / 4
    x = keras.Input((6,), name="in")
    ends = []
    for name, scale in (("loud", LOUD), ("quiet", QUIET)):
        first = keras.layers.Dense(16, activation="relu", name=name)
        second = keras.layers.Dense(8, activation="tanh", name=f"{name}_mixed")
        last = keras.layers.Dense(3, name=f"{name}_end")
        ends.append(last(second(first(x))))
        first.set_weights([hidden, np.zeros(16)])
        second.set_weights([mixed, np.zeros(8)])
        last.set_weights([scale * rng.permutation(np.eye(8, 3)), np.zeros(3)])
    graph = read(keras.Model(x, keras.layers.Add(name="sum")(ends)))
    return Problem(
        graph,
        find_groups(graph),
        target=0.5,
        measure="params",
        input_range=(-4.0, 4.0),
        calibration=drawn(runs.MANY),
    )


@pytest.fixture(scope="module")
def run(problem):
    return Run(problem, Synthesis())


def group(problem, name):
    return next(group for group in problem.groups.groups if group.name == name)


def test_the_error_is_that_of_the_logits_over_their_variance(problem, run):
    outputs = Outputs(run)
    assert outputs.error(problem.graph) == 0.0
    loud = group(problem, "loud")
    moments = {name: run.moments(problem.graph, name) for name in run.consumers_of(loud)}
    small = without(run, loud, [0, 3, 5], moments)
    held = run.inputs[1][0][0]
    dense, now = (
        np.asarray(build(g).predict(held, verbose=0), float) for g in (problem.graph, small)
    )
    wanted = np.square(now - dense).mean() / dense.var(0).mean()
    assert outputs.error(small) == pytest.approx(wanted, rel=1e-4)
    assert 1e-4 < wanted < 1


def test_only_what_reads_the_units_changes_and_is_solved_anew(problem, run):
    """The twin: least squares of the dense network's pre-activations on the units that are left."""
    loud = group(problem, "loud")
    gone = [0, 3, 5]
    moments = {name: run.moments(problem.graph, name) for name in run.consumers_of(loud)}
    small = without(run, loud, gone, moments)
    changed = [
        name
        for name, layer in problem.graph.layers.items()
        for key, value in layer.weights.items()
        if not np.array_equal(value, small.layers[name].weights[key])
    ]
    assert set(changed) <= {"loud", "loud_mixed"}
    assert "loud_mixed" in changed
    x = run.inputs[0][0][0]
    seen = np.maximum(x @ problem.graph.layers["loud"].weights["kernel"], 0.0)
    wanted = seen @ problem.graph.layers["loud_mixed"].weights["kernel"]
    left = np.append(np.delete(seen, gone, 1), np.ones((len(x), 1)), 1)
    solved = np.linalg.lstsq(left, wanted, rcond=None)[0]
    kernel = np.delete(small.layers["loud_mixed"].weights["kernel"], gone, 0)
    assert np.abs(kernel - solved[:-1]).max() < 0.01 * np.abs(solved).max()


def test_the_budget_takes_what_the_outputs_do_not_miss(problem):
    """Local errors of both branches are the same; the outputs feel one of them a thousand times less."""
    taken = {}
    for at_outputs in (False, True):
        method = Robust(ByCost(at_outputs=at_outputs), repair="reconstruct")
        *_, state = method.steps(problem)
        taken[at_outputs] = [
            sum(int(state.plan.dropped[layer].sum()) for layer in (name, f"{name}_mixed"))
            for name in ("loud", "quiet")
        ]
    loud, quiet = taken[False]
    assert abs(loud - quiet) <= 4
    loud, quiet = taken[True]
    assert quiet >= loud + 6


@pytest.mark.parametrize("keras", backends.NAMES)
def test_units_that_a_normalization_reads_are_judged_at_the_outputs_too(keras):
    """A mask is a layer more: the network with it is another than the dense one with other weights."""
    layers = backends.module(keras).layers
    graph = read(
        backends.module(keras).Sequential(
            [
                layers.Input((6,)),
                layers.Dense(8, name="a"),
                layers.LayerNormalization(name="n"),
                layers.Dense(3),
            ]
        )
    )
    found = find_groups(graph)
    problem = Problem(graph, found, target=0.5, measure="macs", calibration=drawn(runs.MANY))
    run, (first, *_) = Run(problem, Synthesis()), found.groups
    moments = {name: run.moments(graph, name) for name in run.consumers_of(first)}
    outputs, small = Outputs(run), without(run, first, [1, 4], moments)
    assert MASK in small.layers["n"].weights
    held = run.inputs[1][0][0]
    dense, now = (np.asarray(build(g).predict(held, verbose=0), float) for g in (graph, small))
    wanted = np.square(now - dense).mean() / dense.var(0).mean()
    assert outputs.error(small) == pytest.approx(wanted, rel=1e-4)
    assert outputs.error(graph) == 0.0
    *_, state = Robust(repair="reconstruct").steps(problem)
    assert state.plan.dropped["a"].any()
