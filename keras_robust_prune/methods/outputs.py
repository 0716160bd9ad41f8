"""What removals do to the outputs: the error of the logits on inputs that no repair has seen.

Costs are local, the error of the layers that read a unit. How much of it arrives at the outputs differs by layer: on a
residual network by a factor of five.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from keras_robust_prune.graph.graph import MASK, Graph
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.repair import compensation, consumers
from keras_robust_prune.methods.repair.moments import Moments
from keras_robust_prune.methods.run import Run
from keras_robust_prune.surgery.cutting import merge
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.synthesis.probe import ActivationProbe, logit_refs


class Outputs:
    """The logits of the dense network on held-out inputs, and how far others are from them.

    Args:
        run: whose held-out inputs are read, of every kind.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def _probe(self) -> ActivationProbe:
        return ActivationProbe(self.run.dense, logit_refs(self.run.dense))

    @cached_property
    def _dense(self) -> list[list[np.ndarray]]:
        return self._logits(self.run.problem.graph)

    def _logits(self, graph: Graph) -> list[list[np.ndarray]]:
        """Of every kind of inputs the logits of every output."""
        probe, split = self._probe, split_activations(graph)
        if any(MASK in layer.weights for layer in split.layers.values()):
            probe = ActivationProbe(split, probe.refs)  # a mask is a layer more, not other weights
        else:
            probe.take(split)
        return [probe.run(inputs) for inputs in self.run.inputs[1]]

    def error(self, graph: Graph) -> float:
        """Squared error of the logits over their variance, the mean over outputs and kinds of inputs.

        Args:
            graph: the dense network with other weights.

        Returns:
            0 for the dense network; about 1 where nothing is left to say.
        """
        found = [
            np.square(now - dense).sum() / max(np.square(dense - dense.mean(0)).sum(), 1e-12)
            for kinds in zip(self._logits(graph), self._dense, strict=True)
            for now, dense in zip(*kinds, strict=True)
        ]
        return float(np.mean(found))


def without(
    run: Run, group: ChannelGroup, units: Sequence[int], moments: Mapping[str, Moments]
) -> Graph:
    """The dense network without some units of one group, the layers that read them solved anew.

    Args:
        run: of the dense network.
        group: where the units are.
        units: their numbers.
        moments: by consumer of the group, of the dense network.
    """
    groups = run.problem.groups
    removals = tuple(Removal(group.name, int(unit)) for unit in units)
    plan = Plan.empty(groups) + removals
    graph = merge(run.problem.graph, groups, removals)
    for name, known in moments.items():
        before = consumers.matrix(graph, name)
        kept = run.kept_rows(graph.layers[name], plan)
        constant = consumers.takes_constant(graph, name)
        ridge = compensation.best_ridge(known, before, kept, constant)
        values = compensation.solve(known, before, kept, constant, ridge)
        graph = consumers.with_matrix(graph, name, values)
    return graph
