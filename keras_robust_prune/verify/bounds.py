"""Bounds of every tensor of a network over boxes of inputs.

Interval arithmetic passes each box forward, layer by layer: cheap, sound, wide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.layers.lowering import lower as lower_graph
from keras_robust_prune.primitives.base import Rounding
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.program import Program


@dataclasses.dataclass(frozen=True, eq=False)
class Bounds:
    """An interval for every tensor.

    Attributes:
        program: the network.
        values: by place in the program, `(boxes, *shape)` each.
    """

    program: Program
    values: tuple[Interval, ...]

    def __getitem__(self, ref: Ref) -> Interval:
        return self.values[self.program.places[ref]]

    @property
    def logits(self) -> Interval:
        """The outputs before a closing softmax or sigmoid, one behind the other, `(boxes, outputs)`."""
        return joined([self.values[place] for place in self.program.logits])


def joined(parts: Sequence[Interval]) -> Interval:
    """Intervals `(boxes, *shape)` flattened and put one behind the other."""
    flat = [part.reshape(len(part.lower), -1) for part in parts]
    return Interval(
        np.concatenate([part.lower for part in flat], axis=1),
        np.concatenate([part.upper for part in flat], axis=1),
    )


def input_boxes(program: Program, lower: Any, upper: Any) -> list[Interval]:
    """The inputs' boxes, `(boxes, *shape)` each.

    Args:
        program: the network.
        lower: a number, an array `(*shape)` or `(boxes, *shape)`; a list of them if there are several inputs.
        upper: likewise.

    Raises:
        ValueError: an array fits no input, or a lower end lies above its upper end.
    """
    shapes = [program.operations[place].shape for place in program.inputs]
    several = len(shapes) > 1
    ends: list[list[np.ndarray]] = []
    for name, end in (("lower", lower), ("upper", upper)):
        given = list(end) if several and isinstance(end, (list, tuple)) else [end] * len(shapes)
        if len(given) != len(shapes):
            raise ValueError(
                f"{name} has {len(given)} parts; the network has {len(shapes)} inputs."
            )
        ends.append(
            [_batched(name, item, shape) for item, shape in zip(given, shapes, strict=True)]
        )
    boxes = max(len(item) for end in ends for item in end)
    found = []
    for low, high in zip(*ends, strict=True):
        shape = (boxes, *low.shape[1:])
        box = Interval(np.broadcast_to(low, shape), np.broadcast_to(high, shape))
        found.append(box.astype(program.dtype))
    return found


def _batched(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value)
    array = array.astype(np.float64) if array.dtype != np.float32 else array
    if array.ndim <= len(shape):
        array = array[None]
    try:
        return np.broadcast_to(array, (len(array), *shape))
    except ValueError:
        raise ValueError(
            f"{name} has shape {np.shape(value)}; expected a number, {shape} or (boxes, *{shape})."
        ) from None


def interval_bounds(network: Graph | Program, lower: Any, upper: Any) -> Bounds:
    """Interval bounds of every tensor.

    Args:
        network: a graph, or its program, whose precision is used.
        lower: least inputs, a number, `(*shape)` or `(boxes, *shape)`.
        upper: greatest inputs, likewise.

    Returns:
        Bounds; exact arithmetic and every evaluation in the program's precision stay inside.
    """
    program = network if isinstance(network, Program) else lower_graph(network)
    rounding = Rounding(program.dtype)
    given = dict(zip(program.inputs, input_boxes(program, lower, upper), strict=True))
    found: list[Interval] = []
    for place, operation in enumerate(program.operations):
        if operation.primitive is None:
            found.append(given[place])
        else:
            inputs = [found[k] for k in operation.inputs]
            found.append(operation.primitive.interval(inputs, rounding))
    return Bounds(program, tuple(found))
