"""One test for each fault of the authors' program: sixteen things that must not happen here.

Source: the published experiment program and toolkit of
[Meng et al., 2023](https://arxiv.org/abs/2204.00783), read and run.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks_dense import mlp

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Ref, map_refs
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.problem import Problem, PruningState
from keras_robust_prune.methods.reference.annealing import anneal
from keras_robust_prune.methods.reference.energy import PublishedEnergy, RelativeEnergy
from keras_robust_prune.methods.reference.guided import Candidates, Greedy, Paper
from keras_robust_prune.methods.saliency import pair_distances
from keras_robust_prune.methods.schedules import falling_temperature
from keras_robust_prune.surgery.cutting import merge
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Removal
from keras_robust_prune.verify.bounds import Bounds, interval_bounds
from keras_robust_prune.verify.deviation import output_deviation
from keras_robust_prune.verify.updating import updated_bounds

# Merged weights are sums in float32; what that rounds away is no part of a deviation.
ROUNDED = 1e-6


def samples(num: int, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Random inputs of a range, many of them in its corners."""
    rng = np.random.default_rng(0)
    inner = rng.uniform(low, high, (num // 2, *shape))
    return np.concatenate([inner, rng.choice([low, high], (num - num // 2, *shape))])


def changes(graph: Graph, drop: int, keep: int, inputs: np.ndarray, layer: str) -> np.ndarray:
    """What merging really does to the logits, `(num_inputs, num_outputs)`."""
    merged = merge(graph, find_groups(graph), [Removal(layer, drop, keep)])
    outputs = [
        program.values([inputs])[program.logits[0]] for program in (lower(merged), lower(graph))
    ]
    return np.asarray(outputs[0] - outputs[1])


def keras_model(*layers: Any, shape: tuple[int, ...], seed: int = 0) -> Any:
    keras = backends.tf_keras()
    model = keras.Sequential([keras.Input(shape), *layers])
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        drawn = rng.normal(scale=0.4, size=weight.shape)
        weight.assign(np.abs(drawn) + 0.5 if "variance" in weight.name else drawn)
    return model


def test_fault_01_the_input_range_is_that_of_the_inputs():
    graph, _ = mlp([2, 2, 2])
    weights = {("dense_0", "kernel"): [[1.0, -2.0], [3.0, 4.0]], ("dense_0", "bias"): [0.5, -1.0]}
    graph = graph.with_weights({key: np.array(w, "float32") for key, w in weights.items()})
    program = lower(graph)
    bounds = interval_bounds(program, 0.0, 1.0)
    found = bounds.values[program.places[split_activations(graph).node["dense_0"].ref]]
    np.testing.assert_allclose(found.lower, [[0.5, -2.0 - 1.0]], atol=1e-12)
    np.testing.assert_allclose(found.upper, [[1.0 + 3.0 + 0.5, 4.0 - 1.0]], atol=1e-12)


def test_fault_01_nor_is_it_that_of_a_flattened_convolution():
    layers = backends.tf_keras().layers
    convolution = layers.Conv2D(4, 2, name="conv", activation="relu")
    graph = read(
        keras_model(convolution, layers.Flatten(name="flat"), layers.Dense(3), shape=(4, 4, 2))
    )
    program = lower(graph)
    place = program.places[Ref("flat")]
    found = interval_bounds(program, 0.0, 1.0).values[place]
    values = program.values([samples(200, (4, 4, 2), 0.0, 1.0)])[place]
    assert found.contains(values)
    assert not np.allclose(found.upper, 1.0)


def test_fault_02_an_inactive_relu_is_bounded_by_zero_twice():
    graph, _ = mlp([3, 4, 2])
    graph = graph.with_weights({("dense_0", "bias"): np.full(4, -100.0, "float32")})
    found = interval_bounds(graph, 0.0, 1.0)[Ref("dense_0__activation")]
    np.testing.assert_array_equal(found.lower, np.zeros((1, 4)))
    np.testing.assert_array_equal(found.upper, np.zeros((1, 4)))


@pytest.mark.parametrize("method", [Paper(), Greedy()], ids=repr)
def test_fault_03_the_unit_that_is_scored_as_dropped_is_dropped(method: Any):
    graph, _ = mlp([3, 6, 5, 2], seed=2)
    program, groups = lower(graph), find_groups(graph)
    bounds = interval_bounds(program, 0.0, 1.0)
    inputs = samples(400, (3,), 0.0, 1.0)
    (state,) = method.steps(Problem(graph, groups, target=1 / 6, step=1 / 6))
    removal = next(r for r in state.plan.removals if r.group == "dense_0")
    kernel = state.graph.layers["dense_1"].weights["kernel"]
    before = graph.layers["dense_1"].weights["kernel"]
    np.testing.assert_array_equal(kernel[removal.drop], np.zeros(5))
    np.testing.assert_array_equal(kernel[removal.into], before[removal.into] + before[removal.drop])
    true = changes(graph, removal.drop, removal.into, inputs, "dense_0")
    group = groups.by_name["dense_0"]
    right = output_deviation(program, group, [removal.drop], [removal.into], bounds)
    assert right.contains(true, ROUNDED)


def test_fault_04_a_deviation_passes_relu_as_what_is_left_of_it_not_as_an_activation():
    graph, _ = mlp([4, 8, 8, 8, 3], seed=4)
    graph = graph.with_weights({("dense_2", "bias"): np.full(8, 2.0, "float32")})
    program, groups = lower(graph), find_groups(graph)
    bounds = interval_bounds(program, 0.0, 1.0)
    inputs = samples(1000, (4,), 0.0, 1.0)
    for group in groups.groups:
        pairs = list(itertools.permutations(range(group.num_units), 2))
        drops, keeps = zip(*pairs, strict=True)
        found = output_deviation(program, group, drops, keeps, bounds)
        for row, (drop, keep) in enumerate(pairs):
            true = changes(graph, drop, keep, inputs, group.name)
            assert found[row].contains(true, ROUNDED), (group.name, drop, keep)


def test_fault_05_the_best_pair_is_offered_first():
    graph, _ = mlp([5, 12, 3], seed=5)
    kernel = graph.layers["dense_0"].weights["kernel"].copy()
    bias = graph.layers["dense_0"].weights["bias"].copy()
    kernel[:, 7], bias[7] = kernel[:, 2], bias[2]
    graph = graph.with_weights({("dense_0", "kernel"): kernel, ("dense_0", "bias"): bias})
    for seed in range(10):
        problem = Problem(graph, find_groups(graph), target=1 / 12, step=1 / 12, seed=seed)
        (state,) = Paper().steps(problem)
        (removal,) = state.plan.removals
        assert {removal.drop, removal.into} == {2, 7}


@pytest.mark.parametrize("bias", ["weight", "relative"])
def test_fault_06_biases_that_add_up_to_zero_are_no_infinity(bias: str):
    graph, _ = mlp([4, 6, 3])
    group = find_groups(graph).groups[0]
    for values in (np.zeros(6), np.array([1.0, -1.0, 0.0, 0.0, 2.0, -2.0])):
        changed = graph.with_weights({("dense_0", "bias"): values.astype("float32")})
        assert np.isfinite(pair_distances(changed, group, bias)).all()


def renamed(graph: Graph, names: dict[str, str]) -> Graph:
    def follow(ref: Ref) -> Ref:
        return Ref(names.get(ref.node, ref.node), ref.output)

    layers = {
        names.get(name, name): dataclasses.replace(layer, name=names.get(name, name))
        for name, layer in graph.layers.items()
    }
    nodes = tuple(
        dataclasses.replace(
            node,
            name=names.get(node.name, node.name),
            layer=names.get(node.layer, node.layer),
            args=map_refs(follow, node.args),
            inputs=tuple(follow(ref) for ref in node.inputs),
        )
        for node in graph.nodes
    )
    outputs = tuple(follow(ref) for ref in graph.outputs)
    return dataclasses.replace(graph, layers=layers, nodes=nodes, outputs=outputs)


def test_fault_07_names_mean_nothing():
    graph, _ = mlp([4, 8, 8, 3], seed=7)
    names = {"dense_0": "conv2d", "dense_1": "dropout", "dense_2": "flatten"}
    plans = []
    for network in (graph, renamed(graph, names)):
        *_, state = Paper().steps(Problem(network, find_groups(network), target=0.5, step=0.25))
        plans.append([(names.get(r.group, r.group), r.drop, r.into) for r in state.plan.removals])
    assert len(plans[0]) == 4 + 4
    assert plans[0] == plans[1]


def test_fault_08_batch_normalization_is_part_of_the_analysis():
    layers = backends.tf_keras().layers
    first = layers.Dense(6, name="first")
    model = keras_model(
        first, layers.BatchNormalization(), layers.ReLU(), layers.Dense(3), shape=(4,)
    )
    graph = read(model)
    program, group = lower(graph), find_groups(graph).by_name["first"]
    bounds = interval_bounds(program, 0.0, 1.0)
    inputs = samples(300, (4,), 0.0, 1.0)
    pairs = list(itertools.permutations(range(6), 2))
    found = output_deviation(program, group, *zip(*pairs, strict=True), bounds)
    for row, (drop, keep) in enumerate(pairs):
        assert found[row].contains(changes(graph, drop, keep, inputs, "first"), ROUNDED)
    (name,) = [name for name, layer in graph.layers.items() if "gamma" in layer.weights]
    gamma = graph.layers[name].weights["gamma"]
    stretched = graph.with_weights({(name, "gamma"): 10 * gamma})
    ratio = pair_distances(stretched, group) / (pair_distances(graph, group) + np.eye(6))
    assert ratio.max() > 5.0


def test_fault_09_the_result_is_smaller_and_is_saved(tmp_path: Path):
    layers = backends.tf_keras().layers
    model = keras_model(layers.Dense(16, activation="relu"), layers.Dense(3), shape=(8,))
    result = krp.prune(model, target=0.5, method="paper", step=0.25, verbose=0)
    params = 8 * 8 + 8 + 8 * 3 + 3
    assert result.model.count_params() == params < model.count_params()
    result.model.save(tmp_path / "small")
    again = krp.load(tmp_path / "small")
    assert again.count_params() == params
    x = samples(20, (8,), 0.0, 1.0).astype("float32")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), result.model.predict(x, verbose=0), atol=1e-6
    )


def test_fault_10_the_temperature_starts_hot_and_falls():
    asked: list[float] = []

    def temperature(progress: float) -> float:
        asked.append(falling_temperature(progress))
        return asked[-1]

    anneal(20, 10, lambda k, _: 0.0, np.random.default_rng(0), temperature)
    assert asked[0] == 1.0001
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] < 0.11


def candidates(graph: Graph, energy: Any, bounds: Bounds | None = None) -> Candidates:
    """All neighbouring pairs of the first group, scored over the range [0, 1]."""
    group = find_groups(graph).groups[0]
    bounds = bounds or interval_bounds(graph, 0.0, 1.0)
    drops, keeps = range(group.num_units - 1), range(1, group.num_units)
    deviation = output_deviation(bounds.program, group, drops, keeps, bounds)
    return Candidates.of((), deviation, energy)


def test_fault_11_the_energy_tells_candidates_apart_on_a_wide_relu_network():
    graph, _ = mlp([64, 64, 64, 10], seed=11)
    published = candidates(graph, PublishedEnergy(1.0)).energies
    relative = candidates(graph, RelativeEnergy(1.0)).energies
    assert np.ptp(published) < 5e-5
    assert np.ptp(relative) > 0.05


def test_fault_12_what_was_accepted_counts_in_the_next_score():
    graph, _ = mlp([6, 10, 8, 4], seed=12)
    pool = candidates(graph, RelativeEnergy(0.75))
    alone = [pool.score(k, []) for k in range(9)]
    np.testing.assert_allclose(alone, pool.energies)
    after = [pool.score(k, [0]) for k in range(1, 9)]
    assert not np.allclose(after, alone[1:])
    ends = pool.deviation
    np.testing.assert_allclose(pool.together([0, 3]).lower, ends.lower[0] + ends.lower[3])


def test_fault_13_a_repeated_walk_counts_no_pair_twice():
    energies = np.random.default_rng(13).uniform(size=12)
    for seed in range(50):
        found = anneal(12, 9, lambda k, _: energies[k], np.random.default_rng(seed), lambda _: 0.02)
        assert len(found) == len(set(found)) == 9


def last_state(graph: Graph, input_range: Any, **given: Any) -> PruningState:
    problem = Problem(
        graph, find_groups(graph), target=0.5, step=0.25, input_range=input_range, **given
    )
    *_, state = Paper().steps(problem)
    return state


def test_fault_14_bounds_after_a_merge_follow_the_users_range():
    graph, _ = mlp([3, 8, 8, 2], seed=14)
    low, high = np.array([-5.0, 0.0, 2.0]), np.array([5.0, 0.5, 9.0])
    state = last_state(graph, (low, high))
    changed = ["dense_1", "dense_2"]
    bounds = updated_bounds(interval_bounds(graph, low, high), state.graph, changed)
    rng = np.random.default_rng(0)
    values = bounds.program.values([rng.uniform(low, high, (500, 3))])
    for found, value in zip(bounds.values, values, strict=True):
        assert found.contains(value, tolerance=1e-9)
    narrow = last_state(graph, (low, low + 0.01))
    assert narrow.metrics["output_l1"] < 0.1 * state.metrics["output_l1"]


def test_fault_15_everything_drawn_is_seeded_and_no_generator_is_shared():
    graph, _ = mlp([5, 16, 16, 3], seed=15)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = last_state(graph, (0.0, 1.0), seed=3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert last_state(graph, (0.0, 1.0), seed=3).plan == first.plan


def test_fault_16_one_output_decides_at_logit_zero_and_more_than_fgsm_attacks():
    layers = backends.tf_keras().layers
    model = keras_model(layers.Dense(1, activation="sigmoid"), shape=(1,))
    model.set_weights([np.array([[1.0]]), np.array([-0.5])])
    x = np.array([[0.1], [0.45], [0.55], [0.9]])
    found = krp.evaluate(model, x, [0, 0, 1, 1], attacks=["fgsm@0.1", "pgd@0.1"])
    assert found.accuracy == 1.0
    for attack in ("fgsm@0.1", "pgd@0.1"):
        assert found[attack] == 2 / 4
