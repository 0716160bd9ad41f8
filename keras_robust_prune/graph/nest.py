"""Nests of tuples, lists and dicts, as calls of layers take and give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def map_leaves(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same nest with `function` applied to everything that is no tuple, list or dict, in order.

    Example:
        >>> map_leaves(lambda leaf: leaf + 1, {"a": (1, [2]), "b": 3})
        {'a': (2, [3]), 'b': 4}
    """
    if isinstance(structure, Mapping):
        return {key: map_leaves(function, value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        items = [map_leaves(function, value) for value in structure]
        if hasattr(structure, "_fields"):
            return type(structure)(*items)
        return tuple(items) if isinstance(structure, tuple) else items
    return function(structure)


def leaves(structure: Any) -> list[Any]:
    """What a nest holds, in order.

    Example:
        >>> leaves({"a": (1, [2]), "b": None})
        [1, 2, None]
    """
    found: list[Any] = []
    map_leaves(found.append, structure)
    return found
