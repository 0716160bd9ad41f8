"""Every network of the table against every promise that holds everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from networks import CASES, network, outputs_of, random_inputs

from keras_robust_prune.keras_io.reading import build, load, read
from keras_robust_prune.keras_io.writing import save
from keras_robust_prune.surgery.cutting import cut, mask, merge
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.training.wrappers import masked_layers, strip, wrap

ALL = pytest.mark.parametrize(("name", "keras"), CASES)


def same(first, second, inputs, tolerance=1e-5):
    for got, wanted in zip(outputs_of(first, inputs), outputs_of(second, inputs), strict=True):
        scale = max(float(np.abs(wanted).max()), 1e-6)
        np.testing.assert_allclose(got, wanted, atol=tolerance * scale, rtol=0)


def groups_or_skip(graph):
    try:
        return find_groups(graph)
    except ValueError as error:
        if "no unit that can be removed" not in str(error):
            raise
        pytest.skip("nothing can be removed from this network")


def half(groups, generator):
    removals = []
    for group in groups.groups:
        units = generator.permutation(group.num_units)[: group.num_units // 2]
        removals += [Removal(group.name, int(unit)) for unit in units]
    return Plan(tuple(removals), dict(groups.widths))


@ALL
def test_cut_equals_mask_and_the_model_is_untouched(name, keras, tmp_path):
    model = network(name, keras)
    before = [value.copy() for value in model.get_weights()]
    inputs = random_inputs(model)
    graph = read(model)
    groups = groups_or_skip(graph)
    plan = half(groups, np.random.default_rng(0))
    small = build(cut(graph, groups, plan))
    same(small, build(mask(graph, groups, plan)), inputs)
    same(build(cut(graph, groups, Plan.empty(groups))), model, inputs, 0.0)
    assert small.count_params() < model.count_params()
    assert small.count_params() == read(small).num_params
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    save(small, tmp_path / "small.keras")
    same(load(tmp_path / "small.keras"), small, inputs, 1e-6)


@ALL
def test_the_cut_graph_knows_its_shapes(name, keras):
    graph = read(network(name, keras))
    groups = groups_or_skip(graph)
    small = cut(graph, groups, half(groups, np.random.default_rng(1)))
    again = read(build(small))
    assert [node.shapes for node in again.nodes] == [node.shapes for node in small.nodes]


@ALL
def test_wrapping_keeps_outputs_and_stripping_gives_them_back(name, keras):
    model = network(name, keras)
    groups_or_skip(read(model))
    inputs = random_inputs(model)
    masked = wrap(model)
    same(masked, model, inputs, 1e-6)
    if masked_layers(masked):
        same(strip(masked), model, inputs, 1e-6)


@ALL
def test_merging_identical_twins_is_exact(name, keras):
    graph = read(network(name, keras))
    groups = groups_or_skip(graph)
    if any(slot.weight.startswith("constant") for group in groups.groups for slot in group.slots):
        pytest.skip("constants in calls tell the units apart")
    changed = {}
    for group in groups.groups:
        for slot in group.slots:
            layer = graph.layers[slot.layer]
            if slot.role == "consumes" or slot.weight not in layer.weights:
                continue
            value = changed.get((slot.layer, slot.weight), layer.weights[slot.weight]).copy()
            moved = np.moveaxis(value, slot.axis, 0)
            moved[slot.positions[1]] = moved[slot.positions[0]]
            changed[slot.layer, slot.weight] = value
    twins = graph.with_weights(changed)
    removals = tuple(Removal(group.name, 1, 0) for group in groups.groups if group.merges)
    if not removals:
        pytest.skip("all units are normalised together, so none takes over from another")
    merged = cut(merge(twins, groups, removals), groups, Plan(removals, dict(groups.widths)))
    if any(
        layer.kind == "DepthwiseConv2D" and layer.config["depth_multiplier"] > 1
        for layer in graph.layers.values()
    ):
        pytest.skip("entries of one unit differ behind a depth multiplier")
    model = build(twins)
    same(build(merged), model, random_inputs(model))
