"""Normalisations that stand behind no kernel, folded into the layers that read them.

BatchNormalization behind a convolution melts into it. Behind an activation it becomes two operators of a file, a
product and a sum, which cost time and, in int8, two roundings.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_robust_prune.graph.graph import Graph, Node, Ref
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.surgery.rescaling import (
    Stretch,
    Units,
    on_refs,
    rescaled,
    stretches,
    takes_numbers,
    units_of,
)


def folded(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The same function with normalisations that stand behind no kernel folded into the layers that read them.

    Their factors move into the kernels behind them, through activations, pooling and padding that let numbers pass.
    Where nothing is padded in between and no activation stands there, what they add moves into biases, too, and nothing
    is left of them.

    Args:
        graph: the network.

    Returns:
        The network, itself if there is nothing to fold; and the nodes of normalisations that only add from now on.

    Example:
        >>> import tf_keras
        >>> from keras_robust_prune.keras_io.reading import read
        >>> layers = [tf_keras.layers.Dense(4, "relu"), tf_keras.layers.BatchNormalization()]
        >>> model = tf_keras.Sequential([tf_keras.Input((8,)), *layers, tf_keras.layers.Dense(2)])
        >>> graph = read(model)
        >>> small, passing = folded(graph)
        >>> len(graph.layers), len(small.layers), passing
        (4, 3, ())
    """
    passing: list[str] = []
    while parts := _foldable(graph, passing):
        split = split_activations(graph)
        units = units_of(split)
        factors: dict[Ref, np.ndarray] = {}
        stays: list[bool] = []
        for part in parts:
            (factor, _), moves = _affine(split, part.writers[0]), _movable(split, part)
            numbers = dict(zip(units[part.writers[0].ref].tolist(), 1 / moves, strict=True))
            factors |= on_refs(part, units, numbers)
            stays.append(bool((moves != factor).any()))
        graph = rescaled(graph, split, factors)
        for part, stay in zip(parts, stays, strict=True):
            (node,) = part.writers
            added = None if stay else _biases(split, part, units)
            if added is None:
                passing.append(node.name)
            else:
                graph = _without(_with_biases(graph, added), graph.node[node.name])
    return graph, tuple(passing)


def _foldable(graph: Graph, passing: Sequence[str]) -> list[Stretch]:
    """The stretches behind normalisations that can be folded now: those that read none of the others' first."""
    split = split_activations(graph)
    units = units_of(split)
    found = [
        part
        for part in stretches(split)
        if len(part.writers) == 1
        and part.writers[0].name not in passing
        and part.cap == math.inf
        and _stands_alone(split, part.writers[0])
        and takes_numbers(split, part, units)
        and len(set(units[part.writers[0].ref].tolist())) == len(units[part.writers[0].ref])
    ]
    behind = {ref for part in found for ref in part.refs}
    return [part for part in found if part.writers[0].inputs[0] not in behind]


def _affine(graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift of a normalisation, in float64."""
    layer = graph.layer_of(node)
    found = layer_type(layer).scale_and_shift(layer)
    assert found is not None
    factor, shift = (np.asarray(x, float) for x in found)
    return factor, shift


def _movable(graph: Graph, part: Stretch) -> np.ndarray:
    """What of the factors of a stretch's writer can move: not 0, and no sign through anything but changes of shape."""
    factor, _ = _affine(graph, part.writers[0])
    if not all(layer_type(graph.layer_of(node)).transparent for node in _inner(graph, part)):
        factor = np.abs(factor)
    return np.where(factor != 0, factor, 1.0)


def _inner(graph: Graph, part: Stretch) -> list[Node]:
    """What stands between the writer of a stretch and its readers."""
    refs = set(part.refs) - {part.writers[0].ref}
    return [node for node in graph.nodes if node.ref in refs]


def _stands_alone(graph: Graph, node: Node) -> bool:
    """Whether it is a normalisation with stored statistics that does not melt into a kernel before it."""
    layer = graph.layer_of(node)
    before = graph.layer_of(node.inputs[0]) if node.inputs else layer
    single = len(graph.consumers.get(node.inputs[0], ())) == 1 if node.inputs else False
    melts = bool(layer_type(before).kernels_of(before)) and single
    return layer_type(layer).statistics(layer) is not None and not melts


def _biases(graph: Graph, part: Stretch, units: Units) -> dict[str, np.ndarray] | None:
    """What the readers of a stretch get of what its writer adds; None if it is not one number each."""
    (node,) = part.writers
    if not all(layer_type(graph.layer_of(other)).translates for other in _inner(graph, part)):
        return None
    _, shift = _affine(graph, node)
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
