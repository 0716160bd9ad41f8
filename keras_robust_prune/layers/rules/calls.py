"""What stands in the call of an operator: arguments, and arrays that are constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Node


def map_constants(function: Callable[[int, np.ndarray], Any], structure: Any) -> Any:
    """The same nest of tuples, lists and dicts with `function` applied to every array and its number."""
    count = iter(range(1 << 30))

    def visit(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return function(next(count), value)
        if isinstance(value, Mapping):
            return {key: visit(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(visit(item) for item in value)
        return value

    return visit(structure)


def constants(node: Node) -> list[np.ndarray]:
    """The arrays among the arguments of a call, in order of appearance."""
    found: list[np.ndarray] = []
    map_constants(lambda _, value: found.append(value), (node.args, dict(node.kwargs)))
    return found


def argument(graph: Graph, node: Node, name: str, position: int, default: Any = None) -> Any:
    """An argument of an operator, wherever it stands: by name, by position, in the configuration."""
    if name in node.kwargs:
        return node.kwargs[name]
    if len(node.args) > position:
        return node.args[position]
    layer = graph.layer_of(node)
    return layer.config.get(name, getattr(layer.origin, name, default))


def rank_in(graph: Graph, node: Node, index: int = 0) -> int:
    """Number of axes of an input, with the batch axis."""
    return len(graph.shape(node.inputs[index])) + 1
