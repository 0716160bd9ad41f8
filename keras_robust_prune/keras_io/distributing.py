"""What runs beside a `tf.distribute` strategy: outside its scope, and with the chief's numbers on every worker."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.keras_io.compiling import compiled

Result = TypeVar("Result")


def outside_scope(function: Callable[[], Result]) -> Result:
    """What a function returns, called as if no strategy's scope had been entered.

    Models built within a scope have their variables on every replica, which gradients of their own cannot use.
    TensorFlow keeps scopes by thread and has no other way out of one.
    """
    if not backends.tensorflow().distribute.has_strategy():
        return function()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def on_several_workers(strategy: Any) -> bool:
    """Whether a strategy's replicas are in several processes, each of which runs the whole program."""
    return getattr(strategy, "cluster_resolver", None) is not None


class Replicas:
    """Where batches are spread: over the replicas of a strategy, or one.

    Args:
        strategy: of `tf.distribute`; None for one.

    Attributes:
        count: how many replicas there are on all workers.
    """

    def __init__(self, strategy: Any = None) -> None:
        self._strategy = strategy
        self.count = 1 if strategy is None else int(strategy.num_replicas_in_sync)

    def scope(self) -> AbstractContextManager[Any]:
        """Within it variables are made on, and assigned to, every replica."""
        return contextlib.nullcontext() if self._strategy is None else self._strategy.scope()

    def even(self, size: int) -> int:
        """The next size of a batch of which every replica gets as many in the first half as in the second."""
        return -(-size // (2 * self.count)) * 2 * self.count

    def shards(self, tensors: Sequence[Any]) -> list[Any]:
        """Of each tensor every replica's own rows: every `count`-th, from its number on."""
        if self._strategy is None:
            return list(tensors)
        spread = self._strategy.experimental_distribute_values_from_function
        return [spread(lambda c, x=x: x[c.replica_id_in_sync_group :: self.count]) for x in tensors]

    def mine(self) -> tuple[Any, int]:
        """The number of the replica that this is called on, and how many there are."""
        if self._strategy is None:
            return 0, 1
        context = backends.tensorflow().distribute.get_replica_context()
        return (0 if context is None else context.replica_id_in_sync_group), self.count

    def run(self, function: Callable[..., Any], given: Sequence[Any]) -> Any:
        """A function's results on every replica, within a `tf.function`."""
        if self._strategy is None:
            return function(*given)
        return self._strategy.run(function, args=tuple(given))

    def update(
        self,
        function: Callable[..., Any],
        variables: Sequence[Sequence[Any]],
        values: Sequence[Any],
    ) -> None:
        """Changes variables on every replica, within a `tf.function`.

        Args:
            function: is given the variables of one of the groups as a replica has them, and its value.
            variables: groups of them, made within the scope.
            values: one per group, as each replica has it; they are summed.
        """
        if self._strategy is None:
            for group, value in zip(variables, values, strict=True):
                function(*group, value)
            return
        with self._strategy.scope():
            extended, op = self._strategy.extended, backends.tensorflow().distribute.ReduceOp.SUM
            places = [(value, group[0]) for group, value in zip(variables, values, strict=True)]
            sums = extended.batch_reduce_to(op, places)
            for group, total in zip(variables, sums, strict=True):
                extended.update(group[0], function, args=(*group[1:], total), group=False)

    def by_rows(
        self,
        function: Callable[..., Any],
        signature: Sequence[Any] | None,
        num_rows: int,
        share: int | None = None,
    ) -> Callable[..., Any]:
        """A function compiled, each replica computing some of the rows.

        Args:
            function: from tensors to a tensor, or a list of them, with as many rows; no row depends on one of another
                replica's.
            signature: of its arguments; None takes it from the first call.
            num_rows: how many of the arguments, the first ones, are rows; the others are alike for all.
            share: how many rows a replica takes; None gives each an equal share. Where none are left for a replica, it
                computes the last one again.
        """
        tf, strategy = backends.tensorflow(), self._strategy
        if strategy is None:
            return compiled(function, signature, reduce_retracing=True)
        each = compiled(lambda *given: strategy.run(function, args=given), reduce_retracing=True)

        def spread(*given: Any) -> Any:
            count = int(given[0].shape[0])
            each_takes = share or -(-count // self.count)
            index = tf.minimum(tf.range(each_takes * self.count), count - 1)

            def part(rows: Any) -> Any:
                padded = tf.gather(rows, index)
                shares = tf.reshape(padded, (self.count, each_takes, *rows.shape[1:]))
                own = strategy.experimental_distribute_values_from_function
                return own(lambda context: shares[context.replica_id_in_sync_group])

            found = each(*map(part, given[:num_rows]), *given[num_rows:])
            return tf.nest.map_structure(lambda x: self._joined(x)[:count], found)

        return spread

    def _joined(self, value: Any) -> Any:
        """The rows of all replicas, one replica's after the other's."""
        assert self._strategy is not None
        if on_several_workers(self._strategy):
            return self._strategy.gather(value, axis=0)
        return backends.tensorflow().concat(self._strategy.experimental_local_results(value), 0)

    def local(self, value: Any) -> Any:
        """A value that every replica has, as the first of this worker's has it."""
        if self._strategy is None:
            return value
        return self._strategy.experimental_local_results(value)[0]


def take_over_from_chief(model: Any) -> None:
    """Gives a model in a `fit` on several workers the chief's weights, on every one of them.

    Workers compute the same, but different processors round differently, and a removal is yes or no.
    """
    strategy: Any = getattr(model, "distribute_strategy", None)
    if on_several_workers(strategy):
        with strategy.scope():
            model.set_weights(_of_first_replica(strategy, model.get_weights()))


def _of_first_replica(strategy: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The arrays that the first of all replicas has."""
    tf = backends.tensorflow()

    def shared(array: np.ndarray) -> np.ndarray:
        def mine(context: Any) -> Any:
            first = context.replica_id_in_sync_group == 0
            return tf.constant(array if first else np.zeros_like(array))

        values = strategy.experimental_distribute_values_from_function(mine)
        return np.asarray(strategy.reduce("SUM", values, axis=None))

    return [shared(np.asarray(array)) for array in arrays]
