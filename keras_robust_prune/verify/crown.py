"""CROWN: linear bounds passed backward, with slopes chosen neuron by neuron.

To bound a linear function of some tensor from below, its coefficients go backward through the network. A linear layer
transposes; at an activation each coefficient takes the line below or above the curve by its sign; at the input the box
decides. The lines need intervals of their inputs, which come from the same procedure, layer by layer, for the neurons
whose interval crosses a kink.

Source: [Zhang et al., 2018](https://arxiv.org/abs/1811.00866). Departures: every line carries an error term, so that
the bounds hold in floating point.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import numpy as np

from keras_robust_prune.primitives.base import Region, Relaxation, Rounding, products
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.program import Operation, Program
from keras_robust_prune.verify.bounds import Bounds
from keras_robust_prune.verify.cropping import (
    blocks,
    cropped,
    part_of,
    read_for_one,
    regions,
)

BUDGET = 2**23
"""Coefficients held at once; more rows are passed in parts."""

WORK = 5e9
"""Multiplications per box that one tensor's interval may cost; interval arithmetic has to do where it would be more."""

Coefficients = dict[int, np.ndarray]


class Backward:
    """Passes coefficients from tensors to inputs.

    Args:
        program: the network.
        values: an interval for every tensor, `(boxes, *shape)`; they are read when a line is first needed.
    """

    def __init__(self, program: Program, values: list[Interval]) -> None:
        self.program = program
        self.values = values
        self.rounding = Rounding(program.dtype)
        self.lines: dict[int, Relaxation] = {}
        self.consumers: list[list[int]] = [[] for _ in program.operations]
        for place, operation in enumerate(program.operations):
            for k in operation.inputs:
                self.consumers[k].append(place)

    def relaxation(self, place: int, index: np.ndarray | None) -> Relaxation:
        """Lines of an operation, for all boxes or chosen ones."""
        if place not in self.lines:
            operation = self.program.operations[place]
            assert operation.primitive is not None
            inputs = [self.values[k] for k in operation.inputs]
            self.lines[place] = operation.primitive.relax(inputs, self.rounding)
        lines = self.lines[place]
        return lines if index is None else lines.take(index)

    def lower(self, coefficients: Mapping[int, np.ndarray]) -> np.ndarray:
        """Lower bounds of linear functions of tensors.

        Args:
            coefficients: by place, `(boxes or 1, rows, *shape)`.

        Returns:
            `(boxes, rows)`.
        """
        boxes = len(self.values[0].lower)
        rows = next(iter(coefficients.values())).shape[1]
        step = self._rows_at_once(max(coefficients), boxes)
        parts = []
        for k in range(0, rows, step):
            part = {place: item[:, k : k + step] for place, item in coefficients.items()}
            left, constant = self._pass(part, None, False)
            parts.append(constant + self._over_box(left, None))
        return np.concatenate([np.broadcast_to(p, (boxes, p.shape[1])) for p in parts], axis=1)

    def interval(self, coefficients: Mapping[int, np.ndarray]) -> Interval:
        """Both bounds of linear functions of tensors, `(boxes, rows)`; see `lower`."""
        lower = self.lower(coefficients)
        upper = -self.lower({place: -item for place, item in coefficients.items()})
        return Interval(lower, np.maximum(lower, upper))

    def refine(self, place: int) -> None:
        """Tighten the interval of a tensor from those before it, by CROWN where an activation needs it."""
        operation = self.program.operations[place]
        if operation.primitive is None:
            return
        again = operation.primitive.interval(
            [self.values[k] for k in operation.inputs], self.rounding
        )
        self.values[place] = self.values[place].intersect(again)
        rows = self.bent(place)
        if rows is not None and rows.any() and self.affordable(place, rows):
            boxes, elements = np.nonzero(rows)
            found = self.elements({place: 1}, boxes, elements)
            self.values[place] = narrowed(self.values[place], boxes, elements, found)

    def affordable(self, place: int, rows: np.ndarray) -> bool:
        """Whether numbers of a tensor, `(boxes, elements)` bool, may be bounded one by one."""
        cost = sum(work(item) for item in read_for_one(self.program, place))
        return bool(cost * rows.sum() <= WORK * len(rows))

    def bent(self, place: int) -> np.ndarray | None:
        """Where a consumer of a tensor is not linear over its interval, `(boxes, elements)`; None if nowhere.

        Not asked of the output of an activation: its interval follows from that of its input.
        """
        primitives = [item.primitive for item in self.program.operations]
        own = primitives[place]
        if own is not None and own.follows:
            return None
        flat = self.values[place].reshape(len(self.values[place].lower), -1)
        asked = (primitives[consumer] for consumer in self.consumers[place])
        found = [rows for item in asked if item and (rows := item.bends(flat)) is not None]
        return np.logical_or.reduce(found) if found else None

    def elements(
        self, factors: Mapping[int, int], boxes: np.ndarray, elements: np.ndarray
    ) -> Interval:
        """Bounds of single numbers of a tensor, or of a sum of tensors of one shape, `(pairs,)`.

        Args:
            factors: 1 or -1 by place of each tensor.
            boxes: the box of each pair.
            elements: the element of the flattened tensor.
        """
        shape = self.program.operations[max(factors)].shape
        lower = np.empty(len(elements), self.program.dtype)
        upper = np.empty_like(lower)
        groups = blocks(shape, elements, 48) if len(shape) > 1 else []
        for region, rows, inside in groups:
            small = self.cut_down(dict.fromkeys(factors, region))
            if small is None:
                groups = []
                break
            found = small.whole_elements(factors, boxes[rows], inside)
            lower[rows], upper[rows] = found.lower, found.upper
        return Interval(lower, upper) if groups else self.whole_elements(factors, boxes, elements)

    def cut_down(self, start: Mapping[int, Region]) -> Backward | None:
        """What passes coefficients back from parts of tensors only; None if that is not possible."""
        found = regions(self.program, start)
        if found is None:
            return None
        small = copy.copy(self)
        small.values, small.lines = list(self.values), {}
        for place, region in found.items():
            small.values[place] = part_of(self.values[place], region)
            if self.program.operations[place].primitive is not None:
                small.lines[place] = part_of(self.relaxation(place, None), region)
        small.program = cropped(self.program, found)
        small.crop(found)
        return small

    def crop(self, regions: Mapping[int, Region]) -> None:
        """Told what was cut away, for what subclasses keep."""

    def whole_elements(
        self, factors: Mapping[int, int], boxes: np.ndarray, elements: np.ndarray
    ) -> Interval:
        """As `elements`, without cutting the network down to what they read."""
        lower = np.empty(len(elements), self.program.dtype)
        upper = np.empty_like(lower)
        wanted, inverse = np.unique(elements, return_inverse=True)
        step = self._rows_at_once(max(factors), 1)
        for k in range(0, len(wanted), step):
            part = np.flatnonzero((inverse >= k) & (inverse < k + step))
            for sign, target in ((1, lower), (-1, upper)):
                signed = {place: sign * factor for place, factor in factors.items()}
                found = self._elements(
                    signed, wanted[k : k + step], inverse[part] - k, boxes[part], step
                )
                target[part] = sign * found
        return Interval(lower, np.maximum(upper, lower))

    def _elements(
        self,
        factors: Mapping[int, int],
        wanted: np.ndarray,
        which: np.ndarray,
        boxes: np.ndarray,
        step: int,
    ) -> np.ndarray:
        """Linear layers are passed once for all boxes, the rest once per pair."""
        shape = self.program.operations[max(factors)].shape
        start = np.zeros((1, len(wanted), int(np.prod(shape))), self.program.dtype)
        start[0, np.arange(len(wanted)), wanted] = 1
        start = start.reshape(1, -1, *shape)
        tensors = {place: factor * start for place, factor in factors.items()}
        left, constant = self._pass(tensors, None, True)
        constant = np.broadcast_to(constant, (len(self.values[0].lower), len(wanted)))
        found = np.empty(len(which), self.program.dtype)
        for k in range(0, len(which), step):
            pairs, box = which[k : k + step], boxes[k : k + step]
            own = {key: item[0][pairs][:, None] for key, item in left.items()}
            rest, more = self._pass(own, box, False)
            total = constant[box, pairs] + (more + self._over_box(rest, box))[:, 0]
            found[k : k + step] = total
        return found

    def _rows_at_once(self, place: int, boxes: int) -> int:
        largest = max(int(np.prod(item.shape)) for item in self.program.operations[: place + 1])
        return max(1, BUDGET // (largest * boxes))

    def _pass(
        self, coefficients: Mapping[int, np.ndarray], index: np.ndarray | None, only_linear: bool
    ) -> tuple[Coefficients, np.ndarray]:
        """Pass coefficients as far as the inputs, or as the first operation that is not linear."""
        waiting, arrived = dict(coefficients), {}
        constant = np.zeros((1, 1), self.program.dtype)
        size = np.zeros((1, 1), self.program.dtype)
        steps = 4
        while waiting:
            place = max(waiting)
            primitive = self.program.operations[place].primitive
            if only_linear and primitive is not None and not primitive.is_linear:
                break
            if primitive is None:
                arrived[place] = waiting.pop(place)
                continue
            for part, passed in self.step(place, waiting, index):
                constant, size, steps = constant + part, size + np.abs(part), steps + 1
                for source, more in passed:
                    if source in waiting:
                        sizes = np.abs(waiting[source]) + np.abs(more)
                        size = size + self._meet(sizes, source, index)
                        waiting[source] = waiting[source] + more
                    else:
                        waiting[source] = more
        return {**arrived, **waiting}, constant - self.rounding.error(size, 2 * steps)

    def step(
        self, place: int, waiting: Coefficients, index: np.ndarray | None
    ) -> Iterator[tuple[np.ndarray, list[tuple[int, np.ndarray]]]]:
        """Take the coefficients of one tensor out of `waiting` and pass them through its operation.

        Yields:
            A constant `(boxes, rows)`, and coefficients for inputs by place.
        """
        operation = self.program.operations[place]
        assert operation.primitive is not None
        passed, constant = operation.primitive.backward(
            waiting.pop(place), self.relaxation(place, index)
        )
        yield constant, list(zip(operation.inputs, passed, strict=False))

    def _meet(self, sizes: np.ndarray, place: int, index: np.ndarray | None) -> np.ndarray:
        """What coefficients of one tensor that are added make of its magnitude."""
        magnitude = self.values[place].magnitude
        magnitude = magnitude if index is None else magnitude[index]
        flat = sizes.reshape(*sizes.shape[:2], -1)
        return products(flat, magnitude.reshape(len(magnitude), -1, 1))

    def _over_box(self, coefficients: Coefficients, index: np.ndarray | None) -> np.ndarray:
        """Least value over the inputs' boxes."""
        total = np.zeros((1, 1), self.program.dtype)
        for place, item in coefficients.items():
            box = self.values[place] if index is None else self.values[place][index]
            center, radius = box.center, box.width / 2
            flat = item.reshape(*item.shape[:2], -1)
            center, radius = (end.reshape(len(end), -1, 1) for end in (center, radius))
            error = self.rounding.error(np.abs(center) + radius, flat.shape[2])
            total = total + products(flat, center) - products(np.abs(flat), radius + error)
        return total


def crown_bounds(start: Bounds, refine: bool = True) -> tuple[Bounds, Backward]:
    """CROWN bounds of the tensors that activations read, and of the logits.

    Args:
        start: interval bounds.
        refine: whether the intervals that lines are built on are CROWN's too; interval arithmetic's otherwise, which is
            faster and wider.

    Returns:
        Bounds, nowhere wider than `start`, and what passes further coefficients.
    """
    program = start.program
    backward = Backward(program, list(start.values))
    if refine:
        for place in range(max(program.logits) + 1):
            backward.refine(place)
    for place in program.logits:
        shape = program.operations[place].shape
        unit = np.eye(int(np.prod(shape)), dtype=program.dtype).reshape(1, -1, *shape)
        tight = backward.interval({place: unit}).reshape(-1, *shape)
        backward.values[place] = tight.intersect(backward.values[place])
    return Bounds(program, tuple(backward.values)), backward


def work(operation: Operation) -> int:
    """Multiplications of one pass through an operation."""
    shape, primitive = operation.shape, operation.primitive
    return int(np.prod(shape)) if primitive is None else primitive.work(shape)


def narrowed(box: Interval, boxes: np.ndarray, elements: np.ndarray, found: Interval) -> Interval:
    """An interval `(boxes, *shape)` with some of its numbers replaced by what both allow."""
    lower, upper = (np.array(end).reshape(len(end), -1) for end in (box.lower, box.upper))
    tight = found.intersect(Interval(lower[boxes, elements], upper[boxes, elements]))
    lower[boxes, elements], upper[boxes, elements] = tight.lower, tight.upper
    return Interval(lower, upper).reshape(*box.shape)
