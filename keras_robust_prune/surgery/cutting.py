"""Remove units: masked at what consumes them, merged into others, or physically cut away.

Weights are edited in full shape (`mask`, `merge`), and `cut` only deletes. So the cut network computes what the masked
one does, whatever was done to the weights before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from keras_robust_prune.network.graph import Graph, Layer, Node, Ref, Shape
from keras_robust_prune.network.rules import rule_for
from keras_robust_prune.network.rules.calls import map_constants
from keras_robust_prune.network.sites import Sites
from keras_robust_prune.network.tracing import CONSUMES
from keras_robust_prune.surgery.plan import Plan, Removal


def mask(graph: Graph, sites: Sites, plan: Plan) -> Graph:
    """The network in full shape whose layers do not see the dropped units.

    Every entry of a consumer's weights that reads a dropped unit is zero, as if the unit were 0 at its input.
    """
    changed: dict[tuple[str, str], np.ndarray] = {}
    for site in sites.sites:
        dropped = plan.dropped[site.name]
        if not dropped.any():
            continue
        for slot in site.having(CONSUMES):
            key = (slot.layer, slot.weight)
            if key not in changed:
                changed[key] = graph.layers[slot.layer].weights[slot.weight].copy()
            np.moveaxis(changed[key], slot.axis, 0)[slot.positions[dropped].ravel()] = 0
    return graph.with_weights(changed)


def merge(graph: Graph, sites: Sites, removals: Iterable[Removal]) -> Graph:
    """The network in full shape in which outgoing weights moved from dropped units to others.

    Keep i, drop j: every consumer's slices become `v_i + v_j` and 0. Exact where both units always
    agree. In a coupled Site each consumer does the same; a unit with several entries (after Flatten,
    say) moves them in order.

    Reference:
        Srinivas & Babu, 2015, for dense layers.
    """
    removals = tuple(removals)
    changed: dict[tuple[str, str], np.ndarray] = {}
    for name in dict.fromkeys(removal.site for removal in removals):
        mine = [removal for removal in removals if removal.site == name]
        for slot in sites.by_name[name].having(CONSUMES):
            key = (slot.layer, slot.weight)
            if key not in changed:
                changed[key] = graph.layers[slot.layer].weights[slot.weight].copy()
            rows = np.moveaxis(changed[key], slot.axis, 0)
            for _, drop, into in mine:
                gone = slot.positions[drop]
                if into is not None:
                    rows[slot.positions[into]] += rows[gone]
                rows[gone] = 0
    return graph.with_weights(changed)


def cut(graph: Graph, sites: Sites, plan: Plan) -> Graph:
    """The smaller network: every entry that belongs to a dropped unit is deleted.

    Args:
        graph: in full shape, with whatever edits of the weights.
        sites: found on the dense network.
        plan: what goes.

    Returns:
        A graph with fewer units, which computes what `mask(graph, sites, plan)` does.
    """
    gone: dict[tuple[str, str, int], list[np.ndarray]] = {}
    for site in sites.sites:
        dropped = plan.dropped[site.name]
        for slot in site.slots:
            if dropped.any():
                key = (slot.layer, slot.weight, slot.axis)
                gone.setdefault(key, []).append(slot.positions[dropped].ravel())
    removed = {key: np.concatenate(parts) for key, parts in gone.items()}
    layers = [
        _cut_layer(graph, graph.layers[name], removed) for name in {key[0] for key in removed}
    ]
    nodes = tuple(
        _cut_call(graph, node, _shapes(node, sites, plan), removed) for node in graph.nodes
    )
    return dataclasses.replace(graph.with_layers(layers), nodes=nodes)


def _cut_layer(
    graph: Graph, layer: Layer, removed: Mapping[tuple[str, str, int], np.ndarray]
) -> Layer:
    """The layer with shorter weights and a configuration that fits them."""
    weights = dict(layer.weights)
    lengths: dict[tuple[str, int], int] = {}
    for (name, weight, axis), entries in removed.items():
        if name == layer.name and weight == "shape":
            before = graph.calls[name][0].shapes[0][axis] or 0
            lengths[weight, axis] = before - len(entries)
        elif name == layer.name and weight in weights:
            weights[weight] = np.delete(weights[weight], entries, axis)
    for weight, value in weights.items():
        lengths.update({(weight, axis): length for axis, length in enumerate(value.shape)})
    config = {**layer.config, **rule_for(layer).resize(layer, lengths)}
    return dataclasses.replace(layer, config=config, weights=weights)


def _cut_call(
    graph: Graph,
    node: Node,
    shapes: tuple[Shape, ...],
    removed: Mapping[tuple[str, str, int], np.ndarray],
) -> Node:
    """The call with shorter constants among its arguments and the shapes of its outputs after the cut."""
    args, kwargs = node.args, node.kwargs
    if shapes != node.shapes:
        args, kwargs = rule_for(graph.layer_of(node)).resize_call(graph, node, shapes)
    cuts = {
        (weight, axis): entries
        for (layer, weight, axis), entries in removed.items()
        if layer == node.layer and weight.startswith("constant ")
    }

    def shorten(number: int, value: np.ndarray) -> np.ndarray:
        for axis in range(value.ndim):
            value = np.delete(value, cuts.get((f"constant {number}", axis), []), axis)
        return value

    if cuts:
        args, kwargs = map_constants(shorten, (args, dict(kwargs)))
    return dataclasses.replace(node, args=args, kwargs=kwargs, shapes=shapes)


def _shapes(node: Node, sites: Sites, plan: Plan) -> tuple[Shape, ...]:
    """The shapes of a node's outputs after the cut."""
    shapes = []
    for index, shape in enumerate(node.shapes):
        where = sites.where[Ref(node.name, index)]
        gone = 0
        for number in np.unique(where.site[where.site >= 0]):
            dropped = plan.dropped[sites.sites[number].name]
            gone += int(dropped[where.unit[where.site == number]].sum())
        lengths = list(shape)
        if gone:
            lengths[where.axis] = (lengths[where.axis] or 0) - gone
        shapes.append(tuple(lengths))
    return tuple(shapes)
