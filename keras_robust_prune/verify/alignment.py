"""A smaller network aligned with the one it was cut from: which units were kept, and its weights back in full shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.primitives.program import Program
from keras_robust_prune.surgery.dropping import blinded, entries_gone, filled
from keras_robust_prune.surgery.groups import ChannelGroup, find_groups


def aligned(dense: Graph, pruned: Graph, inputs: Sequence[np.ndarray]) -> Graph | None:
    """The pruned network in the dense one's shape, its missing units filled with zeros.

    Kept units stand in the same order in both. Which they are is found by comparing what they compute; a wrong guess
    would cost tightness of a certificate, never soundness, because the result computes what `pruned` computes.

    Args:
        dense: the network before.
        pruned: the network after, with the same layer names.
        inputs: some inputs `(batch, *shape)`, one array per input of the network.

    Returns:
        A graph with the layers of `dense`; None if the two do not correspond.
    """
    names = {name: set(layer.weights) for name, layer in dense.layers.items()}
    if names != {name: set(layer.weights) for name, layer in pruned.layers.items()}:
        return None
    if all(_same_shapes(dense.layers[name], pruned.layers[name]) for name in names):
        return dense.with_layers(pruned.layers.values())
    try:
        groups = find_groups(dense).groups
    except ValueError:
        return None
    programs = lower(dense), lower(pruned)
    values = [program.values(inputs) for program in programs]
    dropped = {}
    for group in groups:
        found = _dropped(group, dense, programs, values)
        if found is None:
            return None
        dropped[group.name] = found
    gone = entries_gone(groups, dropped)
    try:
        layers = [filled(layer, pruned.layers[name], gone) for name, layer in dense.layers.items()]
    except ValueError:
        return None
    full = blinded(dense.with_layers(layers), groups, dropped)
    return full if _agree(lower(full), programs[1], inputs) else None


def _same_shapes(one: Layer, two: Layer) -> bool:
    return all(one.weights[name].shape == two.weights[name].shape for name in one.weights)


def _dropped(
    group: ChannelGroup,
    dense: Graph,
    programs: tuple[Program, Program],
    values: Sequence[list[np.ndarray]],
) -> np.ndarray | None:
    """Which units of a group have no counterpart, `(units,)` bool, by what its first producer computes."""
    slot = next(slot for slot in group.having("produces") if dense.layers[slot.layer].weights)
    responses = []
    for program, found in zip(programs, values, strict=True):
        places = [
            place
            for place, item in enumerate(program.operations)
            if item.layer == slot.layer and item.primitive and item.primitive.is_linear
        ]
        if not places:
            return None
        responses.append(found[places[-1]].reshape(-1, found[places[-1]].shape[-1]))
    before, after = responses
    if len(before) != len(after) or slot.positions.max() >= before.shape[1]:
        return None
    if after.shape[1] > before.shape[1]:
        return None
    distance = (before**2).sum(axis=0)[:, None] + (after**2).sum(axis=0) - 2 * before.T @ after
    gone = ~in_order(distance)[slot.positions]
    return gone[:, 0] if (gone == gone[:, :1]).all() else None


def in_order(distance: np.ndarray) -> np.ndarray:
    """The rows that match all columns in order at the least total distance.

    Args:
        distance: `(rows, columns)` with at least as many rows as columns.

    Returns:
        `(rows,)` bool, as many True as there are columns.

    Example:
        >>> in_order(np.array([[5.0, 9.0], [0.0, 9.0], [7.0, 1.0]]))
        array([False,  True,  True])
    """
    rows, columns = distance.shape
    total = np.full(columns + 1, np.inf)
    total[0] = 0
    taken = np.zeros((rows, columns + 1), bool)
    for row in range(rows):
        matched = total[:-1] + distance[row]
        taken[row, 1:] = matched < total[1:]
        total[1:] = np.minimum(matched, total[1:])
    chosen, column = np.zeros(rows, bool), columns
    for row in range(rows - 1, -1, -1):
        if taken[row, column]:
            chosen[row], column = True, column - 1
    return chosen


def _agree(one: Program, two: Program, inputs: Sequence[np.ndarray]) -> bool:
    pairs = [
        (first[a], second[b])
        for first, second in [(one.values(inputs), two.values(inputs))]
        for a, b in zip(one.logits, two.logits, strict=True)
    ]
    return all(
        np.abs(a - b).max(initial=0) <= 1e-9 * (1 + np.abs(b).max(initial=0)) for a, b in pairs
    )
