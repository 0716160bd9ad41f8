"""Masking, merging and cutting: by arithmetic on small graphs, and on real models of both Keras versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from hand_made import call, dense, graph_of, source

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build, load, read
from keras_robust_prune.surgery.cutting import cut, mask, merge
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal


def two_layers() -> Graph:
    nodes = [call("x", "InputLayer", (), (2,)), dense("a", "x", 2, 3), dense("b", "a", 3, 2)]
    return graph_of(nodes)


def plan_for(graph: Graph, *removals: Removal) -> Plan:
    return Plan(removals, dict(find_groups(graph).widths))


def test_mask_zeroes_what_reads_the_unit() -> None:
    graph = two_layers()
    masked = mask(graph, find_groups(graph), plan_for(graph, Removal("a", 1)))
    assert masked.layers["b"].weights["kernel"].tolist() == [[1, 2], [0, 0], [5, 6]]
    assert masked.layers["a"] is graph.layers["a"]


def test_merge_moves_what_reads_the_unit() -> None:
    graph = two_layers()
    groups = find_groups(graph)
    removals = (Removal("a", 1, 2), Removal("a", 2, 0))
    merged = merge(graph, groups, removals)
    assert merged.layers["b"].weights["kernel"].tolist() == [[9, 12], [0, 0], [0, 0]]
    assert graph.layers["b"].weights["kernel"].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_cut_only_deletes() -> None:
    graph = two_layers()
    smaller = cut(graph, find_groups(graph), plan_for(graph, Removal("a", 1)))
    assert smaller.layers["a"].weights["kernel"].tolist() == [[1, 3], [4, 6]]
    assert smaller.layers["a"].weights["bias"].tolist() == [1, 3]
    assert smaller.layers["b"].weights["kernel"].tolist() == [[1, 2], [5, 6]]
    assert smaller.layers["a"].config["units"] == 2
    assert [node.shapes for node in smaller.nodes] == [((2,),), ((2,),), ((2,),)]


def test_an_empty_plan_changes_nothing() -> None:
    graph = two_layers()
    groups = find_groups(graph)
    same = cut(graph, groups, Plan.empty(groups))
    assert all(same.layers[name] is layer for name, layer in graph.layers.items())
    assert all(
        mask(graph, groups, Plan.empty(groups)).layers[name] is layer
        for name, layer in graph.layers.items()
    )


def test_merge_moves_every_position_behind_flatten_in_order() -> None:
    nodes = [
        *source((2, 3)),
        call("flat", "Flatten", ["source"], (6,)),
        dense("last", "flat", 6, 1),
    ]
    graph = graph_of(nodes)
    merged = merge(graph, find_groups(graph), [Removal("source", 2, 0)])
    assert merged.layers["last"].weights["kernel"].ravel().tolist() == [1 + 3, 2, 0, 4 + 6, 5, 0]


def test_constants_and_shapes_of_calls_are_cut() -> None:
    nodes = [
        *source((2, 3)),
        call(
            "scaled",
            "TFOpLambda",
            ["source", np.array([1.0, 2.0, 3.0])],
            (2, 3),
            {"function": "math.multiply"},
        ),
        call("row", "TFOpLambda", ["scaled", (-1, 6)], (6,), {"function": "reshape"}),
        call("back", "ops.Reshape", ["row"], (2, 3), {"newshape": (-1, 2, 3)}),
        call("kept", "Reshape", ["back"], (1, 2, 3), {"target_shape": (1, -1, 3)}),
        call("last", "Dense", ["kept"], (1, 2, 2), {}, {"kernel": (3, 2)}),
    ]
    graph = graph_of(nodes)
    smaller = cut(graph, find_groups(graph), plan_for(graph, Removal("source", 1)))
    assert smaller.node["scaled"].args[1].tolist() == [1.0, 3.0]
    assert smaller.node["row"].args[1] == (-1, 4)
    assert smaller.layers["back"].config["newshape"] == (-1, 2, 2)
    assert smaller.layers["kept"].config["target_shape"] == (1, -1, 2)
    assert smaller.node["kept"].shapes == ((1, 2, 2),)


def half_of_all(graph: Graph) -> Plan:
    groups = find_groups(graph)
    generator = np.random.default_rng(1)
    removals = [
        Removal(group.name, int(unit))
        for group in groups.groups
        for unit in generator.permutation(group.num_units)[: group.num_units // 2]
    ]
    return Plan(tuple(removals), dict(groups.widths))


UNPRUNABLE = ("shared", "recurrent", "constants_as_layers")
CASES = [case for case in networks.CASES if case[0] not in UNPRUNABLE]


@pytest.mark.parametrize(("name", "keras"), CASES)
def test_cut_equals_mask(name: str, keras: str) -> None:
    model = networks.network(name, keras)
    inputs = networks.random_inputs(model)
    graph = read(model)
    groups, plan = find_groups(graph), half_of_all(graph)
    masked = networks.outputs_of(build(mask(graph, groups, plan)), inputs)
    smaller = cut(graph, groups, plan)
    built = build(smaller)
    for ours, theirs in zip(networks.outputs_of(built, inputs), masked, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
    assert [node.shapes for node in read(built).nodes] == [node.shapes for node in smaller.nodes]
    assert built.count_params() == smaller.num_params < graph.num_params


@pytest.mark.parametrize("name", UNPRUNABLE)
def test_what_cannot_be_cut_says_why(name: str) -> None:
    with pytest.raises(ValueError, match="no unit that can be removed"):
        find_groups(read(networks.network(name)))


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize(
    "name", ["attention", "operators", "squeeze_excite", "embedding", "grouped", "normalized"]
)
def test_a_cut_model_survives_its_file(name: str, keras: str, tmp_path: Path) -> None:
    model = networks.network(name, keras)
    inputs = networks.random_inputs(model)
    graph = read(model)
    small: Any = build(cut(graph, find_groups(graph), half_of_all(graph)))
    path = tmp_path / ("small" if keras == "tf_keras" else "small.keras")
    small.save(path)
    again = load(path)
    for ours, theirs in zip(
        networks.outputs_of(again, inputs), networks.outputs_of(small, inputs), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
