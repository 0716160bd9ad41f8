"""Units that are constant for every valid input: folded into the biases of what reads them, then removed.

A filter whose weights are all zero is no zero behind a bias, a BatchNormalization and an activation: it is a constant,
and so is a unit that never rises above its ReLU. Dropping such a unit as a 0 would change the outputs; here its
consumers' biases take it over first. Constancy is proven with interval bounds of every tensor. Where a consumer pads
('same', or ZeroPadding before it), it sees 0 and not the constant at the border: folding is inexact there, and by how
much is measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
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
from keras_robust_prune.surgery.groups import ChannelGroup, ChannelGroups, find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.verify.bounds import Bounds, interval_bounds

# An interval narrower than this share of its value is a constant; the rest is outward rounding.
ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Folding:
    """A network whose constant units have become biases.

    Attributes:
        graph: in full shape; consumers do not read the folded units any more.
        groups: of this graph, in which a layer may have got a bias.
        plan: removes the folded units: `cut(graph, groups, plan)` is the smaller network.
        inexact_border: by consumer, the largest |change| of its output before the activation, 0 where folding is exact.
        left: constant units by group that stay: folding would be inexact, or one has to stay.
    """

    graph: Graph
    groups: ChannelGroups
    plan: Plan
    inexact_border: Mapping[str, float]
    left: Mapping[str, int]

    def __str__(self) -> str:
        count = len(self.plan.removals)
        lines = [f"{count} constant units folded into biases of {len(self.inexact_border)} layers"]
        lines += [
            f"'{layer}' pads: at its border it changes by up to {border:.2g} before its activation"
            for layer, border in self.inexact_border.items()
            if border > 0
        ]
        lines += [
            f"{count} constant units of '{group}' stay: a border would change, or none would be left"
            for group, count in self.left.items()
        ]
        return "\n".join(lines)


class _Reading(NamedTuple):
    """One call that reads units of a group: what stands there, and which entries are whose."""

    node: Node
    place: int
    axis: int
    unit: np.ndarray


def constant_units(
    graph: Graph, groups: ChannelGroups, input_range: Any = None
) -> Mapping[str, np.ndarray]:
    """Which units have one value for every valid input, wherever they are read.

    Args:
        graph: the network.
        groups: its groups.
        input_range: the valid inputs; see `layers.asking.input_specs`.

    Returns:
        Per group `(num_units,)` bool. True is proven; False may only mean that the bounds are wide.

    Raises:
        LoweringError: a layer has no bounds.
    """
    bounds = interval_bounds(graph, *ends_of(input_specs(graph, input_range)))
    return {
        group.name: _constants(groups, index, group, graph, bounds)
        for index, group in enumerate(groups.groups)
    }


def fold_constants(
    graph: Graph,
    groups: ChannelGroups,
    input_range: Any = None,
    inexact: bool = False,
) -> Folding:
    """Make biases of all units that are constant for every valid input, and plan their removal.

    Args:
        graph: the network.
        groups: its groups.
        input_range: the valid inputs; see `layers.asking.input_specs`.
        inexact: whether units go that padding makes inexact at the border too.

    Returns:
        A `Folding`. With `inexact=False` its network computes what `graph` does on all valid inputs.

    Raises:
        LoweringError: a layer has no bounds.

    Example:
        >>> from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
        >>> x, a, b = Ref("x"), Ref("a"), Ref("b")
        >>> kernel = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
        >>> layers = [Layer("x", "InputLayer", {})]
        >>> layers += [Layer("a", "Dense", {}, {"kernel": kernel, "bias": np.array([0.0, 0.5])})]
        >>> layers += [Layer("b", "Dense", {}, {"kernel": np.array([[1.0], [4.0]])})]
        >>> nodes = (Node("x", "x", shapes=((2,),)), Node("a", "a", (x,), {}, (x,), ((2,),)))
        >>> nodes += (Node("b", "b", (a,), {}, (a,), ((1,),)),)
        >>> network = Graph({layer.name: layer for layer in layers}, nodes, (x,), (b,))
        >>> folding = fold_constants(network, find_groups(network))
        >>> folding.plan.removals, folding.graph.layers["b"].weights["bias"]
        ((Removal(group='a', drop=1, into=None),), array([2.], dtype=float32))
    """
    bounds = interval_bounds(graph, *ends_of(input_specs(graph, input_range)))
    removals: list[Removal] = []
    left: dict[str, int] = {}
    for index, group in enumerate(groups.groups):
        units = np.flatnonzero(_constants(groups, index, group, graph, bounds))
        readings = list(_readings(groups, index, group, graph, bounds.program))
        folds = [int(unit) for unit in units if _folds(int(unit), readings, graph, bounds, inexact)]
        folds = folds[len(folds) == group.num_units :]  # one unit has to stay
        removals += [Removal(group.name, unit) for unit in folds]
        if len(folds) < len(units):
            left[group.name] = len(units) - len(folds)
    plan = Plan(tuple(removals), dict(groups.widths))
    changed, border = _with_biases(graph, groups, plan, bounds)
    folded = mask(graph.with_layers(changed), groups, plan)
    return Folding(folded, find_groups(folded), plan, border, left)


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
        return fold_constants(graph, groups, input_range).graph
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


def _folds(
    unit: int, readings: list[_Reading], graph: Graph, bounds: Bounds, inexact: bool
) -> bool:
    """Whether the biases of all consumers can take a unit over."""
    first: dict[str, np.ndarray] = {}
    for reading in readings:
        layer = graph.layer_of(reading.node)
        value = _values(reading, np.array([unit]), bounds)
        if layer_type(layer).bias is None:
            if value.any():
                return False
        elif not inexact and (value.any() or len(graph.calls[layer.name]) > 1):
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


def _with_biases(
    graph: Graph, groups: ChannelGroups, plan: Plan, bounds: Bounds
) -> tuple[list[Layer], dict[str, float]]:
    """Consumers with the constants of the removed units in their biases, and how inexact each is."""
    added: dict[str, dict[str, np.ndarray]] = {}
    readings: dict[str, _Reading] = {}
    for index, group in enumerate(groups.groups):
        dropped = np.flatnonzero(plan.dropped[group.name])
        if not len(dropped):
            continue
        for reading in _readings(groups, index, group, graph, bounds.program):
            value = _values(reading, dropped, bounds)
            if value.any():
                part = _contribution(reading, value, bounds.program)
                calls = added.setdefault(reading.node.layer, {})
                calls[reading.node.name] = calls.get(reading.node.name, 0.0) + part
                readings[reading.node.name] = reading
    changed, border = [], {}
    for name, calls in added.items():
        layer = graph.layers[name]
        first = next(iter(calls))
        delta = _in_the_middle(graph, readings[first], calls[first])
        inexact = max(_border(graph, readings[call], part, delta) for call, part in calls.items())
        scale = max(float(np.abs(part).max()) for part in calls.values())
        border[name] = inexact if inexact > ROUNDING * (1.0 + scale) else 0.0
        key = layer_type(layer).bias or ""
        bias = layer.weights.get(key, np.float32(0.0)) + delta
        weights = {**layer.weights, key: bias.astype(np.float32)}
        config = {**layer.config, "use_bias": True}
        changed.append(dataclasses.replace(layer, weights=weights, config=config))
    return changed, border
