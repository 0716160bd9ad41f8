"""The pruning methods by name."""

from __future__ import annotations

from typing import Any

from keras_robust_prune.methods.problem import Method
from keras_robust_prune.methods.reference.strategies import METHODS as REFERENCES
from keras_robust_prune.methods.robust import Robust

METHODS: dict[str, Method] = {method.name: method for method in (Robust(), *REFERENCES.values())}


def method_for(method: Any) -> Method:
    """A method by name, or an object that is one.

    Raises:
        ValueError: there is no method of that name.
        TypeError: the object has no `steps`.

    Example:
        >>> method_for("norm").name
        'norm'
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"There is no method {method!r}. Choose one of {', '.join(METHODS)}.")
        return METHODS[method]
    if not isinstance(method, Method):
        raise TypeError(
            f"method is {method!r}; pass a name ({', '.join(METHODS)}) or an object with a name and"
            " steps(problem)."
        )
    return method
