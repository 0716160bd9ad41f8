"""Copies of layers that their own description does not bring back."""

from __future__ import annotations

import copy
import inspect
import threading
from typing import Any

CALLS = ("_inbound_nodes", "_outbound_nodes", "_inbound_nodes_value", "_outbound_nodes_value")
# What cannot be copied, and holds nothing that a copy needs.
BARE = {type(make()): make for make in (threading.Lock, threading.RLock, threading.local)}


def copied(layer: Any) -> Any:
    """A layer that is like another in all it holds, with variables of its own and without calls.

    Classes are asked nothing: their constructors may not take what their `get_config` gives.

    Raises:
        ValueError: it holds something that cannot be copied.
    """
    parts = list(layer._flatten_layers())
    memo: dict[int, Any] = {id(part): _empty(part) for part in parts}
    try:
        containers = [found for part in parts for found in _prepared(vars(part), memo)]
        for container in containers:
            _fill(container, memo)
        for part in parts:
            made = vars(memo[id(part)])
            own = {name: value for name, value in made.items() if inspect.isfunction(value)}
            made.update(copy.deepcopy(vars(part), memo))
            made.update(own)  # functions that Keras 3 puts around the methods of each layer
    except Exception as error:
        raise ValueError(
            f"layer '{layer.name}' ({type(layer).__name__}) cannot be rebuilt: its class does not take what its "
            f"get_config gives, and it cannot be copied: {error}. Mend its get_config."
        ) from error
    return memo[id(layer)]


def _empty(thing: Any) -> Any:
    """An object of the same class that nothing was put into."""
    kind: Any = type(thing)
    return kind.__new__(kind)


def _prepared(attributes: dict[str, Any], memo: dict[int, Any]) -> list[Any]:
    """Decides what stands for those attributes of a layer that do not copy by themselves.

    Returns the lists, dicts and sets of Keras 3 among them, for which there are empty ones yet: they refuse new members
    once their layer is built.
    """
    for name, value in attributes.items():
        if name in CALLS and value is not None:
            memo[id(value)] = type(value)()
        elif type(value) in BARE:
            memo[id(value)] = BARE[type(value)]()
    containers, left = [], list(attributes.values())
    while left:
        value = left.pop()
        if id(value) in memo or not isinstance(value, (list, tuple, dict, set)):
            continue
        left += list(value.values() if isinstance(value, dict) else value)
        if hasattr(value, "tracker"):
            memo[id(value)] = _empty(value)
            containers.append(value)
    return containers


def _fill(container: Any, memo: dict[int, Any]) -> None:
    """Puts copies of what a container holds into the one that stands for it."""
    made = memo[id(container)]
    if isinstance(container, list):
        list.extend(made, copy.deepcopy(list(container), memo))
    elif isinstance(container, dict):
        dict.update(made, copy.deepcopy(dict(container), memo))
    else:
        set.update(made, copy.deepcopy(set(container), memo))
    vars(made).update(copy.deepcopy(vars(container), memo))
