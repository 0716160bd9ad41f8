"""Repairs: how what remains makes up for what is removed.

A repair acts on each consumer as soon as the units that it reads are chosen, or on the whole network at the end, or
both. Subclass `Repair`, as a frozen dataclass; it then works with every budget and every selector.
"""

from __future__ import annotations

from typing import ClassVar

from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.timing import Speed


class Repair:
    """Changes weights of what remains. The base class changes nothing.

    Attributes:
        reads_inputs: whether it asks the run for inputs, or for moments on them.
        by_consumer: whether it acts on each consumer; then groups are decided in the order of their consumers, each on
            a network that is repaired up to there.
    """

    reads_inputs: ClassVar[bool] = True
    by_consumer: ClassVar[bool] = False

    def takes(self, run: Run, speed: Speed) -> float:
        """About how many seconds it will take, from what can be known before inputs are made.

        Args:
            run: the dense network and the problem.
            speed: of this machine.
        """
        return 0.0

    def consumer(self, run: Run, state: PruningState, name: str) -> PruningState:
        """The state with one consumer repaired, all units that it reads being decided.

        Args:
            run: the dense network, inputs and moments.
            state: the network, in full shape and masked, the plan, and what was measured in this step.
            name: the consumer, one of `run.consumers`.
        """
        return state

    def network(self, run: Run, state: PruningState) -> PruningState:
        """The state with the whole network repaired, after the last step.

        Args:
            run: the dense network, inputs and moments.
            state: the network, in full shape and masked, the plan, and what was measured in this step.
        """
        return state
