"""Normalisation over all units when some of them are gone: they are zeros in its statistics.

Mean and variance over n units stay those of n numbers. So a `Graph` lets a layer that normalises over units

- have a weight `MASK`, one number per unit, by which its input is multiplied (the network in full shape), and
- have weights longer than its input, behind which it then sees zeros (the smaller network).

Keras knows neither. `spelled_out` says both in layers of Keras's own (Rescaling; padding before and cropping after),
so that a delivered model needs nothing of this package; `recognised` reads the second back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import MASK, Graph, Layer, Node, Ref, Shape
from keras_robust_prune.layers.base import layer_type

# Keras pads the last axis of tensors with so many axes (without the batch axis); smaller ones are reshaped.
PADDED_RANKS = (3, 4)


def normalised_axes(layer: Layer, rank: int) -> tuple[int, ...]:
    """The `axis` of a configuration as indices >= 0 without the batch axis.

    Args:
        layer: whose configuration is read.
        rank: number of axes of its input, without the batch axis.
    """
    axis = layer.config.get("axis", -1)
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return tuple(rank + a if a < 0 else a - 1 for a in axes)


def num_zeros(graph: Graph, node: Node) -> int:
    """How many zeros a normalisation sees behind the units of its input."""
    layer = graph.layer_of(node)
    shape = graph.shape(node.inputs[0]) if node.inputs else ()
    weights = list(_plain_weights(layer).values())
    axes = normalised_axes(layer, len(shape))
    if not layer_type(layer).over_units or not weights or len(shape) - 1 not in axes:
        return 0
    return int(weights[0].shape[axes.index(len(shape) - 1)] - (shape[-1] or 0))


def entrance(graph: Graph, name: str) -> str:
    """The layer that reads a layer's input once the graph is spelled out."""
    node = graph.calls[name][0]
    if not num_zeros(graph, node):
        return name
    small = len(graph.shape(node.inputs[0])) < PADDED_RANKS[0]
    return f"{name}__{'spread' if small else 'padded'}"


class _Step(NamedTuple):
    """One layer beside a normalisation, and the shape behind it."""

    name: str
    kind: str
    config: Mapping[str, Any]
    shape: Shape


def spelled_out(graph: Graph) -> Graph:
    """The same function in layers that Keras has.

    Layers and nodes of the graph keep their names. `Rescaling` shows a layer zeros where its `MASK` is zero;
    padding and cropping stand around one that sees zeros behind its input.
    """
    layers, nodes = dict(graph.layers), []
    moved: dict[Ref, Ref] = {}
    for node in graph.nodes:
        layer, zeros = graph.layer_of(node), num_zeros(graph, node)
        known = node.reading(moved)
        if not zeros and MASK not in layer.weights:
            nodes.append(known)
            continue
        before, after = _around(layer, graph.shape(node.inputs[0]), zeros)
        chain = [_call(layer, node, step) for step in before]
        chain.append((_plain(layer, node, zeros), _shaped(known, before[-1].shape)))
        chain += [_call(layer, node, step) for step in after]
        read = known.inputs[0]
        for made, call in chain:
            layers[made.name] = made
            nodes.append(call.reading({call.inputs[0]: read}))
            read = call.ref
        moved[node.ref] = read
    return graph.rewired(layers, nodes, moved) if moved else graph


def without_masks(graph: Graph) -> Graph:
    """The graph whose layers see all units of their inputs."""
    return graph.with_layers(
        dataclasses.replace(layer, weights=_plain_weights(layer))
        for layer in graph.layers.values()
        if MASK in layer.weights
    )


def _plain_weights(layer: Layer) -> dict[str, np.ndarray]:
    return {name: value for name, value in layer.weights.items() if name != MASK}


def _around(layer: Layer, shape: Shape, zeros: int) -> tuple[list[_Step], list[_Step]]:
    """What stands before and behind a normalisation of tensors of a shape."""
    before: list[_Step] = []
    if MASK in layer.weights:
        scale = np.asarray(layer.weights[MASK], float).tolist()
        before.append(_Step("seen", "Rescaling", {"scale": scale, "offset": 0.0}, shape))
    if not zeros:
        return before, []
    missing = max(PADDED_RANKS[0] - len(shape), 0)
    inner = (1,) * missing + shape
    after: list[_Step] = []
    if missing:
        before.append(_Step("spread", "Reshape", {"target_shape": _open(inner)}, inner))
        after.append(_Step("gathered", "Reshape", {"target_shape": _open(shape)}, shape))
    wide = (*inner[:-1], (shape[-1] or 0) + zeros)
    padding, cropping = (_border(kind, len(inner), zeros) for kind in ("padding", "cropping"))
    padded = _Step("padded", f"ZeroPadding{len(inner) - 1}D", padding, wide)
    cropped = _Step("cropped", f"Cropping{len(inner) - 1}D", cropping, inner)
    return [*before, padded], [cropped, *after]


