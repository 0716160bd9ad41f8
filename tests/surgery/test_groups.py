"""What goes together, what stays and why, and what a unit costs: on graphs made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made import call, dense, graph_of

from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.graph.tracing import Labels, Tracing, relabel
from keras_robust_prune.surgery.costs import num_macs, unit_cost
from keras_robust_prune.surgery.groups import find_groups


def chain() -> Graph:
    """A 4-5-3-2 network."""
    nodes = [call("x", "InputLayer", (), (4,)), dense("a", "x", 4, 5)]
    return graph_of([*nodes, dense("b", "a", 5, 3), dense("c", "b", 3, 2)])


def convolutional() -> Graph:
    """Conv 3x3, 2 to 4 on 6x6, BatchNormalization, pooling to 2x2, Flatten, Dense 3."""
    norm = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (4,))
    return graph_of(
        [
            call("x", "InputLayer", (), (6, 6, 2)),
            call("conv", "Conv2D", ["x"], (4, 4, 4), {}, {"kernel": (3, 3, 2, 4), "bias": (4,)}),
            call("norm", "BatchNormalization", ["conv"], (4, 4, 4), {"axis": [3]}, norm),
            call("pool", "MaxPooling2D", ["norm"], (2, 2, 4)),
            call("flat", "Flatten", ["pool"], (16,)),
            dense("last", "flat", 16, 3),
        ]
    )


def test_a_chain() -> None:
    groups = find_groups(chain())
    assert groups.widths == {"a": 5, "b": 3}
    assert [(group.producers, group.consumers) for group in groups.groups] == [
        (("a",), ("b",)),
        (("b",), ("c",)),
    ]
    assert [(item.layer, item.num_units, item.code) for item in groups.kept] == [("c", 2, "output")]


def test_units_behind_flatten_have_an_entry_per_position() -> None:
    (group,) = find_groups(convolutional()).groups
    (consumer,) = group.having("consumes")
    assert consumer.positions.tolist() == [[k, k + 4, k + 8, k + 12] for k in range(4)]
    assert [slot.weight for slot in group.having("carries")] == [
        "gamma",
        "beta",
        "moving_mean",
        "moving_variance",
    ]


def test_where_tells_the_units_of_every_tensor() -> None:
    where = find_groups(convolutional()).where
    assert where[Ref("x")].group.tolist() == [-1, -1]
    assert where[Ref("flat")].unit.tolist() == [0, 1, 2, 3] * 4
    assert where[Ref("pool")].axis == 2
    assert where[Ref("last")].group.tolist() == [-1, -1, -1]


def test_costs_by_arithmetic() -> None:
    graph = convolutional()
    (group,) = find_groups(graph).groups
    assert num_macs(graph) == 16 * (3 * 3 * 2 * 4) + 16 * 3
    cost = unit_cost(graph, group)
    assert cost.params == 3 * 3 * 2 + 1 + 4 + 4 * 3
    assert cost.macs == 16 * 3 * 3 * 2 + 4 * 3


def test_keep() -> None:
    groups = find_groups(chain(), keep=["a"])
    assert groups.widths == {"b": 3}
    assert {item.layer: item.code for item in groups.kept} == {"a": "kept_by_user", "c": "output"}


def test_keep_of_a_layer_without_weights_keeps_what_passes_it() -> None:
    nodes = [
        call("x", "InputLayer", (), (4,)),
        dense("a", "x", 4, 5),
        dense("b", "x", 4, 5),
        call("sum", "Add", [["a", "b"]], (5,)),
        dense("c", "sum", 5, 3),
        dense("d", "c", 3, 2),
    ]
    groups = find_groups(graph_of(nodes), keep=["sum"])
    assert groups.widths == {"c": 3}


def test_keep_names_what_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"'bb' \(did you mean 'b'\?\)"):
        find_groups(chain(), keep=["bb"])


def test_nothing_to_remove_is_an_error_that_lists_why() -> None:
    nodes = [call("x", "InputLayer", (), (4,)), dense("a", "x", 4, 5)]
    nodes += [call("odd", "Lambda", ["a"], (5,)), dense("b", "odd", 5, 2)]
    with pytest.raises(
        ValueError, match=r"(?s)a: its units reach 'odd'.*odd: .*krp.register_layer"
    ):
        find_groups(graph_of(nodes))


def test_one_unit_stays() -> None:
    nodes = [call("x", "InputLayer", (), (4,)), dense("a", "x", 4, 1), dense("b", "a", 1, 3)]
    groups = find_groups(graph_of([*nodes, dense("c", "b", 3, 2)]))
    assert groups.widths == {"b": 3}
    assert groups.kept[0].code == "last_unit"


def test_units_without_a_consumer_stay() -> None:
    nodes = [call("x", "InputLayer", (), (4,)), dense("a", "x", 4, 3), dense("idle", "a", 3, 3)]
    groups = find_groups(graph_of([*nodes, dense("b", "a", 3, 2)], outputs=["b"]))
    assert {item.layer: item.code for item in groups.kept} == {"idle": "no_consumer", "b": "output"}


def test_a_recurrent_layer_is_named_with_its_units() -> None:
    nodes = [
        call("x", "InputLayer", (), (6, 4)),
        call("rnn", "LSTM", ["x"], (5,), {}, {"kernel": (4, 20)}),
        dense("a", "rnn", 5, 3),
        dense("b", "a", 3, 2),
    ]
    kept = {item.layer: item for item in find_groups(graph_of(nodes)).kept}
    assert (kept["rnn"].num_units, kept["rnn"].code) == (5, "no_rule")
    assert "LSTM" in kept["rnn"].reason


def test_a_layer_that_is_barred_at_one_call_stays_whole_at_the_other() -> None:
    """The second call of the shared Dense runs along the axis that the units do not lie on."""
    shared, first = call("shared", "Dense", ["a"], (3, 3), {}, {"kernel": (3, 3)})
    second = call("shared@2", "Dense", ["turned"], (3, 3))[1]
    nodes = [
        call("x", "InputLayer", (), (3, 4)),
        call("a", "Dense", ["x"], (3, 3), {}, {"kernel": (4, 3)}),
        (shared, first),
        call("turned", "Permute", ["a"], (3, 3), {"dims": (2, 1)}),
    ]
    last = call("last", "Dense", ["shared@2"], (3, 2), {}, {"kernel": (3, 2)})
    end = call("end", "Dense", ["shared"], (3, 2), {}, {"kernel": (3, 2)})
    graph = graph_of([*nodes, last, end])
    again = type(second)("shared@2", "shared", second.args, {}, second.inputs, second.shapes)
    order = (*graph.nodes[:4], again, *graph.nodes[4:])
    graph = Graph(graph.layers, order, graph.inputs, (Ref("last"), Ref("end")))
    with pytest.raises(
        ValueError, match="shared: its units reach 'shared', which works along another"
    ):
        find_groups(graph)


def test_two_groups_of_one_layer_have_names_of_their_own() -> None:
    nodes = [
        call("x", "InputLayer", (), (4,)),
        dense("wide", "x", 4, 5),
        dense("a", "x", 4, 2),
        dense("b", "x", 4, 3),
        call("both", "Concatenate", [["a", "b"]], (5,), {"axis": -1}),
        call("sum", "Add", [["wide", "both"]], (5,)),
        dense("last", "sum", 5, 2),
    ]
    groups = find_groups(graph_of(nodes))
    assert list(groups.widths) == ["wide[kernel:0-1]", "wide[kernel:2-4]"]
    assert groups.by_name["wide[kernel:2-4]"].producers == ("wide", "b")


def test_classes_are_connected_components() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        tracing = Tracing()
        elements = tracing.fresh("layer", 60)
        edges = generator.integers(0, 60, (40, 2))
        tracing.unite(elements[edges[:, 0]], elements[edges[:, 1]])
        slow = list(range(60))
        for _ in range(60):
            for a, b in edges:
                slow[a] = slow[b] = min(slow[a], slow[b])
        assert tracing.classes().tolist() == slow


def test_relabel_finds_the_axis_or_none() -> None:
    labels = Labels(1, np.array([7, 8]))
    order = np.arange(6).reshape(3, 2)
    moved = relabel(labels, (3, 2), order.reshape(1, 3, 2))
    assert moved is not None
    assert (moved.axis, moved.ids.tolist()) == (2, [7, 8])
    assert relabel(Labels(0, np.arange(6)), (6,), np.arange(6).reshape(2, 3)) is None
