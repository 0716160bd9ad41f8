"""Which entries of which weights dropped units are, and a network in full shape that does not see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import MASK, Graph, Layer
from keras_robust_prune.graph.tracing import CONSUMES
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.surgery.groups import ChannelGroup, Slot


class Gone(NamedTuple):
    """Entries of dropped units along one axis of a weight.

    Attributes:
        entries: where they stand.
        goes: whether they are deleted; else they end up behind the others, as zeros that a normalisation sees.
    """

    entries: np.ndarray
    goes: bool

    def left(self, length: int) -> np.ndarray:
        """The entries of an axis of that length after a cut, in their new order.

        Example:
            >>> Gone(np.array([1]), False).left(4)
            array([0, 2, 3, 1])
        """
        kept = np.delete(np.arange(length), self.entries)
        return kept if self.goes else np.append(kept, np.sort(self.entries))


Axis = tuple[str, str, int]


def entries_gone(
    groups: Iterable[ChannelGroup], dropped: Mapping[str, np.ndarray]
) -> dict[Axis, Gone]:
    """The entries of dropped units, by layer, weight and axis.

    Args:
        groups: where units are dropped.
        dropped: per group a mask over its units, `(num_units,)` bool.
    """
    found: dict[Axis, Gone] = {}
    for group in groups:
        for slot in group.slots if dropped[group.name].any() else ():
            key = (slot.layer, slot.weight, slot.axis)
            entries = slot.positions[dropped[group.name]].ravel()
            before = found[key].entries if key in found else entries[:0]
            found[key] = Gone(np.append(before, entries), slot.goes)
    return found


def filled(layer: Layer, smaller: Layer, gone: Mapping[Axis, Gone]) -> Layer:
    """A layer in full shape with a smaller one's weights where they came from; those of dropped units as they were.

    Raises:
        ValueError: the smaller layer's weights have other shapes than the cut leaves.
    """
    weights = dict(layer.weights)
    factors = layer_type(layer).factors(layer, smaller)
    for name, value in layer.weights.items():
        if name == MASK:
            continue
        places = [
            gone[layer.name, name, axis].left(length)
            if (layer.name, name, axis) in gone
            else np.arange(length)
            for axis, length in enumerate(value.shape)
        ]
        if tuple(map(len, places)) != smaller.weights[name].shape:
            raise ValueError(
                f"'{name}' of '{layer.name}' has shape {smaller.weights[name].shape}, but the cut"
                f" leaves {tuple(map(len, places))}."
            )
        weights[name] = value.copy()
        found = smaller.weights[name]
        if name in factors:
            found = found / found.dtype.type(factors[name])
        weights[name][np.ix_(*places) if places else ()] = found
    return dataclasses.replace(layer, weights=weights)


class ConsumerWeights:
    """Copies of the weights that read units, to be edited; a normalisation begins with a mask of ones."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._changed: dict[tuple[str, str], np.ndarray] = {}

    def rows(self, slot: Slot) -> np.ndarray:
        """A weight with the axis that a slot indexes in front; what is written to it counts."""
        key = (slot.layer, slot.weight)
        if key not in self._changed:
            value = self.graph.layers[slot.layer].weights.get(slot.weight)
            if value is None:
                length = self.graph.shape(self.graph.calls[slot.layer][0].inputs[0])[-1]
                value = np.ones(length or 1, np.float32)
            self._changed[key] = value.copy()
        return np.moveaxis(self._changed[key], slot.axis, 0)

    def edited(self) -> Graph:
        """The graph with the copies."""
        return self.graph.with_weights(self._changed)


def blinded(
    graph: Graph, groups: Iterable[ChannelGroup], dropped: Mapping[str, np.ndarray]
) -> Graph:
    """The graph whose layers read 0 for every dropped unit; `dropped` as for `entries_gone`."""
    weights = ConsumerWeights(graph)
    for group in groups:
        for slot in group.having(CONSUMES) if dropped[group.name].any() else ():
            weights.rows(slot)[slot.positions[dropped[group.name]].ravel()] = 0
    return weights.edited()
