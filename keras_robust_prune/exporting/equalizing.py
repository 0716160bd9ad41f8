"""Cross-layer equalisation: the same network, whose units use the ranges of their tensors alike.

An int8 tensor has one scale for all of its units, so that a unit of a hundredth of the range is left with two or three
values. Between two layers with weights, a unit can be multiplied by a number of its own: the layer that writes it
multiplies by it, those that read it divide. ReLU, pooling, padding and addition let such numbers pass.

BatchNormalization that stands behind no kernel becomes two operators of a file, with two roundings: its factors move
into the layers that read it first, and its shifts where nothing is padded in between.

ReLU6 does not let numbers pass: its cap stands where it is. Below it a unit is multiplied at most so far that twice the
largest value seen stays below the cap; one that comes nearer stays as it is.

Reference:
    [Nagel et al., 2019](https://arxiv.org/abs/1906.04721), section 4.1. There, weights of two layers get the same
    range, because a kernel has one scale; kernels of TFLite have one per output, so that tensors count here. There,
    ReLU6 becomes ReLU, which changes the function.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Node, Ref
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.surgery.groups import trace
from keras_robust_prune.synthesis.probe import ActivationProbe

# Under a cap, real inputs may reach so many times as far as those that were seen.
MARGIN = 2.0
# A unit that is next to never seen is not multiplied by more.
MOST = 100.0

Units = Mapping[Ref, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Tensors through which a number per unit passes.

    Attributes:
        refs: the tensors.
        writers: calls that write them.
        readers: calls that read them.
        cap: the least value from which on a function among them is not homogeneous.
    """

    refs: tuple[Ref, ...]
    writers: tuple[Node, ...]
    readers: tuple[Node, ...]
    cap: float = math.inf


def stretches(graph: Graph, passing: Sequence[str] = ()) -> tuple[Stretch, ...]:
    """Every stretch of a graph whose activations are split off.

    Args:
        graph: the network.
        passing: nodes that let numbers pass beside those that do by their type.
    """
    above = {Ref(n.name, k): Ref(n.name, k) for n in graph.nodes for k in range(len(n.shapes))}

    def root(ref: Ref) -> Ref:
        while above[ref] != ref:
            ref = above[ref]
        return ref

    caps: dict[Ref, float] = {}
    for node in graph.nodes:
        cap = math.inf if node.name in passing else _cap(graph, node)
        if cap and node.inputs:
            made = [Ref(node.name, k) for k in range(len(node.shapes))]
            caps |= dict.fromkeys(made, cap)
            for ref in (*node.inputs, *made):
                above[root(ref)] = root(node.ref)
    members: dict[Ref, list[Ref]] = {}
    for ref in above:
        members.setdefault(root(ref), []).append(ref)
    found = []
    for refs in members.values():
        writers = {ref.node: graph.node[ref.node] for ref in refs if ref not in caps}
        readers = {
            node.name: node
            for ref in refs
            for node in graph.consumers.get(ref, ())
            if node.ref not in caps
        }
        cap = min((caps[ref] for ref in refs if ref in caps), default=math.inf)
        found.append(Stretch(tuple(refs), tuple(writers.values()), tuple(readers.values()), cap))
    return tuple(found)


def _cap(graph: Graph, node: Node) -> float:
    layer = graph.layer_of(node)
    return layer_type(layer).homogeneous_to(layer, graph.keras)


def equalized(graph: Graph, arrays: Sequence[np.ndarray]) -> Graph:
    """The same function, to rounding, on the given inputs; on others too, unless they come above a cap.

    Args:
        graph: the network.
        arrays: inputs on which ranges are measured, one array per network input.

    Returns:
        The network with other weights; itself if nothing can be multiplied.
    """
    graph, passing = without_factors(graph)
    split = split_activations(graph)
    units = _units(split)
    able = [part for part in stretches(split, passing) if _can(split, part, units)]
    read = {ref for part in able for node in part.readers for ref in node.inputs}
    read |= {split.node[name].inputs[0] for name in passing}
    if not able:
        return graph
    ranges = _ranges(split, tuple(read), arrays)
    factors: dict[Ref, np.ndarray] = {}
    for part in able:
        factors |= _on_refs(part, units, _factors(part, units, ranges))
    return _multiplied(graph, split, factors)


