"""What a unit counts, and how little is lost when one takes over from another, judged by weights alone.

Units that read their inputs alike and are followed by small outgoing weights are merged cheaply.
All pairs are compared at once: squared distances are sums of Gram matrices, one per weight that the
units index. Disjoint pairs in ascending order are found lazily, without sorting all pairs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.layers.splitting import activation_argument
from keras_robust_prune.surgery.groups import ChannelGroup, Slot

# Up to this many numbers the Gram matrix is summed in float64: it cancels where units are alike.
NUMBERS_IN_DOUBLE = 1 << 22

BIASES = ("weight", "relative")


class Pair(NamedTuple):
    """A candidate: unit `drop` may go and leave its outgoing weights to unit `keep`.

    Attributes:
        drop: the unit that would go, counted in its group.
        keep: the unit that would stay; -1 where units are normalised together and none can take over.
        saliency: what that costs by weights alone, >= 0; lower is better.
    """

    drop: int
    keep: int
    saliency: float

    @property
    def into(self) -> int | None:
        """The unit that takes over, if any."""
        return self.keep if self.keep >= 0 else None


def unit_rows(graph: Graph, slot: Slot) -> np.ndarray:
    """What a slot's weight holds of each unit.

    Args:
        graph: the network.
        slot: one axis of one weight.

    Returns:
        Shape `(num_units, multiplicity * rest)`: the unit's entries along the axis, flattened. A
        view where the units lie in order, else a copy.
    """
    rows = np.moveaxis(graph.layers[slot.layer].weights[slot.weight], slot.axis, 0)
    num_units, multiplicity = slot.positions.shape
    whole = rows.shape[0] == num_units and multiplicity == 1
    if whole and np.array_equal(slot.positions[:, 0], np.arange(num_units)):
        # Transposed, reshaped and transposed back, so that a dense kernel stays a view.
        return np.moveaxis(rows, 0, -1).reshape(-1, num_units).T
    return rows[slot.positions.ravel()].reshape(num_units, -1)


def incoming(graph: Graph, group: ChannelGroup) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases by which a group's units are computed.

    Where a producer without activation is followed by BatchNormalization and nothing else, both are
    those of the two layers taken together. Other weights that the units pass on their way
    (depthwise kernels, slopes, normalisation after the activation) count as incoming weights.

    Args:
        graph: the network.
        group: the units.

    Returns:
        Weights, each `(num_units, fan_in)`, and biases, each `(num_units, entries)`.
    """
    weights: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    folded: set[str] = set()
    for producer in group.producers:
        normalization = _normalization_after(graph, graph.layers[producer])
        slots = [slot for slot in _with_weights(graph, group, "produces") if slot.layer == producer]
        named = layer_type(graph.layers[producer]).bias or "bias"
        kernels = [slot for slot in slots if slot.weight != named]
        bias = next((unit_rows(graph, slot) for slot in slots if slot.weight == named), None)
        width = len(kernels) and _width(graph, kernels[0])
        scale, shift = (
            (np.ones(0),) * 2 if normalization is None else scale_and_shift(normalization)
        )
        if normalization is None or len(scale) != width:
            weights += [unit_rows(graph, slot) for slot in kernels]
            biases += [] if bias is None else [bias]
            continue
        folded.add(normalization.name)
        positions = kernels[0].positions
        for slot in kernels:
            rows = unit_rows(graph, slot).reshape(*positions.shape, -1)
            weights.append((rows * scale[positions][..., None]).reshape(group.num_units, -1))
        biases.append((0.0 if bias is None else bias * scale[positions]) + shift[positions])
    return weights + _passed(graph, group, folded), biases


def incoming_arrays(graph: Graph, group: ChannelGroup) -> tuple[np.ndarray, ...]:
    """The arrays that `incoming` reads: while they are the same objects, so is what it returns."""
    slots = [*_with_weights(graph, group, "produces"), *_with_weights(graph, group, "carries")]
    return tuple(graph.layers[slot.layer].weights[slot.weight] for slot in slots)


