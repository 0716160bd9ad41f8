"""Takes the size of the batch out of what was recorded with an unlikely one.

Keras 3 knows no symbolic size: a `call` that reshapes to `(batch, ...)` or repeats a class token for every sample
cannot be recorded while the size is open. Recorded with a size that nothing else has, it can be
told from all other numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Shape
from keras_robust_prune.graph.nest import leaves, map_leaves
from keras_robust_prune.keras_io.symbolic import arguments, flat, is_symbolic, layer_of

JOINING = ("Concatenate", "Stack")


def free_batch(nodes: Iterable[Any], size: int) -> None:
    """Changes recorded calls of Keras 3 operations so that they hold for every size of the batch.

    Args:
        nodes: the calls, none of which anything else knows of yet.
        size: the size that they were recorded with.

    Raises:
        ValueError: a call uses it in another way than to reshape and to repeat constants.
    """
    for node in nodes:
        operation, outputs = layer_of(node), flat(node.outputs)
        _free_constants(node, operation, outputs[0], size)
        if type(operation).__name__ == "Reshape" and hasattr(operation, "newshape"):
            shape = tuple(outputs[0].shape)
            lengths = [-1 if _counts(length, size) else length for length in shape]
            if lengths.count(-1) > 1:
                raise ValueError("moves the batch axis")
            operation.newshape = tuple(lengths)
            config = {**operation.get_config(), "newshape": operation.newshape}
            operation.get_config = config.copy
        elif any(_mentions(value, size) for value in _settings(operation)):
            raise ValueError("computes with the size of the batch")


def refuse_open_sizes(nodes: Iterable[Any]) -> None:
    """Raises if a call of a Keras 3 operation takes None for the size of the batch, which fails on numbers.

    Raises:
        ValueError: naming the operation.
    """
    for node in nodes:
        for value in _settings(layer_of(node)):
            if isinstance(value, (list, tuple)) and any(item is None for item in value):
                raise ValueError(f"'{layer_of(node).name}' is given the open size of the batch")


def _settings(operation: Any) -> list[Any]:
    """What an operation was made with; a layer of Keras knows no size of the batch."""
    if hasattr(operation, "weights"):
        return []
    return [value for name, value in vars(operation).items() if not name.startswith("_")]


def without_batch(shape: Shape, size: int | None) -> Shape:
    """A shape without the first axis, and without lengths that count samples of a batch of a size."""
    return tuple(None if size and _counts(length, size) else length for length in shape)


def _counts(length: Any, size: int) -> bool:
    return isinstance(length, (int, np.integer)) and int(length) > 0 and int(length) % size == 0


def _mentions(value: Any, size: int) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_mentions(item, size) for item in value)
    return _counts(value, size)


def _free_constants(node: Any, operation: Any, output: Any, size: int) -> None:
    """Constants that repeat one sample become that sample."""
    args, kwargs = arguments(node)
    symbolic = [value for value in leaves((args, kwargs)) if is_symbolic(value)]
    # What is no operator that broadcasts wants a constant as often as there are samples.
    joins = type(operation).__name__ in JOINING or hasattr(operation, "weights")
    changed = False

    def visit(value: Any) -> Any:
        nonlocal changed
        if is_symbolic(value) or not hasattr(value, "numpy") or not len(value.shape):
            return value
        array = np.array(value)
        if array.ndim != len(output.shape) or not _counts(array.shape[0], size):
            return value
        if not (array == array[:1]).all():
            raise ValueError("uses constants that differ between the samples of a batch")
        changed = True
        return _at(symbolic[0], array[:1]) if joins and symbolic else array[:1]

    args, kwargs = map_leaves(visit, (args, kwargs))
    if changed:
        node.arguments.args, node.arguments.kwargs = args, kwargs


def _at(tensor: Any, sample: np.ndarray) -> Any:
    """A constant repeated for every sample of a tensor's batch, as a symbolic tensor."""
    last = slice(None) if tensor.shape[-1] == sample.shape[-1] else slice(0, 1)
    index = (slice(None), *(slice(0, 1) for _ in sample.shape[2:]), last)
    return tensor[index] * 0.0 + backends.keras().ops.convert_to_tensor(sample)


def settled(output: Any, inputs: Sequence[Any], batch: int | None) -> Any:
    """An output that depends on the size of the batch alone, as a tensor that depends on an input; others as they are.

    Args:
        output: what a `call` gave.
        inputs: what it was given.
        batch: the size of the batch; None if it was left open.

    Raises:
        ValueError: samples differ.
    """
    if is_symbolic(output) or not hasattr(output, "numpy") or not hasattr(output, "shape"):
        return output
    array = np.array(output)
    if batch is None or not array.ndim or array.shape[0] != batch:
        return array
    if not (array == array[:1]).all():
        raise ValueError("gives constants that differ between the samples of a batch")
    ops, sample = backends.keras().ops, array[:1]
    for tensor in inputs:
        if array.ndim == len(tensor.shape) and tensor.shape[-1] == array.shape[-1]:
            return ops.cast(_at(tensor, sample), str(array.dtype))
    tensor = inputs[0]
    first = tensor[(slice(None),) + (slice(0, 1),) * (len(tensor.shape) - 1)]
    zeros = ops.zeros_like(ops.cast(ops.reshape(first, (-1,) + (1,) * (array.ndim - 1)), "int32"))
    if array.dtype == bool:
        return ops.logical_or(ops.cast(zeros, "bool"), ops.convert_to_tensor(sample))
    return ops.add(ops.cast(zeros, str(array.dtype)), ops.convert_to_tensor(sample))
