"""Units that are constant for every valid input: folded into the biases of what reads them, then removed.

A filter whose weights are all zero is no zero behind a bias, a BatchNormalization and an activation: it is a constant,
and so is a unit that never rises above its ReLU. Dropping such a unit as a 0 would change the outputs; here its
consumers' biases take it over first. Constancy is proven with interval bounds of every tensor. Where a consumer pads
('same', or ZeroPadding before it), it sees 0 and not the constant at the border: folding would be inexact there, so the
unit stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.graph.tracing import PRODUCES
from keras_robust_prune.inputs import ends_of
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.base import channel_axis, layer_type
from keras_robust_prune.layers.calls import LoweringError
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.primitives.program import Program
from keras_robust_prune.surgery.cutting import mask
from keras_robust_prune.surgery.groups import ChannelGroup, ChannelGroups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.verify.bounds import Bounds, interval_bounds

# An interval narrower than this share of its value is a constant; the rest is outward rounding.
ROUNDING = 1e-9


class _Reading(NamedTuple):
    """One call that reads units of a group: what stands there, and which entries are whose."""

    node: Node
    place: int
    axis: int
    unit: np.ndarray


def fold_constants(
    graph: Graph,
    groups: ChannelGroups,
    input_range: Any = None,
) -> tuple[Graph, Plan]:
    """Make biases of all units that are constant for every valid input, and plan their removal.

    A unit stays where folding it would be inexact, and one of every group stays in any case.

    Args:
        graph: the network.
        groups: its groups.
        input_range: the valid inputs; see `layers.asking.input_specs`.

    Returns:
        The network in full shape, which computes what `graph` does on all valid inputs and no longer reads the folded
        units; and the plan that removes them.

    Raises:
        LoweringError: a layer has no bounds.

    Example:
        >>> from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
        >>> from keras_robust_prune.surgery.groups import find_groups
        >>> x, a, b = Ref("x"), Ref("a"), Ref("b")
        >>> kernel = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
        >>> layers = [Layer("x", "InputLayer", {})]
        >>> layers += [Layer("a", "Dense", {}, {"kernel": kernel, "bias": np.array([0.0, 0.5])})]
        >>> layers += [Layer("b", "Dense", {}, {"kernel": np.array([[1.0], [4.0]])})]
        >>> nodes = (Node("x", "x", shapes=((2,),)), Node("a", "a", (x,), {}, (x,), ((2,),)))
        >>> nodes += (Node("b", "b", (a,), {}, (a,), ((1,),)),)
        >>> network = Graph({layer.name: layer for layer in layers}, nodes, (x,), (b,))
        >>> folded, plan = fold_constants(network, find_groups(network))
        >>> plan.removals, folded.layers["b"].weights["bias"]
        ((Removal(group='a', drop=1, into=None),), array([2.], dtype=float32))
    """
    bounds = interval_bounds(graph, *ends_of(input_specs(graph, input_range)))
    removals: list[Removal] = []
    for index, group in enumerate(groups.groups):
        units = np.flatnonzero(_constants(groups, index, group, graph, bounds))
        readings = list(_readings(groups, index, group, graph, bounds.program))
        folds = [int(unit) for unit in units if _folds(int(unit), readings, graph, bounds)]
        folds = folds[len(folds) == group.num_units :]  # one unit has to stay
        removals += [Removal(group.name, unit) for unit in folds]
    plan = Plan(tuple(removals), dict(groups.widths))
    return mask(graph.with_layers(_with_biases(graph, groups, plan, bounds)), groups, plan), plan


def without_dead_units(graph: Graph, groups: ChannelGroups, input_range: Any = None) -> Graph:
    """The same function, in which units without incoming weights are biases of what reads them.

    Such units are what magnitude masks leave behind. Nothing reads them afterwards, so every method
    removes them first and without a trace. The network stays as it is where folding is not exact or
    bounds are not known.

    Args:
        graph: the network.
        groups: its groups.
        input_range: likewise.
    """
    if not any(_dead(graph, group) for group in groups.groups):
        return graph
    try:
        return fold_constants(graph, groups, input_range)[0]
    except LoweringError:
        return graph


def _dead(graph: Graph, group: ChannelGroup) -> bool:
    """Whether all kernels that make some unit of a group are zero."""
    live = np.zeros(group.num_units, bool)
    kernels = 0
    for slot in group.having(PRODUCES):
        value = graph.layers[slot.layer].weights.get(slot.weight)
        if value is None or value.ndim < 2:
            continue
        rows = np.moveaxis(value, slot.axis, 0).reshape(value.shape[slot.axis], -1)
        sizes = np.abs(rows).sum(axis=1)
        live |= sizes[slot.positions].sum(axis=1) > 0
        kernels += 1
    return bool(kernels) and not live.all()


def _readings(
    groups: ChannelGroups, index: int, group: ChannelGroup, graph: Graph, program: Program
) -> Iterator[_Reading]:
    """Every call that reads units of a group."""
    after = split_activations(graph).node
    for layer in group.consumers:
        for node in graph.calls[layer]:
            for ref, split in zip(node.inputs, after[node.name].inputs, strict=True):
                where = groups.where[ref]
                if (where.group == index).any():
                    unit = np.where(where.group == index, where.unit, -1)
                    yield _Reading(node, program.places[split], where.axis, unit)


def _constants(
    groups: ChannelGroups, index: int, group: ChannelGroup, graph: Graph, bounds: Bounds
) -> np.ndarray:
    """Units of a group whose intervals have no width, `(num_units,)` bool."""
    constant = np.ones(group.num_units, bool)
    for reading in _readings(groups, index, group, graph, bounds.program):
        value = bounds.values[reading.place]
        moves = value.width > ROUNDING * (1.0 + value.magnitude)
        rows = np.moveaxis(moves[0], reading.axis, 0).reshape(len(reading.unit), -1).any(axis=1)
        constant[reading.unit[rows & (reading.unit >= 0)]] = False
    return constant


def _values(reading: _Reading, units: np.ndarray, bounds: Bounds) -> np.ndarray:
    """What a call reads if only these units were there, with their constants, `(*shape)`."""
    value = np.moveaxis(bounds.values[reading.place].center[0].copy(), reading.axis, 0)
    value[~np.isin(reading.unit, units)] = 0.0
    return np.moveaxis(value, 0, reading.axis)


def _contribution(reading: _Reading, value: np.ndarray, program: Program) -> np.ndarray:
    """What a tensor adds to the output of a call, before its activation, `(*shape)`."""
    results = []
    for given in (value, np.zeros_like(value)):
        found = {reading.place: given[None]}
        for place, operation in enumerate(program.operations):
            if operation.node == reading.node.name and operation.primitive is not None:
                inputs = [found[k] for k in operation.inputs]
                found[place] = operation.primitive.forward(*inputs)
        results.append(found[program.places[Ref(reading.node.name)]][0])
    return np.asarray(results[0] - results[1])


def _in_the_middle(graph: Graph, reading: _Reading, added: np.ndarray) -> np.ndarray:
    """What is added per output unit, taken away from the border, `(units,)`."""
    axis = channel_axis(graph.layer_of(reading.node), added.ndim)
    rows = np.moveaxis(added, axis, 0)
    middle = (slice(None), *(length // 2 for length in rows.shape[1:]))
    return rows[middle]


def _folds(unit: int, readings: list[_Reading], graph: Graph, bounds: Bounds) -> bool:
    """Whether the biases of all consumers can take a unit over exactly, in all their calls and at every place."""
    first: dict[str, np.ndarray] = {}
    for reading in readings:
        layer = graph.layer_of(reading.node)
        value = _values(reading, np.array([unit]), bounds)
        if layer_type(layer).bias is None:
            if value.any():
                return False
        elif value.any() or len(graph.calls[layer.name]) > 1:
            added = _contribution(reading, value, bounds.program)
            middle = first.setdefault(layer.name, _in_the_middle(graph, reading, added))
            if _border(graph, reading, added, middle) > ROUNDING * (1.0 + np.abs(added).max()):
                return False
    return True


def _border(graph: Graph, reading: _Reading, added: np.ndarray, middle: np.ndarray) -> float:
    """How far a constant per unit is from what was added."""
    axis = channel_axis(graph.layer_of(reading.node), added.ndim)
    rows = np.moveaxis(added, axis, 0)
    return float(np.abs(rows.reshape(len(rows), -1) - middle[:, None]).max())


def _with_biases(graph: Graph, groups: ChannelGroups, plan: Plan, bounds: Bounds) -> list[Layer]:
    """Consumers with the constants of the removed units in their biases; every call asks for the same, see `_folds`."""
    deltas: dict[str, np.ndarray] = {}
    for index, group in enumerate(groups.groups):
        dropped = np.flatnonzero(plan.dropped[group.name])
        if not len(dropped):
            continue
        for reading in _readings(groups, index, group, graph, bounds.program):
            name = reading.node.layer
            value = _values(reading, dropped, bounds)
            if reading.node is graph.calls[name][0] and value.any():
                added = _contribution(reading, value, bounds.program)
                deltas[name] = deltas.get(name, 0.0) + _in_the_middle(graph, reading, added)
    changed = []
    for name, delta in deltas.items():
        layer = graph.layers[name]
        key = layer_type(layer).bias or ""
        bias = layer.weights.get(key, np.float32(0.0)) + delta
        weights = {**layer.weights, key: bias.astype(np.float32)}
        changed.append(
            dataclasses.replace(layer, weights=weights, config={**layer.config, "use_bias": True})
        )
    return changed
