"""Compiled functions and gradients that are the same to the last bit whenever they are computed.

A sum of three tensors and more depends, in its last bits, on their order. Two of TensorFlow's graph optimisations give
that up on large pictures: one joins sums into a single call, another lets such a call add what is ready first. Here
tensors are added two by two, and sums are not joined.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_robust_prune import backends

_JOINS = "arithmetic_optimization"  # the optimisation that joins sums, among others


def compiled(
    function: Callable[..., Any], signature: Sequence[Any] | None = None, **options: Any
) -> Callable[..., Any]:
    """A function of tensors as a graph whose sums are not joined.

    Args:
        function: of tensors; its gradients are taken by `gradients`.
        signature: of its arguments, for which it is traced now; None traces it for what it is called with.
        options: of `tf.function`.

    Example:
        >>> import tensorflow as tf
        >>> float(compiled(lambda x: gradients(x * x, [x])[0])(tf.constant(3.0)))
        6.0
    """
    made = backends.tensorflow().function(
        function, input_signature=signature, autograph=False, **options
    )
    if signature is not None:
        with _sums_apart():
            made = made.get_concrete_function()

    def call(*given: Any) -> Any:
        with _sums_apart():
            return made(*given)

    return call


def gradients(loss: Any, tensors: Sequence[Any], unconnected: str = "zero") -> list[Any]:
    """Gradients of a loss within a compiled function, whose parts are added two by two.

    Args:
        loss: computed in the same function.
        tensors: or variables, that it was computed from.
        unconnected: what stands for a tensor that the loss does not depend on: `"zero"` or `"none"`.
    """
    tf = backends.tensorflow()
    by_pairs = tf.AggregationMethod.EXPERIMENTAL_TREE
    found = tf.gradients(
        loss, list(tensors), unconnected_gradients=unconnected, aggregation_method=by_pairs
    )
    return list(found)


@contextlib.contextmanager
def _sums_apart() -> Iterator[None]:
    """Within it graphs are optimised without joining sums."""
    optimizer = backends.tensorflow().config.optimizer
    before = optimizer.get_experimental_options().get(_JOINS, True)
    if not before:
        yield
        return
    optimizer.set_experimental_options({_JOINS: False})
    try:
        yield
    finally:
        optimizer.set_experimental_options({_JOINS: before})
