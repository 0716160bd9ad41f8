"""Remove units: masked at what consumes them, merged into others, or physically cut away.

Weights are edited in full shape (`mask`, `merge`), and `cut` only deletes. So the cut network computes what the masked
one does, whatever was done to the weights before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from keras_robust_prune.graph.graph import MASK, Graph, Layer, Node, Ref, Shape
from keras_robust_prune.graph.tracing import CONSUMES
from keras_robust_prune.layers.base import Kept, layer_type
from keras_robust_prune.layers.calls import map_constants
from keras_robust_prune.surgery.dropping import Axis, ConsumerWeights, Gone, blinded, entries_gone
from keras_robust_prune.surgery.groups import ChannelGroups
from keras_robust_prune.surgery.plan import Plan, Removal


def mask(graph: Graph, groups: ChannelGroups, plan: Plan) -> Graph:
    """The network in full shape whose layers do not see the dropped units.

    Every entry of a consumer's weights that reads a dropped unit is zero, as if the unit were 0 at its input. A layer
    that normalises over units gets a mask.
    """
    return blinded(graph, groups.groups, plan.dropped)


def merge(graph: Graph, groups: ChannelGroups, removals: Iterable[Removal]) -> Graph:
    """The network in full shape in which outgoing weights moved from dropped units to others.

    Keep i, drop j: every consumer's slices become `v_i + v_j` and 0. Exact where both units always
    agree. In a coupled group each consumer does the same; a unit with several entries (after Flatten,
    say) moves them in order.

    Raises:
        ValueError: a unit that is normalised together with others is to be merged.

    Reference:
        Srinivas & Babu, 2015, for dense layers.
    """
    removals = tuple(removals)
    weights = ConsumerWeights(graph)
    for name in dict.fromkeys(removal.group for removal in removals):
        group, mine = groups.by_name[name], [item for item in removals if item.group == name]
        if not group.merges and any(removal.into is not None for removal in mine):
            raise ValueError(
                f"The units of '{name}' are normalised together, so none can take over from another. Remove them"
                " without merging: Removal(group, drop)."
            )
        for slot in group.having(CONSUMES):
            rows = weights.rows(slot)
            for _, drop, into in mine:
                gone = slot.positions[drop]
                if into is not None:
                    rows[slot.positions[into]] += rows[gone]
                rows[gone] = 0
    return weights.edited()


def cut(graph: Graph, groups: ChannelGroups, plan: Plan) -> Graph:
    """The smaller network: every entry that belongs to a dropped unit is deleted.

    The entries of a layer that normalises over units stay behind the others: it sees zeros there (`padding`).

    Args:
        graph: in full shape, with whatever edits of the weights.
        groups: found on the dense network.
        plan: what goes.

    Returns:
        A graph with fewer units, which computes what `mask(graph, groups, plan)` does.
    """
    gone = entries_gone(groups.groups, plan.dropped)
    layers = [_cut_layer(graph, graph.layers[name], gone) for name in {key[0] for key in gone}]
    smaller = graph.with_layers(layers)
    nodes = []
    for node in graph.nodes:
        call = _cut_call(graph, node, _shapes(node, groups, plan), gone)
        kept = [entries_left(ref, groups, plan) for ref in node.inputs]
        if not all(part.stay.all() for part in kept):
            layer = smaller.layers[node.layer]
            args, kwargs, config = layer_type(layer).renumber(
                graph, dataclasses.replace(node, args=call.args, kwargs=call.kwargs), kept
            )
            call = dataclasses.replace(call, args=args, kwargs=kwargs)
            changed = dataclasses.replace(layer, config={**layer.config, **config})
            smaller = smaller.with_layers([changed] if config else [])
        nodes.append(call)
    return dataclasses.replace(smaller, nodes=tuple(nodes))


def _cut_layer(graph: Graph, layer: Layer, gone: Mapping[Axis, Gone]) -> Layer:
    """The layer with shorter weights and a configuration that fits them."""
    weights = dict(layer.weights)
    lengths: dict[tuple[str, int], int] = {}
    for (name, weight, axis), part in gone.items():
        if name == layer.name and weight == "shape":
            before = graph.calls[name][0].shapes[0][axis] or 0
            lengths[weight, axis] = before - len(part.entries)
        elif name == layer.name and weight in weights:
            value = weights[weight]
            weights[weight] = np.take(value, part.left(value.shape[axis]), axis)
    if MASK in weights and weights[MASK].all():
        del weights[MASK]
    for weight, value in weights.items():
        lengths.update({(weight, axis): length for axis, length in enumerate(value.shape)})
    config = {**layer.config, **layer_type(layer).resize(layer, lengths)}
    smaller = dataclasses.replace(layer, config=config, weights=weights)
    for name, factor in layer_type(layer).factors(layer, smaller).items():
        weights[name] = weights[name] * weights[name].dtype.type(factor)
    return smaller


def _cut_call(
    graph: Graph, node: Node, shapes: tuple[Shape, ...], gone: Mapping[Axis, Gone]
) -> Node:
    """The call with shorter constants among its arguments and the shapes of its outputs after the cut."""
    args, kwargs = node.args, node.kwargs
    if shapes != node.shapes:
        args, kwargs = layer_type(graph.layer_of(node)).resize_call(graph, node, shapes)
    cuts = {
        (weight, axis): part.entries
        for (layer, weight, axis), part in gone.items()
        if layer == node.layer and weight.startswith("constant ")
    }

    def shorten(number: int, value: np.ndarray) -> np.ndarray:
        for axis in range(value.ndim):
            value = np.delete(value, cuts.get((f"constant {number}", axis), []), axis)
        return value

    if cuts:
        args, kwargs = map_constants(shorten, (args, dict(kwargs)))
    return dataclasses.replace(node, args=args, kwargs=kwargs, shapes=shapes)


def entries_left(ref: Ref, groups: ChannelGroups, plan: Plan) -> Kept:
    """Which entries of a tensor stay along the axis that units lie on, counted without the batch."""
    where = groups.where[ref]
    stay = np.ones(len(where.group), bool)
    for number in np.unique(where.group[where.group >= 0]):
        mine = where.group == number
        stay[mine] = ~plan.dropped[groups.groups[number].name][where.unit[mine]]
    return Kept(where.axis, stay)


def _shapes(node: Node, groups: ChannelGroups, plan: Plan) -> tuple[Shape, ...]:
    """The shapes of a node's outputs after the cut."""
    shapes = []
    for index, shape in enumerate(node.shapes):
        axis, stay = entries_left(Ref(node.name, index), groups, plan)
        lengths = list(shape)
        if not stay.all():
            lengths[axis] = (lengths[axis] or 0) - int((~stay).sum())
        shapes.append(tuple(lengths))
    return tuple(shapes)
