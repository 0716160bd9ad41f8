"""The axis of the batch back in front, where recorded calls move it behind another one.

`qkv = transpose(reshape(x, (batch, steps, 3, heads, width)), (2, 0, 3, 1, 4))` and then `qkv[0]`, `qkv[1]`, `qkv[2]` is
how many write attention, and `einsum("th,ehm->etm", x, kernels)` how they write experts, whose outputs are weighted and
summed over the first axis. Both can be computed with the batch in front all the way. For each operation a rule tells
how; tensors are made anew only where their batch ends up in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Layer
from keras_robust_prune.graph.nest import leaves, map_leaves
from keras_robust_prune.keras_io.symbolic import (
    arguments,
    flat,
    is_symbolic,
    key_of,
    layer_of,
    map_tensors,
    node_of,
)
from keras_robust_prune.layers.arithmetic import BY_NUMBER
from keras_robust_prune.layers.calls import operator_name


def batch_in_front(nodes: Iterable[Any], outputs: Any, size: int) -> Any:
    """Changes recorded calls of Keras 3 so that none has the batch behind another axis.

    Args:
        nodes: the calls in order, none of which anything else knows of yet.
        outputs: a nest of what they give.
        size: the size of the batch that they were recorded with.

    Returns:
        The outputs, some of them other tensors.

    Raises:
        ValueError: a call moves the batch in a way that is not known.
    """
    front = Front(size)
    for node in nodes:
        args, kwargs = arguments(node)
        given = [part for part in leaves((args, kwargs)) if is_symbolic(part)]
        if any(key_of(tensor) in front.made for tensor in given):
            args, kwargs = map_leaves(front.follow, (args, kwargs))
            node.arguments.args, node.arguments.kwargs = args, kwargs
        if any(front.is_behind(tensor) for tensor in given):
            for output in flat(node.outputs):
                if not front.is_behind(output):
                    front.made[key_of(output)] = front.rebuilt(output)
        elif given and _name(layer_of(node)) == "broadcast_to":
            (output,) = flat(node.outputs)
            front.made[key_of(output)] = _spread(front, node, output, given)
    return map_tensors(front.follow, outputs) if front.made else outputs


class Front:
    """Tensors with the batch in front.

    Args:
        size: the size of the batch.

    Attributes:
        made: those that were made anew, by the key of the one that they stand for.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.ops = backends.keras().ops
        self.made: dict[Any, Any] = {}

    def follow(self, part: Any) -> Any:
        """What stands for a tensor; anything else is left as it is."""
        return self.made.get(key_of(part), part) if is_symbolic(part) else part

    def place(self, tensor: Any) -> int:
        """The axis of a tensor that the batch is, 0 if there is none.

        Raises:
            ValueError: there are several.
        """
        found = [k for k, length in enumerate(tensor.shape) if length and length % self.size == 0]
        if len(found) > 1 and found[0] > 0:
            raise ValueError("moves the batch axis")
        return found[0] if found else 0

    def is_behind(self, tensor: Any) -> bool:
        """Whether the batch is an axis of a tensor, but not the first."""
        return self.place(tensor) > 0

    def of(self, tensor: Any) -> Any:
        """A tensor with the batch in front, the other axes in order."""
        if not self.is_behind(tensor):
            return self.follow(tensor)
        if key_of(tensor) not in self.made:
            self.made[key_of(tensor)] = self.rebuilt(tensor)
        return self.made[key_of(tensor)]

    def rebuilt(self, tensor: Any) -> Any:
        """A tensor computed anew with the batch in front all the way."""
        node = node_of(tensor)
        name = _name(layer_of(node))
        taken = self.taken_early(node, tensor) if name in ("get_item", "unstack") else None
        if taken is not None:
            return taken
        rule = RULES.get(name, _alike if name in BY_NUMBER else None)
        if rule is None:
            raise ValueError("moves the batch axis")
        args, kwargs = arguments(node)
        found = rule(self, node, tensor, [*args, *kwargs.values()])
        shape = list(tensor.shape)
        shape.insert(0, shape.pop(self.place(tensor)))
        if tuple(found.shape) != tuple(shape):
            raise ValueError("moves the batch axis")
        return found

    def taken_early(self, node: Any, tensor: Any) -> Any:
        """A part along the first axis, taken before the batch was moved behind it; None if it is none."""
        operation, (args, _) = layer_of(node), arguments(node)
        source = args[0]
        key: tuple[Any, ...] = (tensor._keras_history[2],)
        if _name(operation) == "get_item":
            key = args[1] if isinstance(args[1], tuple) else (args[1],)
        elif operation.axis not in (0, -len(source.shape)):
            return None
        if self.place(source) != 1 or not isinstance(key[0], (int, np.integer)):
            return None
        part = self._taken(source, int(key[0]))
        return part if part is None or key[1:] in ((), (...,)) else part[key[1:]]

    def _taken(self, tensor: Any, index: int) -> Any:
        """`tensor[index]` with the batch in front all the way; None if it was not reshaped and transposed only."""
        if not self.is_behind(tensor):
            return None
        node = node_of(tensor)
        operation, (args, _) = layer_of(node), arguments(node)
        source, shape = args[0], tuple(tensor.shape)
        if hasattr(operation, "newshape") and source.shape[0] == shape[0]:
            part = self._taken(source, index)
            return None if part is None else self.ops.reshape(part, shape[1:])
        order = _order(operation, len(shape))
        if order is None:
            return None
        first, rest = order[0], order[1:]
        if self.is_behind(source):
            part = self._taken(source, index) if first == 0 else None
        else:
            part = self.follow(source)[(slice(None),) * first + (index,)]
        if part is None:
            return None
        return self.ops.transpose(part, [axis - (axis > first) for axis in rest])