def outgoing(graph: Graph, group: ChannelGroup) -> list[np.ndarray]:
    """The consumers' weights that read a group's units, each `(num_units, fan_out)`."""
    return [unit_rows(graph, slot) for slot in _with_weights(graph, group, "consumes")]


def pair_distances(graph: Graph, group: ChannelGroup, bias: str = "weight") -> np.ndarray:
    """How differently each two units of a group are computed.

    Args:
        graph: the network.
        group: the units.
        bias: `"weight"` takes a bias as the weight of a constant input 1, so that the distance is
            Euclidean; `"relative"` adds `|b_i - b_j| / (|b_i| + |b_j|)`, 0 where both are 0.

    Returns:
        Symmetric, `(num_units, num_units)`, >= 0, 0 on the diagonal.

    Raises:
        ValueError: `bias` is neither.

    Reference:
        `"relative"` is the form in the toolkit of
        [Meng et al., 2023](https://arxiv.org/abs/2204.00783), which divides by `|b_i + b_j|`: the
        same for biases of one sign, but without bound, even infinite, for others; there the term
        is 1 here. Beside weights of any scale it weighs too little or too much; on three of the
        four image networks of the paper's experiment `"weight"` keeps clearly more accuracy.
    """
    if bias not in BIASES:
        raise ValueError(f"bias is {bias!r}, but it is one of {', '.join(map(repr, BIASES))}.")
    weights, biases = incoming(graph, group)
    if bias == "weight":
        return _euclidean(weights + biases, group.num_units)
    distances = _euclidean(weights, group.num_units)
    apart: np.ndarray | float = 0.0
    size: np.ndarray | float = 0.0
    for column in (column for part in biases for column in part.T.astype(distances.dtype)):
        apart = apart + np.abs(column[:, None] - column[None, :])
        size = size + (np.abs(column)[:, None] + np.abs(column)[None, :])
    return distances + np.divide(apart, size, out=np.zeros_like(distances), where=size > 0)


def outgoing_norms(graph: Graph, group: ChannelGroup) -> np.ndarray:
    """Euclidean norm of each unit's outgoing weights over all consumers, `(num_units,)`."""
    return _row_norms(outgoing(graph, group), group.num_units)


def norm_saliency(graph: Graph, group: ChannelGroup) -> np.ndarray:
    """Norm of each unit's incoming weights times norm of its outgoing ones, `(num_units,)`.

    Lower is better to remove.
    """
    weights, _ = incoming(graph, group)
    return _row_norms(weights, group.num_units) * outgoing_norms(graph, group)


def lone_units(graph: Graph, group: ChannelGroup, alive: np.ndarray) -> Iterator[Pair]:
    """Units that go without another to take over, in ascending `norm_saliency`.

    Args:
        graph: the network.
        group: where the units are.
        alive: the units that take part, ascending.
    """
    saliency = norm_saliency(graph, group)[alive]
    for index in np.argsort(saliency, kind="stable"):
        yield Pair(int(alive[index]), -1, float(saliency[index]))