def without_factors(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The same function with the factors of normalisations that no kernel precedes in the layers behind them.

    Where nothing is padded in between, what they add moves there, too, and nothing is left of them.

    Returns:
        The network, and the nodes of normalisations that only add, through which numbers per unit pass.
    """
    passing: list[str] = []
    while True:
        split = split_activations(graph)
        units = _units(split)
        found = [
            part
            for part in stretches(split)
            if len(part.writers) == 1
            and part.writers[0].name not in passing
            and part.cap == math.inf
            and _stands_alone(split, part.writers[0])
            and _can(split, part, units)
        ]
        if not found:
            return graph, tuple(passing)
        (node,) = found[0].writers
        factor, shift = (np.asarray(x, float) for x in _affine(split, node))
        numbers = dict(zip(units[node.ref].tolist(), 1 / _not_zero(factor), strict=True))
        graph = _multiplied(graph, split, _on_refs(found[0], units, numbers))
        added = _biases(split_activations(graph), found[0], units, shift / _not_zero(factor))
        if added is None or (factor <= 0).any():
            passing.append(node.name)
        else:
            graph = _without(_with_biases(graph, added), graph.node[node.name])


def _affine(graph: Graph, node: Node) -> tuple[Any, Any]:
    layer = graph.layer_of(node)
    found = layer_type(layer).scale_and_shift(layer)
    assert found is not None
    return found


def _not_zero(factor: np.ndarray) -> np.ndarray:
    """The size of a factor, and 1 for 0."""
    size = np.abs(factor)
    return np.where(size > 0, size, 1.0)


def _on_refs(part: Stretch, units: Units, numbers: Mapping[int, float]) -> dict[Ref, np.ndarray]:
    """Numbers per unit as arrays per tensor of a stretch."""
    return {
        ref: np.array([numbers.get(unit, 1.0) for unit in units[ref].tolist()])
        for ref in part.refs
        if ref in units
    }


def _stands_alone(graph: Graph, node: Node) -> bool:
    """Whether it is a normalisation with stored statistics that does not melt into a kernel before it."""
    layer = graph.layer_of(node)
    before = graph.layer_of(node.inputs[0]) if node.inputs else layer
    single = len(graph.consumers.get(node.inputs[0], ())) == 1 if node.inputs else False
    melts = bool(layer_type(before).kernels_of(before)) and single
    return layer_type(layer).statistics(layer) is not None and not melts


def _biases(
    graph: Graph, part: Stretch, units: Units, shift: np.ndarray
) -> dict[str, np.ndarray] | None:
    """What the readers of a stretch get if a shift is added to what its writer writes; None if not one number each."""
    (node,) = part.writers
    inner = [other for other in graph.nodes if other.ref in part.refs and other.name != node.name]
    if not all(layer_type(graph.layer_of(other)).translates for other in inner):
        return None
    numbers = dict(zip(units[node.ref].tolist(), shift.tolist(), strict=True))
    found = {}
    for reader in part.readers:
        layer = graph.layer_of(reader)
        given = np.array([numbers[unit] for unit in units[reader.inputs[0]].tolist()])
        added = layer_type(layer).constant(layer, given)
        if added is None:
            return None
        found[layer.name] = added
    return found


def _with_biases(graph: Graph, added: Mapping[str, np.ndarray]) -> Graph:
    """Biases with something added, where there was none, too."""
    changed = []
    for name, value in added.items():
        layer = graph.layers[name]
        key = layer_type(layer).bias or ""
        bias = (layer.weights.get(key, 0.0) + value).astype(np.float32)
        config = {**layer.config, "use_bias": True}
        changed.append(
            dataclasses.replace(layer, weights={**layer.weights, key: bias}, config=config)
        )
    return graph.with_layers(changed)


def _without(graph: Graph, gone: Node) -> Graph:
    """A graph whose nodes read what a node read instead of what it wrote."""
    moved = {gone.ref: gone.inputs[0]}
    nodes = [node.reading(moved) for node in graph.nodes if node.name != gone.name]
    return graph.rewired(graph.layers, nodes, moved)


def _multiplied(graph: Graph, split: Graph, factors: Mapping[Ref, np.ndarray]) -> Graph:
    """The graph whose tensors are multiplied by numbers per entry of their last axis."""
    changed: dict[tuple[str, str], np.ndarray] = {}
    for node in split.nodes:
        ends = [ref for ref in (*node.inputs[:1], node.ref) if ref in factors]
        if not ends or _cap(split, node):
            continue
        layer = split.layer_of(node)
        numbers = [factors.get(ref, _ones(split, ref)) for ref in (node.inputs[0], node.ref)]
        weights = layer_type(layer).rescaled(layer, *numbers)
        assert weights is not None
        changed |= {(layer.name, name): value for name, value in _as_float32(weights).items()}
    return graph.with_weights(changed)


def _as_float32(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.float32) for name, value in weights.items()}


def _units(graph: Graph) -> Units:
    """Which unit every entry of a tensor's last axis is, where units lie on it."""
    tracing, labels = trace(graph)
    classes = tracing.classes()
    return {
        ref: classes[found.ids]
        for ref, found in labels.items()
        if found.axis == len(graph.shape(ref)) - 1
    }


def _can(graph: Graph, part: Stretch, units: Units) -> bool:
    """Whether all that write and read a stretch can take numbers in."""
    ends = {*graph.outputs, *graph.inputs}
    if not part.readers or not part.writers or ends & set(part.refs):
        return False
    for node in (*part.writers, *part.readers):
        layer = graph.layer_of(node)
        single = len(graph.calls[layer.name]) == len(node.inputs) == len(node.shapes) == 1
        if not single or node.inputs[0] not in units or node.ref not in units:
            return False
        ones = (_ones(graph, node.inputs[0]), _ones(graph, node.ref))
        if layer_type(layer).rescaled(layer, *ones) is None:
            return False
    written = np.concatenate([units[node.ref] for node in part.writers])
    return all(np.isin(units[node.inputs[0]], written).all() for node in part.readers)


def _ones(graph: Graph, ref: Ref) -> np.ndarray:
    return np.ones(graph.shape(ref)[-1] or 1)


def _ranges(
    graph: Graph, refs: Sequence[Ref], arrays: Sequence[np.ndarray]
) -> dict[Ref, np.ndarray]:
    """The largest magnitude of every entry of the last axis, of each tensor."""
    probe = ActivationProbe(graph, refs)
    size, most = probe.batch_size(), {ref: 0 * _ones(graph, ref) for ref in refs}
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
