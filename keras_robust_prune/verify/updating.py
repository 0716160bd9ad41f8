"""Bounds of a network whose weights were edited: only what the edit can have changed is recomputed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.primitives.base import Rounding
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.program import Operation
from keras_robust_prune.verify.bounds import Bounds


def updated_bounds(bounds: Bounds, graph: Graph, changed: Collection[str]) -> Bounds:
    """Interval bounds after an edit, over the same inputs as before.

    Args:
        bounds: of the network before the edit.
        graph: the network after it; same layers, calls and shapes.
        changed: names of the layers whose weights were edited.

    Returns:
        What `interval_bounds` returns for the edited network. Operations of other layers are taken
        over with what they have cached; values before the first edited layer likewise.
    """
    before = bounds.program
    rounding = Rounding(before.dtype)
    operations: list[Operation] = []
    values: list[Interval] = []
    moved: set[int] = set()
    program = lower(graph, before.dtype)
    for place, (old, new) in enumerate(zip(before.operations, program.operations, strict=True)):
        operation = new if new.layer in changed else old
        operations.append(operation)
        if operation.primitive is None or not (
            operation.layer in changed or moved.intersection(operation.inputs)
        ):
            values.append(bounds.values[place])
            continue
        moved.add(place)
        inputs = [values[k] for k in operation.inputs]
        values.append(operation.primitive.interval(inputs, rounding))
    return Bounds(dataclasses.replace(program, operations=tuple(operations)), tuple(values))
