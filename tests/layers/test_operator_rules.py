"""Operators on tensors, of tf_keras and of Keras 3: where units survive, and where they stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hand_made import behind, call, graph_of, source, told

from keras_robust_prune.graph.graph import Ref
from keras_robust_prune.surgery.groups import trace


@pytest.mark.parametrize(
    ("kind", "config", "args", "kwargs", "after", "axis", "units"),
    [
        ("TFOpLambda", {"function": "nn.relu"}, [], {}, (4, 3), 1, [0, 1, 2]),
        ("ops.Relu", {}, [], {}, (4, 3), 1, [0, 1, 2]),
        ("TFOpLambda", {"function": "math.multiply"}, [2.0], {}, (4, 3), 1, [0, 1, 2]),
        ("ops.Mean", {"axis": 1, "keepdims": False}, [], {}, (3,), 0, [0, 1, 2]),
        (
            "TFOpLambda",
            {"function": "math.reduce_sum"},
            [1],
            {"keepdims": True},
            (1, 3),
            1,
            [0, 1, 2],
        ),
        ("ops.Mean", {"axis": -1}, [], {}, (4,), 0, None),
        ("TFOpLambda", {"function": "math.reduce_max"}, [], {}, (), 0, None),
        ("ops.GetItem", {}, [(slice(None), slice(1, 3), slice(None))], {}, (2, 3), 1, [0, 1, 2]),
        ("ops.GetItem", {}, [(slice(None), 0)], {}, (3,), 0, [0, 1, 2]),
        ("ops.GetItem", {}, [(slice(None), 0, ..., None)], {}, (3, 1), 0, [0, 1, 2]),
        ("ops.GetItem", {}, [(..., slice(0, 2))], {}, (4, 2), 1, [0, 1]),
        (
            "SlicingOpLambda",
            {"function": "__operators__.getitem"},
            [({"start": None, "stop": None, "step": None}, 0)],
            {},
            (3,),
            0,
            [0, 1, 2],
        ),
        ("ops.Reshape", {"newshape": (-1, 2, 2, 3)}, [], {}, (2, 2, 3), 2, [0, 1, 2]),
        ("TFOpLambda", {"function": "reshape"}, [(-1, 12)], {}, (12,), 0, [0, 1, 2] * 4),
        ("TFOpLambda", {"function": "reshape"}, [(-1, 3)], {}, (3,), 0, [0, 1, 2]),
        ("ops.Transpose", {"axes": (0, 2, 1)}, [], {}, (3, 4), 0, [0, 1, 2]),
        ("ops.Transpose", {"axes": (1, 0, 2)}, [], {}, (None, 3), 1, None),
        ("ops.ExpandDims", {"axis": 1}, [], {}, (1, 4, 3), 2, [0, 1, 2]),
        ("ops.Softmax", {"axis": -1}, [], {}, (4, 3), 1, None),
        ("ops.Softmax", {"axis": 1}, [], {}, (4, 3), 1, [0, 1, 2]),
        ("ops.Pad", {"pad_width": [[0, 0], [1, 1], [0, 0]]}, [], {}, (6, 3), 1, [0, 1, 2]),
        (
            "ops.Pad",
            {"pad_width": [[0, 0], [0, 0], [1, 1]]},
            [],
            {},
            (4, 5),
            1,
            [None, 0, 1, 2, None],
        ),
        ("ops.Split", {"axis": 1}, [], {}, [(2, 3), (2, 3)], 1, [0, 1, 2]),
        ("ops.Split", {"axis": 2}, [], {}, [(4, 1)] * 3, 1, [0]),
        ("ops.Matmul", {}, [], {}, (4, 3), 1, None),
    ],
)
def test_operators(
    kind: str,
    config: Any,
    args: Any,
    kwargs: Any,
    after: Any,
    axis: int,
    units: list[int | None] | None,
) -> None:
    """Units where they survive; None where they stay, or where there is something else."""
    found, numbers, _ = behind(kind, (4, 3), after, config, {}, *args, **kwargs)
    if units is None:
        assert min(numbers) >= 1000
    else:
        known = [number if number < 1000 else None for number in numbers]
        assert (found, known) == (axis, units)


def test_a_constant_with_an_entry_per_unit_is_cut_like_a_weight() -> None:
    uses = behind("ops.Multiply", (4, 3), (4, 3), {}, {}, np.ones((1, 3)))[2]
    assert uses == {("constant 0", 1): ("carries", [0, 1, 2])}
    assert behind("ops.Multiply", (4, 3), (4, 3), {}, {}, np.ones((4, 1)))[1:] == ([0, 1, 2], {})
    assert min(behind("ops.Add", (4, 1), (4, 3), {}, {}, np.ones(3))[1]) >= 1000


def test_stack_and_concat_join() -> None:
    nodes = [*source((4, 2)), *source((4, 2), "other")]
    node = call("layer", "ops.Stack", [["source", "other"]], (2, 4, 2), {"axis": 1})
    tracing, labels = trace(graph_of([*nodes, node], ["source_input"]))
    assert labels[Ref("layer")].axis == 2
    classes = tracing.classes()
    assert classes[labels[Ref("other")].ids].tolist() == labels[Ref("source")].ids.tolist()
    node = call("layer", "TFOpLambda", [["source", "other"], -1], (4, 4), {"function": "concat"})
    assert told(*trace(graph_of([*nodes, node], ["source_input"])))[1] == [0, 1, 100, 101]


def test_operators_do_not_align_tensors_as_merging_layers_do() -> None:
    nodes = [
        *source((4, 3)),
        *source((3,), "other"),
        call("layer", "ops.Add", ["source", "other"], (4, 3)),
    ]
    assert min(told(*trace(graph_of(nodes, ["source_input"])))[1]) >= 1000


def test_constants_that_cannot_be_cut_are_a_barrier() -> None:
    assert min(behind("ops.Multiply", (4, 3), (4, 3), {}, {}, [1.0, 2.0, 3.0])[1]) >= 1000
    clip = {"function": "clip_by_value"}
    uses = behind("TFOpLambda", (4, 3), (4, 3), clip, {}, np.zeros(3), 1.0)[2]
    assert uses == {("constant 0", 0): ("carries", [0, 1, 2])}


@pytest.mark.parametrize(("index", "stay"), [(0, False), (2, True)])
def test_the_size_of_the_batch_does_not_depend_on_units(index: int, stay: bool) -> None:
    nodes = [
        *source((4, 3)),
        call("shape", "TFOpLambda", ["source"], (), {"function": "shape"}),
        call("length", "SlicingOpLambda", ["shape", index], (), {"function": "getitem"}),
        call("layer", "TFOpLambda", ["source", ["length", 12]], (12,), {"function": "reshape"}),
    ]
    _, units, _ = told(*trace(graph_of(nodes, ["source_input"])))
    assert units == [unit + 1000 * stay for unit in [0, 1, 2] * 4]
