"""What merging or removing units can do to the outputs, over a whole range of inputs.

A candidate drops unit j in favour of unit i (or of nothing). Its consumers then see h_i, or 0, where h_j was: a
deviation that is bounded in its relational form and pushed through the rest of the network as a *deviation*. It passes
a linear layer without the bias, a ReLU as what is left of it between active and inactive, and so on, each primitive by
its own rule. All candidates of a batch pass together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from keras_robust_prune.primitives.base import Rounding
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.linear import mixing
from keras_robust_prune.primitives.program import Program
from keras_robust_prune.surgery.groups import ChannelGroup
from keras_robust_prune.verify.bounds import Bounds, joined
from keras_robust_prune.verify.relational import Pairs

BUDGET = 2**27
"""Numbers held at once; a batch that needs more is passed in parts."""


def output_deviation(
    program: Program,
    group: ChannelGroup,
    drops: Sequence[int],
    keeps: Sequence[int],
    bounds: Bounds,
) -> Interval:
    """Sound intervals of changed minus original logits, one row per candidate.

    Args:
        program: the network.
        group: where the units are.
        drops: unit that each candidate drops, `(candidates,)`.
        keeps: unit that it is merged into, which takes over its outgoing weights; -1 for plain removal.
        bounds: interval bounds of the network over one box, the range of inputs.

    Returns:
        `(candidates, outputs)`, on the logits (before a closing softmax or sigmoid).

    Raises:
        ValueError: `bounds` holds several boxes, or `drops` and `keeps` differ in length.
    """
    dropped, kept = np.asarray(drops, np.intp), np.asarray(keeps, np.intp)
    if dropped.shape != kept.shape or dropped.ndim != 1:
        raise ValueError(
            f"drops has shape {dropped.shape} and keeps {kept.shape}; give one entry per candidate."
        )
    if len(bounds.values[0].lower) != 1:
        raise ValueError("Deviations are computed over one box; call interval_bounds with one.")
    consumers = consuming_operations(program, group)
    rows = max(1, BUDGET // _numbers_per_candidate(program, consumers))
    parts = [
        _pushed(program, consumers, dropped[k : k + rows], kept[k : k + rows], bounds)
        for k in range(0, len(dropped), rows)
    ]
    if not parts:
        empty = np.zeros((0, program.num_logits), program.dtype)
        return Interval(empty, empty)
    return Interval(
        np.concatenate([part.lower for part in parts]),
        np.concatenate([part.upper for part in parts]),
    )


def consuming_operations(program: Program, group: ChannelGroup) -> dict[int, np.ndarray]:
    """The operations that mix a group's units, and which numbers of their input belong to each unit.

    Returns:
        By place, elements of the flattened input, `(units, elements)`.

    Raises:
        ValueError: a consumer is not in the program.
    """
    found: dict[int, np.ndarray] = {}
    for slot in group.having("consumes"):
        nodes = {item.node for item in program.operations if item.layer == slot.layer}
        for node in nodes:
            places = [
                place
                for place, item in enumerate(program.operations)
                if item.node == node and mixing(item.primitive)
            ]
            if not places:
                raise ValueError(
                    f"'{slot.layer}' reads the units of '{group.name}' but has no matrix in the program. "
                    "Lower the graph in which the group was found."
                )
            primitive = mixing(program.operations[places[-1]].primitive)
            assert primitive is not None
            channels = primitive.in_shape[-1]
            lead = np.arange(int(np.prod(primitive.in_shape[:-1]))) * channels
            elements = lead[None, :, None] + slot.positions[:, None, :]
            found[places[-1]] = elements.reshape(len(slot.positions), -1)
    return dict(sorted(found.items()))


def _numbers_per_candidate(program: Program, consumers: dict[int, np.ndarray]) -> int:
    first = min(consumers)
    largest = max(int(np.prod(item.shape)) for item in program.operations[first:])
    need = 12 * largest
    for place, elements in consumers.items():
        primitive = mixing(program.operations[place].primitive)
        assert primitive is not None
        need = max(need, 2 * elements.shape[1] * primitive.out_shape[-1] + 3 * elements.shape[1])
        source = program.operations[place].inputs[0]
        before = program.operations[: source + 1]
        fan_in = max(item.primitive.fan_in if item.primitive else 1 for item in before)
        need = max(need, 4 * fan_in)
    return need


def _pushed(
    program: Program,
    consumers: dict[int, np.ndarray],
    dropped: np.ndarray,
    kept: np.ndarray,
    bounds: Bounds,
) -> Interval:
    """The deviation of every candidate, from the first consumer to the logits."""
    rounding, pairs = Rounding(program.dtype), Pairs(bounds)
    last_use = {k: place for place, item in enumerate(program.operations) for k in item.inputs}
    last_use.update({place: len(program.operations) for place in program.logits})
    found: dict[int, Interval] = {}
    for place in range(min(consumers), max(program.logits) + 1):
        operation = program.operations[place]
        deviations = [found.get(k) for k in operation.inputs]
        if place in consumers:
            found[place] = _read(
                program, place, consumers[place], dropped, kept, deviations[0], pairs
            )
        elif operation.primitive is not None and any(d is not None for d in deviations):
            inputs = [bounds.values[k] for k in operation.inputs]
            found[place] = operation.primitive.deviation(deviations, inputs, rounding)
        for k in operation.inputs:
            if last_use[k] == place:
                found.pop(k, None)
    return joined(list(_logits(program, found, len(dropped))))


def _logits(program: Program, found: dict[int, Interval], count: int) -> Iterator[Interval]:
    for place in program.logits:
        if place in found:
            yield found[place]
        else:
            zero = np.zeros((count, *program.operations[place].shape), program.dtype)
            yield Interval(zero, zero)


def _read(
    program: Program,
    place: int,
    elements: np.ndarray,
    dropped: np.ndarray,
    kept: np.ndarray,
    upstream: Interval | None,
    pairs: Pairs,
) -> Interval:
    """Deviation of what a consumer computes, when it reads the kept unit, or 0, in place of the dropped one."""
    operation = program.operations[place]
    primitive, source = mixing(operation.primitive), operation.inputs[0]
    assert primitive is not None
    first, merged = elements[dropped], kept >= 0
    d = -pairs.at(source, first)
    if merged.any():
        related = pairs.difference(source, first[merged], elements[kept[merged]])
        d = _with_rows(d, merged, related)
    if upstream is None:
        return primitive.sparse_deviation(d, first, pairs.rounding)
    flat = upstream.reshape(len(upstream.lower), -1)
    if merged.any():
        rows = np.flatnonzero(merged)[:, None]
        followed = flat[rows, elements[kept[merged]]]
        total = (d[merged] + followed).widen(
            pairs.rounding.error(d.magnitude[merged] + followed.magnitude, 1)
        )
        d = _with_rows(d, merged, total)
    lower, upper = np.array(flat.lower), np.array(flat.upper)
    np.put_along_axis(lower, first, d.lower, axis=1)
    np.put_along_axis(upper, first, d.upper, axis=1)
    whole = Interval(lower, upper).reshape(-1, *primitive.in_shape)
    return primitive.deviation([whole], [], pairs.rounding)


def _with_rows(d: Interval, where: np.ndarray, rows: Interval) -> Interval:
    lower, upper = np.array(d.lower), np.array(d.upper)
    lower[where], upper[where] = rows.lower, rows.upper
    return Interval(lower, upper)
