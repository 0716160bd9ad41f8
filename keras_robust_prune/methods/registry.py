"""The pruning methods by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_robust_prune.methods.composition import Composition
from keras_robust_prune.methods.problem import Method
from keras_robust_prune.methods.reference.strategies import METHODS as REFERENCES
from keras_robust_prune.methods.robust import Robust

METHODS: dict[str, Method] = {method.name: method for method in (Robust(), *REFERENCES.values())}


def method_for(method: Any, minutes: float | None = None) -> Method:
    """A method by name, or an object that is one.

    Args:
        method: the name or the object.
        minutes: about how long a run may take; None takes what the method says.

    Raises:
        ValueError: there is no method of that name, or none of its parts can be hurried.
        TypeError: the object has no `steps`.

    Example:
        >>> method_for("norm").name
        'norm'
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"There is no method {method!r}. Choose one of {', '.join(METHODS)}.")
        method = METHODS[method]
    if not isinstance(method, Method):
        raise TypeError(
            f"method is {method!r}; pass a name ({', '.join(METHODS)}) or an object with a name and"
            " steps(problem)."
        )
    if minutes is None:
        return method
    if not (isinstance(method, Composition) and method.reads_inputs):
        raise ValueError(
            f"minutes={minutes:g} is for methods that make inputs or train, such as 'robust';"
            f" '{method.name}' takes as long as it takes. Leave minutes out."
        )
    return dataclasses.replace(method, minutes=minutes)