def disjoint_pairs(distances: np.ndarray, norms: np.ndarray, alive: np.ndarray) -> Iterator[Pair]:
    """Pairs of units in ascending saliency, no unit twice: the greedy walk over all pairs.

    Of two units the one with the smaller outgoing norm is dropped. A pair costs its distance times
    that norm; ties go to the smaller norm, then to the smaller distance, then to the smaller index.
    Only as much is computed as is asked for.

    Args:
        distances: symmetric, `(num_units, num_units)`.
        norms: outgoing norms, `(num_units,)`.
        alive: the units that take part, ascending.

    Yields:
        Pairs, until fewer than two units are left.

    Example:
        >>> distances = np.array([[0.0, 1.0, 4.0], [1.0, 0.0, 2.0], [4.0, 2.0, 0.0]])
        >>> list(disjoint_pairs(distances, np.array([3.0, 2.0, 1.0]), np.arange(3)))
        [Pair(drop=2, keep=1, saliency=2.0)]
    """
    if len(alive) < 2:
        return
    order = alive[np.argsort(norms[alive], kind="stable")]
    ranked = distances[np.ix_(order, order)]
    rank = np.arange(len(order))
    ranked[rank[:, None] >= rank] = np.inf
    partners = ranked[:-1].argmin(axis=1)
    costs = ranked[np.arange(len(partners)), partners] * norms[order[:-1]]
    queue = list(zip(costs.tolist(), range(len(partners)), partners.tolist(), strict=True))
    heapq.heapify(queue)
    taken = np.zeros(len(order))
    while queue:
        cost, drop, keep = heapq.heappop(queue)
        if taken[drop]:
            continue
        if taken[keep]:
            row = ranked[drop] + taken
            keep = int(row.argmin())
            if row[keep] < np.inf:
                heapq.heappush(queue, (float(row[keep] * norms[order[drop]]), drop, keep))
            continue
        taken[[drop, keep]] = np.inf
        yield Pair(int(order[drop]), int(order[keep]), cost)


def _with_weights(graph: Graph, group: ChannelGroup, role: str) -> list[Slot]:
    """Slots of a role that index weights and not a shape in a configuration."""
    return [slot for slot in group.having(role) if slot.weight in graph.layers[slot.layer].weights]


def _passed(graph: Graph, group: ChannelGroup, folded: set[str]) -> list[np.ndarray]:
    """What the units pass between producer and consumer, normalisations as scale and shift."""
    found = []
    for slot in _with_weights(graph, group, "carries"):
        layer = graph.layers[slot.layer]
        if slot.layer in folded:
            continue
        statistics = layer_type(layer).statistics(layer)
        if statistics is None:
            found.append(unit_rows(graph, slot))
        elif slot.weight == statistics.variance:
            found += [part[slot.positions] for part in scale_and_shift(layer)]
    return found


def _width(graph: Graph, slot: Slot) -> int:
    return graph.layers[slot.layer].weights[slot.weight].shape[slot.axis]


def _normalization_after(graph: Graph, layer: Layer) -> Layer | None:
    """The BatchNormalization that alone reads a linear layer called once, if there is one."""
    calls = graph.calls[layer.name]
    if activation_argument(layer) is not None or len(calls) != 1 or calls[0].ref in graph.outputs:
        return None
    consumers = graph.consumers.get(calls[0].ref, ())
    consumer = graph.layer_of(consumers[0]) if len(consumers) == 1 else None
    return consumer if consumer is not None and layer_type(consumer).statistics(consumer) else None


def scale_and_shift(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """What a normalisation with stored statistics multiplies by and adds, per channel."""
    found = layer_type(layer).scale_and_shift(layer)
    assert found is not None
    return found


def _row_norms(parts: list[np.ndarray], num_units: int) -> np.ndarray:
    squares = np.zeros(num_units)
    for part in parts:
        squares += np.einsum("ij,ij->i", part, part, dtype=np.float64)
    return np.sqrt(squares)


def _euclidean(parts: list[np.ndarray], num_units: int) -> np.ndarray:
    """Distances between the rows of all parts taken together."""
    double = sum(part.size for part in parts) <= NUMBERS_IN_DOUBLE
    squared = np.zeros((num_units, num_units), np.float64 if double else np.float32)
    for part in parts:
        rows = part.astype(squared.dtype, copy=False)
        squared += rows @ rows.T
    lengths = squared.diagonal().copy()
    squared *= -2.0
    squared += lengths[:, None] + lengths[None, :]
    np.maximum(squared, 0.0, out=squared)
    np.fill_diagonal(squared, 0.0)
    return np.sqrt(squared, out=squared)