Rule = Callable[[Front, Any, Any, list[Any]], Any]


def _name(operation: Any) -> str:
    """What the rules of operators call an operation."""
    return operator_name(Layer("", f"ops.{type(operation).__name__}", {}))


def _at(axis: int, place: int) -> int:
    """Where an axis is once the batch, which was at a place, is in front."""
    return 0 if axis == place else axis + (axis < place)


def _order(operation: Any, rank: int) -> list[int] | None:
    """The axes of an input in the order that a transposition gives them; None if it is none."""
    name = _name(operation)
    numbered = np.empty(tuple(range(rank)))  # an axis is as long as its number
    if name == "transpose":
        axes = operation.axes or tuple(reversed(range(rank)))
        return [int(axis) % rank for axis in axes]
    if name == "moveaxis":
        return list(np.moveaxis(numbered, operation.source, operation.destination).shape)
    if name == "swapaxes":
        return list(np.swapaxes(numbered, operation.axis1, operation.axis2).shape)
    return None


def _moved(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """A transposition."""
    source, place = parts[0], front.place(parts[0])
    order = _order(layer_of(node), len(source.shape)) or []
    return front.ops.transpose(
        front.of(source), [0, *(_at(axis, place) for axis in order if axis != place)]
    )


def _alike(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """An operation of one or more operands, number by number, with broadcasting."""
    rank, place = len(tensor.shape), front.place(tensor)

    def aligned(part: Any) -> Any:
        if is_symbolic(part):
            spare = rank - len(part.shape)
            if front.place(part) + spare != place:
                raise ValueError("moves the batch axis")
            part = front.of(part)
            for _ in range(spare):
                part = front.ops.expand_dims(part, 1)
            return part
        array = np.array(part) if hasattr(part, "shape") else np.array(0)
        if not array.ndim:
            return part
        array = np.moveaxis(array.reshape((1,) * (rank - array.ndim) + array.shape), place, 0)
        if not (array == array[:1]).all():
            raise ValueError("uses constants that differ between the samples of a batch")
        return front.ops.convert_to_tensor(array[:1])

    args, kwargs = map_leaves(aligned, arguments(node))
    return layer_of(node)(*args, **kwargs)


def _spread(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """A tensor spread over other axes than that of the batch, whose size `broadcast_to` would be told."""
    source, shape = front.of(parts[0]), tensor.shape
    if len(source.shape) != len(shape) or source.shape[0] != shape[0]:
        raise ValueError("computes with the size of the batch")
    pairs = zip(source.shape[1:], shape[1:], strict=True)
    ones = np.ones((1, *(new if old != new else 1 for old, new in pairs)), tensor.dtype)
    join = front.ops.logical_and if tensor.dtype == "bool" else front.ops.multiply
    return join(source, front.ops.convert_to_tensor(ones))


def _along(operation: Any, rank: int) -> list[int]:
    axis = operation.axis
    return [int(a) % rank for a in (range(rank) if axis is None else np.atleast_1d(axis))]


def _reduced(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """A reduction over other axes than that of the batch."""
    source, operation = parts[0], layer_of(node)
    place, axes = front.place(source), _along(operation, len(source.shape))
    if place in axes:
        raise ValueError("mixes the samples of a batch")
    reduce = getattr(front.ops, _name(operation))
    return reduce(
        front.of(source), axis=[_at(axis, place) for axis in axes], keepdims=operation.keepdims
    )


def _normed(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """A softmax."""
    source = parts[0]
    (axis,) = _along(layer_of(node), len(source.shape))
    return front.ops.softmax(front.of(source), axis=_at(axis, front.place(source)))


def _indexed(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """Entries along other axes than that of the batch."""
    source, key = parts[0], list(parts[1] if isinstance(parts[1], tuple) else parts[1:2])
    if any(not isinstance(part, (int, slice, type(None), type(...))) for part in key):
        raise ValueError("moves the batch axis")
    spare = len(source.shape) - sum(part is not None and part is not ... for part in key)
    at = key.index(...) if ... in key else len(key)
    key = [*key[:at], *([slice(None)] * spare), *key[at + 1 :]]
    number = [k for k, part in enumerate(key) if part is not None][front.place(source)]
    if key[number] != slice(None):
        raise ValueError("mixes the samples of a batch")
    index = (key.pop(number), *key)
    return front.of(source)[index]


def _grown(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """A new axis of length 1."""
    axis = layer_of(node).axis
    (axis,) = [int(a) % len(tensor.shape) for a in np.atleast_1d(axis)]
    return front.ops.expand_dims(front.of(parts[0]), _at(axis, front.place(tensor)))


def _joined(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """Tensors behind one another, or along a new axis."""
    operation, place = layer_of(node), front.place(tensor)
    axis = int(operation.axis) % len(tensor.shape)
    if axis == place or not all(map(is_symbolic, parts[0])):
        raise ValueError("moves the batch axis")
    join = front.ops.stack if _name(operation) == "stack" else front.ops.concatenate
    return join([front.of(part) for part in parts[0]], axis=_at(axis, place))


def _multiplied(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """Sums of products, each factor of which has the batch once, or is a constant."""
    operation = layer_of(node)
    text = getattr(operation, "subscripts", None) or _product(parts)
    left, _, result = str(text).replace(" ", "").partition("->")
    letter, factors, terms = result[front.place(tensor)], [], []
    given = [part for part in leaves(parts) if hasattr(part, "shape")]
    lengths = dict(zip(result, tensor.shape, strict=True))
    for term, part in zip(left.split(","), given, strict=True):
        if is_symbolic(part):
            if term[front.place(part)] != letter:
                raise ValueError("mixes the samples of a batch")
            term, part = letter + term.replace(letter, ""), front.of(part)
        for axis in reversed(range(len(term))):  # what broadcasts has no letter
            if part.shape[axis] == 1 and lengths.get(term[axis], 1) != 1:
                term, part = term[:axis] + term[axis + 1 :], front.ops.squeeze(part, axis)
        factors.append(part)
        terms.append(term)
    equation = f"{','.join(terms)}->{letter}{result.replace(letter, '')}"
    return front.ops.einsum(equation, *factors)


def _product(parts: Sequence[Any]) -> str:
    """The equation of a product of matrices."""
    ranks = [len(part.shape) for part in parts]
    if len(ranks) != 2 or min(ranks) < 2:
        raise ValueError("moves the batch axis")
    letters = "abcdefgh"[: max(ranks) - 2]
    first, second = (letters[len(letters) - rank + 2 :] for rank in ranks)
    return f"{first}ij,{second}jk->{letters}ik"


def _split(front: Front, node: Any, tensor: Any, parts: list[Any]) -> Any:
    """One of the parts along another axis than that of the batch."""
    source, operation = parts[0], layer_of(node)
    axis, index = int(operation.axis) % len(source.shape), tensor._keras_history[2]
    key: list[Any] = [slice(None)] * len(source.shape)
    if _name(operation) == "unstack":
        key[_at(axis, front.place(source))] = index
    else:
        start = sum(int(part.shape[axis]) for part in flat(node.outputs)[:index])
        key[_at(axis, front.place(source))] = slice(start, start + int(tensor.shape[axis]))
    return front.of(source)[tuple(key)]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("transpose", "moveaxis", "swapaxes"), _moved),
    **dict.fromkeys(("sum", "mean", "max", "min"), _reduced),
    **dict.fromkeys(("concatenate", "stack"), _joined),
    **dict.fromkeys(("einsum", "matmul"), _multiplied),
    **dict.fromkeys(("split", "unstack"), _split),
    "softmax": _normed,
    "get_item": _indexed,
    "expand_dims": _grown,
}
