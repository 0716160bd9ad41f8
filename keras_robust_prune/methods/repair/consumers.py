"""Consumers: layers that mix units linearly and can be solved anew.

What a layer's matrix is its type says (`layers.linear`): one row for every input (of a convolution: every tap of every
channel), and a last row for the constant.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune import memory
from keras_robust_prune.graph.graph import Graph, Layer, Ref
from keras_robust_prune.graph.tracing import CONSUMES
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.layers.linear import LinearView
from keras_robust_prune.primitives.gaussian import Gaussian
from keras_robust_prune.surgery.groups import ChannelGroup


def most_rows() -> int:
    """Consumers with more rows stay as they are: second moments take 8 bytes of every pair of rows.

    Example:
        >>> most_rows()
        10000
    """
    return int(math.sqrt(memory.most(memory.PAIRS) / 8))


def why_too_wide(width: int) -> str:
    """Why a layer with so many rows is not solved anew, to follow what reads."""
    return (
        f"in {width:,} rows, more than the {most_rows():,} up to which a layer can be solved anew"
    )


def view_of(layer: Layer) -> LinearView | None:
    """A layer as rows times a matrix, or None: then removal is all that is done to it."""
    return layer_type(layer).linear(layer)


def _view(layer: Layer) -> LinearView:
    view = view_of(layer)
    if view is None:
        raise ValueError(
            f"'{layer.name}' ({layer.kind}) has no linear view that could be solved anew."
        )
    return view


def solvable(graph: Graph, groups: Sequence[ChannelGroup]) -> tuple[str, ...]:
    """Layers that read units of the given groups and can be re-solved, in the order of the graph."""
    consuming = {name for group in groups for name in group.consumers}
    found = [node.layer for node in graph.nodes if node.layer in consuming]
    return tuple(
        name
        for name in dict.fromkeys(found)
        if view_of(graph.layers[name]) and num_rows(graph.layers[name]) <= most_rows()
    )


def sizes(graph: Graph, groups: Sequence[ChannelGroup]) -> tuple[tuple[int, int], ...]:
    """Of each of these layers how many rows and targets its matrix has, the constant among the rows."""
    shapes = [matrix(graph, name).shape for name in solvable(graph, groups)]
    return tuple((int(rows), int(targets)) for rows, targets in shapes)


def too_wide(graph: Graph, groups: Sequence[ChannelGroup]) -> dict[str, int]:
    """Layers that read units of the given groups in more rows than can be solved anew, and how many those are."""
    names = dict.fromkeys(name for group in groups for name in group.consumers)
    widths = {name: num_rows(graph.layers[name]) for name in names}
    return {name: width for name, width in widths.items() if width > most_rows()}


def num_rows(layer: Layer) -> int:
    """How many rows a layer's matrix has, the constant aside; 0 if it is not such a layer."""
    view = view_of(layer)
    if view is None:
        return 0
    kernel = layer.weights[view.kernel]
    return int(kernel.size // kernel.shape[view.unit_axis])


def unit_rows(group: ChannelGroup, layer: Layer) -> np.ndarray:
    """Rows of a consumer's weight matrix that belong to each unit, `(num_units, rows_per_unit)`.

    Example:
        A unit before a 3x3 convolution owns 9 rows, one per tap.
    """
    view = _view(layer)
    (slot,) = [
        s for s in group.having(CONSUMES) if (s.layer, s.weight) == (layer.name, view.kernel)
    ]
    return view.rows_of_units(layer, slot.axis, slot.positions)


def rows_of(layer: Layer, tensor: Any) -> Any:
    """A consumer's input as rows, `(positions, num_rows)`, in the order of its kernel's entries."""
    return _view(layer).rows(tensor)


def moments_of_rows(layer: Layer, inner: Gaussian) -> Gaussian | None:
    """Estimated moments of a consumer's rows from those of its input; None if they are not known."""
    return _view(layer).moments_of_rows(layer, inner)


def matrix(graph: Graph, name: str) -> np.ndarray:
    """A consumer's weights, `(num_rows + 1, num_targets)` float64; the last row is its constant."""
    layer = graph.layers[name]
    return _view(layer).matrix(layer)


def with_matrix(graph: Graph, name: str, values: np.ndarray) -> Graph:
    """The graph with a consumer's weights replaced; the inverse of `matrix`.

    A constant that the layer has no bias for moves into the mean of the BatchNorm behind it.
    """
    layer = graph.layers[name]
    view = _view(layer)
    changed = {(name, key): value for key, value in view.weights(layer, values).items()}
    if view.bias not in layer.weights and (norm := norm_behind(graph, name)) is not None:
        statistics = layer_type(norm).statistics(norm)
        assert statistics is not None
        mean = statistics.mean
        moved = norm.weights[mean] - values[-1]
        changed[norm.name, mean] = moved.astype("float32")
    return graph.with_weights(changed)


def norm_behind(graph: Graph, name: str) -> Layer | None:
    """The normalisation with stored statistics that alone reads a layer called once, and that reads nothing else."""
    if len(graph.calls[name]) != 1:
        return None
    behind = graph.consumers.get(graph.calls[name][0].ref, ())
    if len(behind) != 1 or graph.calls[name][0].ref in graph.outputs:
        return None
    layer = graph.layer_of(behind[0])
    single = len(graph.calls[layer.name]) == 1 and layer_type(layer).statistics(layer)
    return layer if single else None


def takes_constant(graph: Graph, name: str) -> bool:
    """Whether a constant can be added to what a consumer computes."""
    layer = graph.layers[name]
    return _view(layer).bias in layer.weights or norm_behind(graph, name) is not None


@dataclasses.dataclass(frozen=True, eq=False)
class Branch:
    """What a consumer's outputs are added to, and by what the BatchNorm between multiplies them."""

    others: tuple[Ref, ...]
    scale: np.ndarray | float


def branch_of(graph: Graph, name: str) -> Branch | None:
    """The other terms of an Add that a consumer feeds, directly or through a BatchNorm.

    The consumer's target then includes what the other terms lost, so that the *sum* comes closest to
    the dense one.
    """
    if len(graph.calls[name]) != 1:
        return None
    ref = graph.calls[name][0].ref
    scale: np.ndarray | float = 1.0
    norm = norm_behind(graph, name)
    if norm is not None:
        affine = layer_type(norm).scale_and_shift(norm)
        assert affine is not None
        factor = affine[0]
        scale = np.where(abs(factor) < 1e-3, np.inf, factor)
        ref = graph.calls[norm.name][0].ref
    behind = graph.consumers.get(ref, ())
    if len(behind) != 1 or not layer_type(graph.layer_of(behind[0])).sums:
        return None
    others = tuple(other for other in behind[0].inputs if other != ref)
    same = all(graph.shape(other) == graph.shape(ref) for other in others)
    return Branch(others, scale) if others and same else None
