"""How long a run will take, said beforehand, and how a time that is given is shared.

A forward pass, a step of inversion, a matrix product and the building of the network are timed on this machine; what
each stage takes is counted in these. A stage takes as many as it has: a time that is given makes fewer inputs and takes
fewer or more steps of distillation, so the result then depends on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.methods.repair.moments import SKETCHED
from keras_robust_prune.synthesis.inversion import one_step
from keras_robust_prune.synthesis.probe import ActivationProbe, logit_refs

_REPEATS = 3  # the one in the middle counts: a run meets the machine as it is, not at its best
_SIDE = 512  # of the matrices whose product is timed
_PART = 12  # calls
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
        gradient: seconds of a pass with its gradient in a step of inversion, per input: 2 to 10 times as many.
        multiplication: seconds of one multiplication in a product of float64 matrices.
        built: seconds until one call of a network is built and compiled.
        compiled: seconds until the network's gradient is.
    """

    forward: float
    gradient: float
    multiplication: float
    built: float = 0.0
    compiled: float = 0.0

    @property
    def part(self) -> float:
        """Seconds until a part of a network is built and compiled, from the last cut to a consumer."""
        return _PART * self.built


def multiplications(
    rows: int, targets: int, measured: float, systems: float, judged: float
) -> float:
    """How many measuring and solving one consumer takes.

    Args:
        rows: that it mixes.
        targets: that it gives.
        measured: positions.
        systems: how many times its rows cubed.
        judged: how many times its rows squared times the targets that errors are judged on.
    """
    gram = measured * rows * (rows + targets)
    chosen = 4.0 * rows**2 * targets  # weights, and products of them, of two eliminations
    return gram + systems * rows**3 + judged * rows**2 * min(targets, SKETCHED) + chosen


def measured_speed(dense: Graph, specs: Sequence[InputSpec]) -> Speed:
    """Time passes and one product; takes some seconds, most of them until the network's gradient is compiled.

    Args:
        dense: the network, activations split off.
        specs: of its inputs.
    """
    began = time.perf_counter()
    probe = ActivationProbe(dense, dense.outputs)
    building = time.perf_counter() - began
    size = int(np.clip(probe.batch_size(), 1, _TIMED))
    inputs = [np.zeros((size, *spec.shape), np.float32) for spec in specs]
    matrix = np.random.default_rng(0).normal(size=(_SIDE, _SIDE))
    started, forward = _timed(lambda: probe.batch(inputs))
    if all(spec.num_tokens for spec in specs):
        compiled, gradient = started, 3 * forward
    else:
        compiled, gradient = _timed(one_step(dense, logit_refs(dense), specs, size))
    _, product = _timed(lambda: matrix @ matrix)
    built = (building + started) / len(dense.nodes)
    return Speed(forward / size, gradient / size, product / _SIDE**3, built, compiled)


def _timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that the first call takes longer than others, and the median of those of a few."""
    took = []
    for _ in range(1 + _REPEATS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    usual = float(np.median(took[1:]))
    return max(took[0] - usual, 0.0), usual
