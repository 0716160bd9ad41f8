"""Repair by least squares: each consumer is solved towards what the dense network computes there."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.methods.repair import compensation, consumers
from keras_robust_prune.methods.repair.repair import Repair
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.timing import Speed, multiplications

_NETWORKS = 2  # that inputs pass through: the dense one and the pruned one
_MEASURED = 40_000  # rows that are multiplied: of two halves, likewise
_SYSTEMS, _JUDGED = 6.0, 28.0  # what is solved and judged for ridges, with half of the units left
_PARTS = 4  # of the network that are built and compiled


@dataclasses.dataclass(frozen=True)
class LeastSquares(Repair):
    """Solves every consumer for the units that stay, towards the dense network's pre-activations.

    Its rows are those of the pruned network, so each consumer also corrects the error of those before it. The ridge is
    the one whose fit to each half of the inputs does best on the other. Notes `reconstruction_error`, the sum of the
    consumers' errors, each in the variance of its targets.
    """

    by_consumer: ClassVar[bool] = True

    def takes(self, run: Run, speed: Speed) -> float:
        """About how many seconds it will take, the choice of units with it."""
        sizes = consumers.sizes(run.dense, run.problem.groups.groups)
        products = sum(multiplications(*size, _MEASURED, _SYSTEMS, _JUDGED) for size in sizes)
        seconds = _NETWORKS * run.passes * run.expected.num_measured * speed.forward
        return seconds + products * speed.multiplication + _PARTS * len(sizes) * speed.part

    def consumer(self, run: Run, state: PruningState, name: str) -> PruningState:
        """The state with one consumer solved."""
        moments = run.moments(state.graph, name)
        before = consumers.matrix(state.graph, name)
        kept = run.kept_rows(state.graph.layers[name], state.plan)
        constant = consumers.takes_constant(state.graph, name)
        ridge = compensation.best_ridge(moments, before, kept, constant)
        values = compensation.solve(moments, before, kept, constant, ridge)
        error = state.metrics.get("reconstruction_error", 0.0) + moments.error(values)
        return dataclasses.replace(
            state,
            graph=consumers.with_matrix(state.graph, name, values),
            metrics={**state.metrics, "reconstruction_error": error},
        )
