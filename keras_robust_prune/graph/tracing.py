"""Follow every unit through the network: which entries of which weights must go together.

Each tensor carries `Labels`: one axis and, for every index along it, the number of the element that lives there. Its
layer's type says how labels pass and which weight axes they index. Where two elements must share a fate (the two sides
of an Add, the filters of one group), they are united; where one cannot be removed, it is protected with a reason.
Nothing is decided while tracing: edges and reasons are collected, `surgery.groups` reads them off at the end.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

PRODUCES, CARRIES, CONSUMES = "produces", "carries", "consumes"
# Entries that a normalisation keeps for units that are gone: it sees zeros in their place.
NORMALISES = "normalises"


class Labels(NamedTuple):
    """Element numbers along one axis of a tensor.

    Attributes:
        axis: which axis, counted without the batch axis, >= 0.
        ids: element numbers, `(length of that axis,)`.
    """

    axis: int
    ids: np.ndarray


@dataclasses.dataclass
class Use:
    """One axis of one weight (or of a shape in the configuration) that labels index."""

    layer: str
    weight: str
    axis: int
    role: str
    ids: np.ndarray


@dataclasses.dataclass(frozen=True)
class Protection:
    """Elements that must stay, why (`code`), because of whom (`layer`), and in words."""

    ids: np.ndarray
    code: str
    layer: str
    reason: str


class Tracing:
    """What is collected while labels pass through a graph."""

    def __init__(self) -> None:
        self.count = 0
        self.uses: dict[tuple[str, str, int], Use] = {}
        self.edges: list[tuple[np.ndarray, np.ndarray]] = []
        self.protections: list[Protection] = []
        self.unsupported: dict[str, tuple[str, str, int]] = {}
        self._fresh: dict[tuple[str, str], np.ndarray] = {}

    def fresh(self, layer: str, length: int, tag: str = "units") -> np.ndarray:
        """New elements for the units of a layer; a shared layer gets the same ones at every call."""
        key = (layer, tag)
        if key not in self._fresh:
            self._fresh[key] = np.arange(self.count, self.count + length)
            self.count += length
        return self._fresh[key]

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Element by element, both must share a fate. Shapes broadcast."""
        first, second = np.broadcast_arrays(first, second)
        if first.size:
            self.edges.append((first.ravel(), second.ravel()))

    def protect(self, ids: np.ndarray, code: str, layer: str, reason: str) -> None:
        """These elements stay."""
        if np.size(ids):
            self.protections.append(Protection(np.ravel(ids), code, layer, reason))

    def stays(self, ids: np.ndarray) -> bool:
        """Whether all of these elements were protected before."""
        protected = [np.ravel(found.ids) for found in self.protections]
        return bool(np.isin(ids, np.concatenate(protected) if protected else []).all())

    def freeze(self, ids: np.ndarray, code: str, layer: str, reason: str) -> None:
        """What is now `protect`."""
        warnings.warn("Tracing.freeze is now Tracing.protect.", DeprecationWarning, stacklevel=2)
        self.protect(ids, code, layer, reason)

    def refuse(self, layer: str, code: str, reason: str, num_units: int) -> None:
        """A call of this layer lets no unit pass, so the layer stays whole at its other calls too."""
        self.unsupported.setdefault(layer, (code, reason, num_units))

    def use(self, layer: str, weight: str, axis: int, role: str, ids: np.ndarray) -> None:
        """Entry k along `axis` of `weight` belongs to element `ids[k]`."""
        key = (layer, weight, axis)
        known = self.uses.get(key)
        if known is None:
            self.uses[key] = Use(layer, weight, axis, role, np.asarray(ids))
        else:  # a shared layer: what meets at its weights shares a fate
            self.unite(known.ids, ids)

    def protect_layers(self, layers: Mapping[str, tuple[str, str]]) -> None:
        """All elements that index a weight of these layers stay; codes and reasons by layer."""
        for use in self.uses.values():
            if use.layer in layers:
                code, reason = layers[use.layer]
                self.protect(use.ids, code, use.layer, reason)

    def classes(self) -> np.ndarray:
        """For every element the smallest element that it shares its fate with, `(count,)`.

        Connected components by propagating minima along edges, with pointer jumping.
        """
        root = np.arange(self.count)
        if not self.edges:
            return root
        first = np.concatenate([a for a, _ in self.edges])
        second = np.concatenate([b for _, b in self.edges])
        while True:
            least = np.minimum(root[first], root[second])
            if np.array_equal(least, root[first]) and np.array_equal(least, root[second]):
                return root
            for ends in (root[first], root[second], first, second):
                np.minimum.at(root, ends, least)
            root = root[root]


def relabel(labels: Labels, before: Sequence[int], after: np.ndarray) -> Labels | None:
    """Labels after a move of a tensor's entries.

    Args:
        labels: of the tensor before the move.
        before: its shape without the batch axis.
        after: for every entry of the moved tensor the flat position it had before.

    Returns:
        The labels after it, or None if no single axis tells the elements apart.

    Example:
        >>> order = np.arange(6).reshape(3, 2).T
        >>> relabel(Labels(1, np.array([7, 8])), (3, 2), order)
        Labels(axis=0, ids=array([7, 8]))
    """
    full = _everywhere(labels, before, after)
    for axis in reversed(range(full.ndim)):
        lines = np.moveaxis(full, axis, -1).reshape(-1, full.shape[axis])
        if (lines == lines[0]).all():
            return Labels(axis, lines[0].copy())
    return None


def tie(labels: Labels, before: Sequence[int], after: np.ndarray, tracing: Tracing) -> Labels:
    """Labels after a move that spreads elements over several axes: what meets along one shares a fate.

    That one is the axis along which most elements lie.

    Args and the result are as of `relabel`.

    Example:
        Six channels as two groups of three: the first of either group go together.

        >>> tracing = Tracing()
        >>> tie(Labels(0, np.arange(6)), (6,), np.arange(6).reshape(2, 3), tracing)
        Labels(axis=1, ids=array([0, 1, 2]))
    """
    full = _everywhere(labels, before, after)
    lines = [np.moveaxis(full, k, -1).reshape(-1, full.shape[k]) for k in range(full.ndim)]
    axis = max(range(full.ndim), key=lambda k: (len(np.unique(lines[k][0])), k))
    tracing.unite(lines[axis][:1], np.unique(lines[axis], axis=0))
    return Labels(axis, lines[axis][0].copy())


def _everywhere(labels: Labels, before: Sequence[int], after: np.ndarray) -> np.ndarray:
    """The element at every entry of the moved tensor."""
    lengths = [1] * len(before)
    lengths[labels.axis] = -1
    return np.broadcast_to(labels.ids.reshape(lengths), before).ravel()[after]
