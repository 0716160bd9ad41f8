"""Remove units: masked at what consumes them, merged into others, or physically cut away.

Weights are edited in full shape (`mask`, `merge`), and `cut` only deletes. So the cut network computes what the masked
one does, whatever was done to the weights before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from keras_robust_prune.network.graph import Graph, Layer, Node, Ref
from keras_robust_prune.network.rules import rule_for
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
            key = (slot.layer, slot.weight, slot.axis)
            gone.setdefault(key, []).append(slot.positions[dropped].ravel())
    removed = {key: np.concatenate(parts) for key, parts in gone.items()}
    layers = [
        _cut_layer(graph, graph.layers[name], removed) for name in {key[0] for key in removed}
    ]
    nodes = tuple(_cut_shapes(node, sites, plan) for node in graph.nodes)
    return dataclasses.replace(graph.with_layers(layers), nodes=nodes)


def _cut_layer(
    graph: Graph, layer: Layer, removed: Mapping[tuple[str, str, int], np.ndarray]
) -> Layer:
    weights = dict(layer.weights)
    lengths: dict[tuple[str, int], int] = {}
    for (name, weight, axis), entries in removed.items():
        if name != layer.name:
            continue
        if weight == "shape":
            before = graph.calls[name][0].shapes[0][axis] or 0
            lengths[weight, axis] = before - len(entries)
            continue
        weights[weight] = np.delete(weights[weight], entries, axis)
        lengths[weight, axis] = weights[weight].shape[axis]
    for weight, value in weights.items():
        for axis, length in enumerate(value.shape):
            lengths.setdefault((weight, axis), length)
    config = {**layer.config, **rule_for(layer).resize(layer, lengths)}
    return dataclasses.replace(layer, config=config, weights=weights)


def _cut_shapes(node: Node, sites: Sites, plan: Plan) -> Node:
    """The node with the shapes of its outputs after the cut."""
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
    return dataclasses.replace(node, shapes=tuple(shapes))
