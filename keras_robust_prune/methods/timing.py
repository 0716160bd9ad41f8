"""How long a run will take, said beforehand, and how a time that is given is shared.

One forward pass and one matrix product are timed on this machine; what each stage takes is counted in these. A stage
takes as many as it has: a time that is given makes fewer inputs and takes fewer or more steps of distillation, so the
result then depends on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.synthesis.probe import ActivationProbe

_REPEATS = 3  # the shortest counts: the machine may do other things meanwhile
_SIDE = 512  # of the matrices whose product is timed
_TIMED = 64  # inputs of the pass that is timed, at most
INPUTS_SHARE = 0.25  # of a time that is given: as much, at most, goes into synthetic inputs


class Estimate(NamedTuple):
    """Seconds that each stage of a run takes.

    Example:
        >>> print(Estimate(118.0, 240.0, 365.0))
        about 12 minutes: 2 inputs, 4 repair, 6 distillation
        >>> print(Estimate(1.0, 20.0, 9.0))
        about 30 seconds: 1 inputs, 20 repair, 9 distillation
    """

    inputs: float
    repair: float
    distillation: float

    def __str__(self) -> str:
        total = sum(self)
        unit, name = (60.0, "minutes") if total >= 120 else (1.0, "seconds")
        parts = zip(self, self._fields, strict=True)
        told = ", ".join(f"{value / unit:.0f} {field}" for value, field in parts)
        return f"about {total / unit:.0f} {name}: {told}"


class Speed(NamedTuple):
    """How fast this machine is now.

    Attributes:
        forward: seconds of the dense network's pass, per input.
        multiplication: seconds of one multiplication in a product of float64 matrices.
    """

    forward: float
    multiplication: float


def measured_speed(dense: Graph, specs: Iterable[InputSpec]) -> Speed:
    """Time one forward pass and one product; takes a second or two.

    Args:
        dense: the network, activations split off.
        specs: of its inputs.
    """
    probe = ActivationProbe(dense, dense.outputs)
    size = int(np.clip(probe.batch_size(), 1, _TIMED))
    inputs = [np.zeros((size, *spec.shape), np.float32) for spec in specs]
    matrix = np.random.default_rng(0).normal(size=(_SIDE, _SIDE))
    seconds = []
    for work in (lambda: probe.batch(inputs), lambda: matrix @ matrix):
        work()  # compiles, and wakes threads
        took = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            work()
            took.append(time.perf_counter() - began)
        seconds.append(min(took))
    return Speed(seconds[0] / size, seconds[1] / _SIDE**3)
