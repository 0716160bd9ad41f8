"""Two networks of the same shape as one program, bounded together.

A pruned network differs little from the dense one. Subtracting the bounds of both forgets that they see the same input
and that most of their neurons move together. Here both are passed backward at once: what cancels, cancels before the
box is asked. At a pair of activations three ways to bound p y' + q y (y' pruned, y dense) compete, coefficient by
coefficient: each by its own lines; the difference y' - y by lines in z' - z, with the rest on y; the same with the rest
on y'. The one with the smallest gap is taken. Any choice is sound.

The relation between two networks goes back to ReluDiff, [Paulsen et al., 2020](https://arxiv.org/abs/2001.03662); the
choice among relaxations in a backward pass is ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from keras_robust_prune.primitives.base import Region, Relaxation, offset
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.program import Operation, Program
from keras_robust_prune.verify.cropping import part_of
from keras_robust_prune.verify.crown import Backward, Coefficients, narrowed


def together(dense: Program, pruned: Program) -> tuple[Program, dict[int, int]]:
    """One program of two with the same operations, and the dense place that each pruned one is paired with.

    Inputs are shared. Pairs stand next to each other, dense first. Outputs: all dense ones, then all pruned ones.
    """
    operations: list[Operation] = []
    moved: list[tuple[int, int]] = []
    paired: dict[int, int] = {}
    for one, two in zip(dense.operations, pruned.operations, strict=True):
        if one.primitive is None:
            operations.append(one)
            moved.append((len(operations) - 1,) * 2)
            continue
        for side, item in enumerate((one, two)):
            inputs = tuple(moved[k][side] for k in item.inputs)
            operations.append(dataclasses.replace(item, inputs=inputs))
        paired[len(operations) - 1] = len(operations) - 2
        moved.append((len(operations) - 2, len(operations) - 1))
    outputs = tuple(moved[k][side] for side in (0, 1) for k in dense.outputs)
    given = tuple(moved[k][0] for k in dense.inputs)
    return Program(tuple(operations), given, outputs, {}, dense.dtype), paired


def beside(dense: Program, pruned: Program) -> Program:
    """One program of two that share nothing but their inputs; outputs as in `together`."""
    operations = list(dense.operations)
    moved: dict[int, int] = dict(zip(pruned.inputs, dense.inputs, strict=True))
    for place, item in enumerate(pruned.operations):
        if item.primitive is not None:
            inputs = tuple(moved[k] for k in item.inputs)
            operations.append(dataclasses.replace(item, inputs=inputs))
            moved[place] = len(operations) - 1
    outputs = (*dense.outputs, *(moved[k] for k in pruned.outputs))
    return Program(tuple(operations), dense.inputs, outputs, {}, dense.dtype)


def alike(dense: Program, pruned: Program) -> bool:
    """Whether two programs have the same operations on tensors of the same shapes."""
    return len(dense.operations) == len(pruned.operations) and all(
        type(one.primitive) is type(two.primitive)
        and (one.inputs, one.shape) == (two.inputs, two.shape)
        for one, two in zip(dense.operations, pruned.operations, strict=True)
    )


class Joint(Backward):
    """Passes coefficients back through two networks together.

    Args:
        program: both, from `together`.
        paired: likewise.
        values: interval bounds of both.
    """

    def __init__(self, program: Program, paired: dict[int, int], values: list[Interval]) -> None:
        super().__init__(program, values)
        self.paired = paired
        self.partner = {**paired, **{dense: pruned for pruned, dense in paired.items()}}
        self.differences: dict[int, Interval] = {}
        self.shared: dict[int, tuple[Relaxation, np.ndarray]] = {}

    def refine_all(self) -> None:
        """CROWN bounds of both networks, and of their differences where either bends."""
        for place in range(max(self.program.logits) + 1):
            self.refine(place)
            if place not in self.paired:
                continue
            dense = self.paired[place]
            pruned, plain = self.values[place], self.values[dense]
            d = pruned - plain
            d = d.widen(self.rounding.error(pruned.magnitude + plain.magnitude, 1))
            rows = [rows for rows in (self.bent(place), self.bent(dense)) if rows is not None]
            either = np.logical_or.reduce(rows) if rows else np.zeros((1, 1), bool)
            if either.any() and self.affordable(place, either):
                boxes, elements = np.nonzero(either)
                found = self.elements({place: 1, dense: -1}, boxes, elements)
                d = narrowed(d, boxes, elements, found)
            self.differences[place] = d

    def crop(self, regions: Mapping[int, Region]) -> None:
        """What was computed on whole tensors is computed anew on parts."""
        self.shared = {}
        self.differences = {
            place: part_of(d, regions[place])
            for place, d in self.differences.items()
            if place in regions
        }

    def step(
        self, place: int, waiting: Coefficients, index: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, list[tuple[int, np.ndarray]]]]:
        """A pair of activations is passed together once both wait."""
        other = self.partner.get(place, -1)
        primitive = self.program.operations[place].primitive
        if other not in waiting or primitive is None or not primitive.has_slopes:
            yield from super().step(place, waiting, index)
            return
        pruned, dense = max(place, other), min(place, other)
        p, q = waiting.pop(pruned), waiting.pop(dense)
        lines = [self.relaxation(pruned, index), self.relaxation(dense, index)]
        gaps = [self._gaps(pruned, index), self._gaps(dense, index)]
        joint, loose = self._shared(pruned, dense, index)
        both = p + q
        apart = np.abs(p) * _gap(gaps[0], p) + np.abs(q) * _gap(gaps[1], q)
        on_dense = np.abs(p) * loose + np.abs(both) * _gap(gaps[1], both)
        on_pruned = np.abs(q) * loose + np.abs(both) * _gap(gaps[0], both)
        first = (on_dense < apart) & (on_dense <= on_pruned)
        second = (on_pruned < apart) & ~first
        own_pruned = np.where(first, 0, np.where(second, both, p))
        own_dense = np.where(first, both, np.where(second, 0, q))
        related = np.where(first, p, np.where(second, -q, 0))
        sources = [self.program.operations[k].inputs[0] for k in (pruned, dense)]
        through = related * _slope(joint, related)
        passed = [
            (sources[0], own_pruned * _slope(lines[0], own_pruned) + through),
            (sources[1], own_dense * _slope(lines[1], own_dense) - through),
        ]
        yield offset(own_pruned, lines[0]), passed
        yield offset(own_dense, lines[1]), []
        yield offset(related, joint), []

    def _gaps(self, place: int, index: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """How far an activation's lines are from it on average, below and above, `(boxes, 1, *shape)`."""
        if place not in self.shared:
            operation = self.program.operations[place]
            assert operation.primitive is not None
            x, lines = self.values[operation.inputs[0]], self.relaxation(place, None)
            below, above = 0.0, 0.0
            for point, weight in ((x.lower, 1), (x.center, 4), (x.upper, 1)):
                value = operation.primitive.forward(point)
                low, high = lines.slopes
                below = below + weight / 6 * (value - low * point - lines.lower_offset)
                above = above + weight / 6 * (high * point + lines.upper_offset - value)
            self.shared[place] = (lines, np.stack([below, above]))
        below, above = self.shared[place][1]
        if index is not None:
            below, above = below[index], above[index]
        return below[:, None], above[:, None]

    def _shared(
        self, pruned: int, dense: int, index: np.ndarray | None
    ) -> tuple[Relaxation, np.ndarray]:
        """Lines of y' - y in z' - z, and half the distance between them on average."""
        key = -pruned
        if key not in self.shared:
            operation = self.program.operations[pruned]
            primitive = operation.primitive
            assert primitive is not None
            sources = [operation.inputs[0], self.program.operations[dense].inputs[0]]
            x, y = (self.values[k] for k in sources)
            d, slopes = self.differences[sources[0]], primitive.slopes(x.hull(y))
            least, most = slopes.lower, slopes.upper
            rising, falling = d.lower >= 0, d.upper <= 0
            width = np.where(d.width > 0, d.width, 1)
            # of max(least d, most d) and min(least d, most d) the chords, where d crosses 0
            high = (most * d.upper - least * d.lower) / width
            low = (least * d.upper - most * d.lower) / width
            crossing = ~(rising | falling)
            high = np.where(crossing, high, np.where(rising, most, least))
            low = np.where(crossing, low, np.where(rising, least, most))
            high_offset = np.where(
                crossing, np.maximum((most - high) * d.upper, (least - high) * d.lower), 0
            )
            low_offset = np.where(
                crossing, np.minimum((least - low) * d.upper, (most - low) * d.lower), 0
            )
            size = (slopes.magnitude + 1) * (x.magnitude + y.magnitude + d.magnitude)
            error = self.rounding.error(size, primitive.ulps + 8)
            dtype = self.program.dtype
            lines = Relaxation(
                (low_offset - error).astype(dtype),
                (high_offset + error).astype(dtype),
                (low.astype(dtype), high.astype(dtype)),
            )
            loose = slopes.width * (np.abs(d.lower) + np.abs(d.upper)) / 4
            self.shared[key] = (lines, loose)
        lines, loose = self.shared[key]
        if index is not None:
            lines, loose = lines.take(index), loose[index]
        return lines, loose[:, None]


def _gap(gaps: tuple[np.ndarray, np.ndarray], coefficients: np.ndarray) -> np.ndarray:
    return np.where(coefficients >= 0, *gaps)


def _slope(lines: Relaxation, coefficients: np.ndarray) -> np.ndarray:
    low, high = lines.slopes
    return np.where(coefficients >= 0, low[:, None], high[:, None])