def _border(key: str, rank: int, zeros: int) -> dict[str, Any]:
    """Padding or cropping at the end of the last axis: Keras reaches it under the name of channels-first."""
    return {key: ((0, 0),) * (rank - 2) + ((0, zeros),), "data_format": "channels_first"}


def _open(shape: Shape) -> tuple[int, ...]:
    """A target shape that leaves the axis before the last to the size of the tensor."""
    return (*(length or -1 for length in (*shape[:-2], *[None] * (len(shape) > 1), shape[-1])),)


def _call(layer: Layer, node: Node, step: _Step) -> tuple[Layer, Node]:
    """One layer beside a normalisation and its call, in the normalisation's precision."""
    name = f"{layer.name}__{step.name}"
    config = {"name": name, **{k: v for k, v in layer.config.items() if k == "dtype"}}
    inputs = node.inputs[:1]
    call = Node(f"{node.name}__{step.name}", name, inputs, {}, inputs, (step.shape,))
    return Layer(name, step.kind, {**config, **step.config}), call


def _plain(layer: Layer, node: Node, zeros: int) -> Layer:
    """A normalisation without mask; with zeros, its axes are counted from the end, where reshaping leaves them."""
    config = {**layer.config, **(_axes_from_end(layer, len(node.shapes[0])) if zeros else {})}
    return dataclasses.replace(layer, config=config, weights=_plain_weights(layer))


def _axes_from_end(layer: Layer, rank: int) -> dict[str, Any]:
    axes = [axis - rank for axis in normalised_axes(layer, rank)]
    return {"axis": axes if len(axes) > 1 else axes[0]}


def _shaped(node: Node, shape: Shape) -> Node:
    return dataclasses.replace(node, shapes=(shape,))


def recognised(graph: Graph) -> Graph:
    """The inverse of `spelled_out` for zeros behind an input: padding, normalisation, cropping become one call."""
    found = {node.name: _surrounding(graph, node) for node in graph.nodes}
    partial = {graph.node[name].layer for name, around in found.items() if around is None}
    layers, nodes = dict(graph.layers), dict(graph.node)
    moved: dict[Ref, Ref] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        around = found[node.name]
        nodes[node.name] = node.reading(moved)
        if around is None or node.layer in partial:
            continue
        first, last = around[0], around[-1]
        nodes[node.name] = _shaped(
            node.reading({node.inputs[0]: nodes[first.name].inputs[0]}), last.shapes[0]
        )
        layer = graph.layer_of(node)
        axes = _axes_from_end(layer, len(node.shapes[0]))
        layers[layer.name] = dataclasses.replace(layer, config={**layer.config, **axes})
        moved[last.ref] = node.ref
        gone.update(call.name for call in around if call is not node)
    left = [call for name, call in nodes.items() if name not in gone]
    return graph.rewired(layers, left, moved) if moved else graph


def _surrounding(graph: Graph, node: Node) -> list[Node] | None:
    """The calls that `spelled_out` puts around a normalisation, itself among them; None if they are not there."""
    rank = len(node.shapes[0]) if node.shapes else 0
    if not layer_type(graph.layer_of(node)).over_units or rank not in PADDED_RANKS:
        return None
    around = [_before(graph, node), node, _behind(graph, node)]
    padded, _, cropped = around
    if padded is None or cropped is None:
        return None
    zeros = (node.shapes[0][-1] or 0) - (cropped.shapes[0][-1] or 0)
    for call, kind, key in ((padded, "ZeroPadding", "padding"), (cropped, "Cropping", "cropping")):
        layer = graph.layer_of(call)
        border = _border(key, rank, zeros)
        given = {name: _tuples(layer.config.get(name)) for name in border}
        if layer.kind != f"{kind}{rank - 1}D" or given != border:
            return None
    spread, gathered = _before(graph, padded), _behind(graph, cropped)
    ends = [call for call in (spread, gathered) if call and graph.layer_of(call).kind == "Reshape"]
    if len(ends) == 2 and spread and gathered:
        before, after = graph.shape(spread.inputs[0]), gathered.shapes[0]
        if before == after and len(after) < PADDED_RANKS[0]:
            return [spread, padded, node, cropped, gathered]
    return [padded, node, cropped]


def _before(graph: Graph, node: Node) -> Node | None:
    """The call of one tensor that is read by this call alone."""
    source = graph.node[node.inputs[0].node] if len(node.inputs) == 1 else None
    return source if source and len(source.inputs) == 1 and _behind(graph, source) else None


def _behind(graph: Graph, node: Node) -> Node | None:
    """The call that alone reads a call."""
    consumers = graph.consumers.get(node.ref, ())
    return consumers[0] if len(consumers) == 1 and node.ref not in graph.outputs else None


def _tuples(value: Any) -> Any:
    """Nested lists as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
