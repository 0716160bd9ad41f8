"""CROWN: linear bounds passed backward, with slopes chosen neuron by neuron.

To bound a linear function of some tensor from below, its coefficients go backward through the network. A linear layer
transposes; at an activation each coefficient takes the line below or above the curve by its sign; at the input the box
decides. The lines need intervals of their inputs, which come from the same procedure, layer by layer, for the neurons
whose interval crosses a kink.

Source: [Zhang et al., 2018](https://arxiv.org/abs/1811.00866). Departures: every line carries an error term, so that
the bounds hold in floating point.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_robust_prune.analysis.bounds import Bounds
from keras_robust_prune.intervals import Interval
from keras_robust_prune.network.combining import Concatenation, Product, Softmax, Sum
from keras_robust_prune.network.elementwise import Elementwise, ReLU
from keras_robust_prune.network.primitives import Linear, Relaxation, Rounding, products
from keras_robust_prune.network.program import Program

BUDGET = 2**23
"""Coefficients held at once; more rows are passed in parts."""

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

    def elements(self, place: int, boxes: np.ndarray, elements: np.ndarray) -> Interval:
        """Bounds of single numbers of one tensor, `(pairs,)`.

        Args:
            place: of the tensor.
            boxes: the box of each pair.
            elements: the element of the flattened tensor.
        """
        lower = np.empty(len(elements), self.program.dtype)
        upper = np.empty_like(lower)
        wanted, inverse = np.unique(elements, return_inverse=True)
        step = self._rows_at_once(place, 1)
        for k in range(0, len(wanted), step):
            part = np.flatnonzero((inverse >= k) & (inverse < k + step))
            for sign, target in ((1, lower), (-1, upper)):
                found = self._elements(
                    place, wanted[k : k + step], inverse[part] - k, boxes[part], sign, step
                )
                target[part] = sign * found
        return Interval(lower, np.maximum(upper, lower))

    def _elements(
        self,
        place: int,
        wanted: np.ndarray,
        which: np.ndarray,
        boxes: np.ndarray,
        sign: int,
        step: int,
    ) -> np.ndarray:
        """Linear layers are passed once for all boxes, the rest once per pair."""
        shape = self.program.operations[place].shape
        start = np.zeros((1, len(wanted), int(np.prod(shape))), self.program.dtype)
        start[0, np.arange(len(wanted)), wanted] = sign
        left, constant = self._pass({place: start.reshape(1, -1, *shape)}, None, True)
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
            operation = self.program.operations[place]
            if only_linear and not isinstance(operation.primitive, (Linear, type(None))):
                break
            item = waiting.pop(place)
            if operation.primitive is None:
                arrived[place] = item
                continue
            passed, part = operation.primitive.backward(item, self.relaxation(place, index))
            constant, size, steps = constant + part, size + np.abs(part), steps + 2
            for source, more in zip(operation.inputs, passed, strict=bool(passed)):
                if source in waiting:
                    sizes = np.abs(waiting[source]) + np.abs(more)
                    size = size + self._meet(sizes, source, index)
                    waiting[source] = waiting[source] + more
                else:
                    waiting[source] = more
        return {**arrived, **waiting}, constant - self.rounding.error(size, steps)

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
    rounding = Rounding(program.dtype)
    values = list(start.values)
    backward = Backward(program, values)
    readers: dict[int, list[int]] = {}
    for place, operation in enumerate(program.operations):
        for k in operation.inputs:
            readers.setdefault(k, []).append(place)
    last = max(program.logits)
    for place, operation in enumerate(program.operations[: last + 1]):
        if operation.primitive is None:
            continue
        if refine:
            inputs = [values[k] for k in operation.inputs]
            again = operation.primitive.interval(inputs, rounding)
            values[place] = values[place].intersect(again)
            rows = _wanted(program, place, readers.get(place, []), values[place])
            if rows is not None and rows.any():
                values[place] = _refined(backward, place, rows)
    for place in program.logits:
        shape = program.operations[place].shape
        size = int(np.prod(shape))
        unit = np.eye(size, dtype=program.dtype).reshape(1, size, *shape)
        lower, upper = backward.lower({place: unit}), -backward.lower({place: -unit})
        tight = Interval(lower, np.maximum(lower, upper)).reshape(-1, *shape)
        values[place] = tight.intersect(values[place])
    return Bounds(program, tuple(values)), backward


def _wanted(
    program: Program, place: int, readers: list[int], box: Interval
) -> np.ndarray | None:
    """Which numbers deserve a tighter interval, `(boxes, elements)`: those at which a reader is not linear."""
    if isinstance(program.operations[place].primitive, (Elementwise, Softmax)):
        return None
    flat = box.reshape(len(box.lower), -1)
    wanted: np.ndarray | None = None
    for reader in readers:
        primitive = program.operations[reader].primitive
        if isinstance(primitive, (Linear, Sum, Concatenation, Softmax)):
            continue
        rows = flat.width > 0
        if isinstance(primitive, ReLU):
            rows = (flat.lower < 0) & (flat.upper > 0)
        elif isinstance(primitive, Product) and program.operations[place].primitive is None:
            continue
        wanted = rows if wanted is None else wanted | rows
    return wanted


def _refined(backward: Backward, place: int, rows: np.ndarray) -> Interval:
    box = backward.values[place]
    boxes, elements = np.nonzero(rows)
    found = backward.elements(place, boxes, elements)
    lower, upper = np.array(box.lower).reshape(rows.shape), np.array(box.upper).reshape(rows.shape)
    old = Interval(lower[boxes, elements], upper[boxes, elements])
    tight = found.intersect(old)
    lower[boxes, elements], upper[boxes, elements] = tight.lower, tight.upper
    return Interval(lower, upper).reshape(*box.shape)
