"""Symbolic tensors of either Keras: which call of which layer made one, and nests of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Shape
from keras_robust_prune.graph.nest import map_leaves

Key = tuple[int, int, int]


def is_symbolic(thing: Any) -> bool:
    """Whether it is a tensor that a call made on placeholders."""
    return hasattr(thing, "_keras_history")


def ordered_nodes(inputs: Iterable[Any], outputs: Iterable[Any]) -> list[Any]:
    """Keras's nodes that the outputs need, each after those it reads, without those of the inputs."""
    done = {key_of(tensor)[:2] for tensor in inputs}
    order = []
    stack = [(tensor, False) for tensor in reversed(list(outputs))]
    while stack:
        tensor, ready = stack.pop()
        key = key_of(tensor)[:2]
        if ready and key not in done:
            done.add(key)
            order.append(node_of(tensor))
        elif key not in done:
            stack.append((tensor, True))
            read = list(tensors_in(arguments(node_of(tensor))))
            stack += [
                (tensor, False) for tensor in reversed(read) if key_of(tensor)[:2] not in done
            ]
    return order


def node_of(tensor: Any) -> Any:
    """The call that made a symbolic tensor."""
    layer, index, _ = tensor._keras_history
    return layer._inbound_nodes[index]


def layer_of(node: Any) -> Any:
    """The layer or operation that a call is of."""
    return node.operation if hasattr(node, "operation") else node.layer


def arguments(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments of a call."""
    if hasattr(node, "arguments"):
        return tuple(node.arguments.args), dict(node.arguments.kwargs)
    return tuple(node.call_args), dict(node.call_kwargs)


def key_of(tensor: Any) -> Key:
    """Which output of which call of which layer a symbolic tensor is."""
    layer, node, output = tensor._keras_history
    return id(layer), node, output


def shape_of(tensor: Any) -> Shape:
    """Shape without the batch axis."""
    rank = getattr(tensor.shape, "rank", len(tensor.shape) if tensor.shape is not None else None)
    return tuple(tensor.shape)[1:] if rank else ()


def map_tensors(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same nest of tuples, lists and dicts with `function` applied to symbolic tensors; constants become arrays."""

    def visit(leaf: Any) -> Any:
        if hasattr(leaf, "_keras_history"):
            return function(leaf)
        is_constant = hasattr(leaf, "numpy") and hasattr(leaf, "shape")
        return np.array(leaf) if is_constant else leaf

    return map_leaves(visit, structure)


def tensors_in(structure: Any) -> Iterator[Any]:
    """Symbolic tensors of a nest, in order of appearance."""
    found: list[Any] = []
    map_tensors(found.append, structure)
    return iter(found)


def flat(outputs: Any) -> list[Any]:
    """A call's outputs in the order Keras numbers them."""
    return sorted(tensors_in(outputs), key=lambda tensor: tensor._keras_history[2])


def dtype_of(tensor: Any) -> str:
    """The name of a tensor's type."""
    return str(getattr(tensor.dtype, "name", tensor.dtype))
