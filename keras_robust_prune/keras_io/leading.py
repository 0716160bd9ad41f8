"""The axis of the batch back in front, where a recorded call moves it away and takes the parts in front one by one.

`qkv = transpose(reshape(x, (batch, steps, 3, heads, width)), (2, 0, 3, 1, 4))` and then `qkv[0]`, `qkv[1]`, `qkv[2]` is
how many write attention. The same parts taken before the transposition leave the batch where it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.keras_io.symbolic import (
    arguments,
    flat,
    key_of,
    layer_of,
    map_tensors,
    node_of,
    tensors_in,
)


def batch_in_front(nodes: Iterable[Any], outputs: Any, size: int) -> Any:
    """Changes recorded calls of Keras 3 so that none has the batch behind another axis.

    Args:
        nodes: the calls in order, none of which anything else knows of yet.
        outputs: a nest of what they give.
        size: the size of the batch that they were recorded with.

    Returns:
        The outputs, some of them other tensors.

    Raises:
        ValueError: a call moves the batch in another way.
    """
    moved: dict[Any, Any] = {}

    def follow(tensor: Any) -> Any:
        return moved.get(key_of(tensor), tensor)

    for node in nodes:
        args, kwargs = arguments(node)
        if any(key_of(tensor) in moved for tensor in tensors_in((args, kwargs))):
            args, kwargs = _following(follow, (args, kwargs))
            node.arguments.args, node.arguments.kwargs = args, kwargs
        tensor = args[0] if args and hasattr(args[0], "_keras_history") else None
        if tensor is None or not _behind(tensor, size):
            continue
        for output, part in _parts(node, tensor, args):
            moved[key_of(output)] = part
    return map_tensors(follow, outputs) if moved else outputs


def _following(follow: Any, structure: Any) -> Any:
    """The same nest with other tensors; constants stay as they are."""
    if isinstance(structure, dict):
        return {key: _following(follow, value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(_following(follow, value) for value in structure)
    return follow(structure) if hasattr(structure, "_keras_history") else structure


def _behind(tensor: Any, size: int) -> bool:
    """Whether the batch is an axis of a tensor, but not the first."""
    counts = [bool(length) and length % size == 0 for length in tensor.shape]
    return len(counts) > 1 and any(counts[1:]) and not counts[0]


def _parts(node: Any, tensor: Any, args: Any) -> Iterable[tuple[Any, Any]]:
    """Outputs of a call that takes parts along the first axis, each with the same taken where the batch is in front."""
    operation = layer_of(node)
    kind, outputs = type(operation).__name__, flat(node.outputs)
    if kind == "Unstack" and operation.axis in (0, -len(tensor.shape)):
        return [(output, _taken(tensor, index)) for index, output in enumerate(outputs)]
    if kind != "GetItem":
        return []
    key = args[1] if isinstance(args[1], tuple) else (args[1],)
    if not isinstance(key[0], (int, np.integer)):
        return []
    part = _taken(tensor, int(key[0]))
    rest = key[1:]
    return [(outputs[0], part[rest] if rest and rest != (...,) else part)]


def _taken(tensor: Any, index: int) -> Any:
    """`tensor[index]`, with the batch in front all the way.

    Raises:
        ValueError: the tensor was made in a way that is not known.
    """
    ops, node = backends.keras().ops, node_of(tensor)
    operation, (args, _) = layer_of(node), arguments(node)
    source, shape = args[0], tuple(tensor.shape)
    if hasattr(operation, "newshape") and source.shape[0] == shape[0]:
        return ops.reshape(_taken(source, index), shape[1:])
    order = _order(operation, len(shape))
    if order is None:
        raise ValueError("moves the batch axis")
    front, rest = order[0], order[1:]
    if front == 0:
        part = _taken(source, index)
    else:
        part = source[(slice(None),) * front + (index,)]
    return ops.transpose(part, [axis - (axis > front) for axis in rest])


def _order(operation: Any, rank: int) -> list[int] | None:
    """The axes of an input in the order that a transposition gives them; None if it is none."""
    kind = type(operation).__name__
    numbered = np.empty(tuple(range(rank)))  # an axis is as long as its number
    if kind == "Transpose":
        axes = operation.axes or tuple(reversed(range(rank)))
        return [int(axis) % rank for axis in axes]
    if kind == "Moveaxis":
        return list(np.moveaxis(numbered, operation.source, operation.destination).shape)
    if kind == "Swapaxes":
        return list(np.swapaxes(numbered, operation.axis1, operation.axis2).shape)
    return None
