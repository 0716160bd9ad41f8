"""Cross-layer equalisation: the same network, whose units use the ranges of their tensors alike.

An int8 tensor has one scale for all of its units, so that a unit of a hundredth of the range is left with two or three
values. Between two layers with weights a unit can be multiplied by a number of its own (`surgery.rescaling`), and what
normalisations that stand behind no kernel multiply by moves away first (`surgery.folding`).

ReLU6 does not let numbers pass: its cap stands where it is. Below it a unit is multiplied at most so far that twice the
largest value seen stays below the cap; one that comes nearer stays as it is.

Reference:
    [Nagel et al., 2019](https://arxiv.org/abs/1906.04721), section 4.1. There, weights of two layers get the same
    range, because a kernel has one scale; kernels of TFLite have one per output, so that tensors count here. There,
    ReLU6 becomes ReLU, which changes the function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.surgery.folding import folded
from keras_robust_prune.surgery.rescaling import (
    Stretch,
    Units,
    on_refs,
    ones_of,
    rescaled,
    stretches,
    takes_numbers,
    units_of,
)
from keras_robust_prune.synthesis.probe import ActivationProbe

# Under a cap, real inputs may reach so many times as far as those that were seen.
MARGIN = 2.0
# A unit that is next to never seen is not multiplied by more.
MOST = 100.0


def equalized(graph: Graph, arrays: Sequence[np.ndarray]) -> Graph:
    """The same function, to rounding, on the given inputs; on others too, unless they come above a cap.

    Args:
        graph: the network.
        arrays: inputs on which ranges are measured, one array per network input.

    Returns:
        The network with other weights; itself if nothing can be multiplied.
    """
    graph, passing = folded(graph)
    split = split_activations(graph)
    units = units_of(split)
    able = [part for part in stretches(split, passing) if takes_numbers(split, part, units)]
    read = {ref for part in able for node in part.readers for ref in node.inputs}
    read |= {split.node[name].inputs[0] for name in passing}
    if not able:
        return graph
    ranges = _ranges(split, tuple(read), arrays)
    factors: dict[Ref, np.ndarray] = {}
    for part in able:
        factors |= on_refs(part, units, _factors(part, units, ranges))
    return rescaled(graph, split, factors)


def _ranges(
    graph: Graph, refs: Sequence[Ref], arrays: Sequence[np.ndarray]
) -> dict[Ref, np.ndarray]:
    """The largest magnitude of every entry of the last axis, of each tensor."""
    probe = ActivationProbe(graph, refs)
    size, most = probe.batch_size(), {ref: 0 * ones_of(graph, ref) for ref in refs}
    for k in range(0, len(arrays[0]), size):
        for ref, tensor in zip(refs, probe.batch([x[k : k + size] for x in arrays]), strict=True):
            values = np.abs(np.asarray(tensor)).reshape(-1, len(most[ref])).max(0)
            most[ref] = np.maximum(most[ref], values)
    return most


def _factors(part: Stretch, units: Units, ranges: Mapping[Ref, np.ndarray]) -> dict[int, float]:
    """By what every unit is multiplied: to the largest range of all, as far as a cap allows."""
    by_unit: dict[int, float] = {}
    for ref in part.refs:
        for unit, value in zip(units.get(ref, ()), ranges.get(ref, ()), strict=ref in ranges):
            by_unit[int(unit)] = max(by_unit.get(int(unit), 0.0), float(value))
    goal = min(max(by_unit.values()), part.cap / MARGIN)
    return {
        unit: float(np.clip(goal / max(value, 1e-30), 1.0, MOST)) for unit, value in by_unit.items()
    }
