"""How far apart two units can be at the same input: the relational form.

The two activations of a pair are not independent. Where both come from one linear layer, the difference of their
pre-activations is linear in that layer's input, so its interval over a box is exact; an activation with slopes in
[0, 1] then brings them no further apart. What has no relational form falls back to the difference of intervals.

Source: the pair deviation of [Meng et al., 2023](https://arxiv.org/abs/2204.00783), who take the two as independent.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_robust_prune.primitives.base import Primitive, Rounding
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.verify.bounds import Bounds


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Differences between numbers of one tensor, over the box of `bounds` (one box).

    Attributes:
        bounds: interval bounds over one box.
    """

    bounds: Bounds

    @property
    def rounding(self) -> Rounding:
        """The program's precision."""
        return Rounding(self.bounds.program.dtype)

    def at(self, place: int, elements: np.ndarray) -> Interval:
        """Intervals of numbers of the tensor at `place`, flattened."""
        box = self.bounds.values[place]
        return box.reshape(-1)[elements]

    def difference(self, place: int, first: np.ndarray, second: np.ndarray) -> Interval:
        """Interval of second minus first.

        Args:
            place: of the tensor in the program.
            first: elements of the flattened tensor, `(pairs, elements)`.
            second: likewise.
        """
        one, two = self.at(place, first), self.at(place, second)
        plain = (two - one).widen(self.rounding.error(one.magnitude + two.magnitude, 1))
        found = self._related(place, first, second)
        return plain if found is None else found.intersect(plain)

    def _related(self, place: int, first: np.ndarray, second: np.ndarray) -> Interval | None:
        primitive, inputs = self._asked(place)
        if primitive is None:
            return None
        return primitive.difference(inputs, first, second, self.rounding)

    def weighted(
        self, place: int, first: np.ndarray, second: np.ndarray, a: np.ndarray, b: np.ndarray
    ) -> Interval | None:
        """Interval of b times second minus a times first, if it is known more exactly than from their intervals."""
        primitive, inputs = self._asked(place)
        if primitive is None:
            return None
        return primitive.weighted(inputs, first, second, a, b, self.rounding)

    def _asked(self, place: int) -> tuple[Primitive | None, list[_Tensor]]:
        operation = self.bounds.program.operations[place]
        return operation.primitive, [_Tensor(self, source) for source in operation.inputs]


@dataclasses.dataclass(frozen=True, eq=False)
class _Tensor:
    """One tensor of the program, as `primitives.base.Tensor`."""

    pairs: Pairs
    place: int

    @property
    def box(self) -> Interval:
        return self.pairs.bounds.values[self.place]

    def at(self, elements: np.ndarray) -> Interval:
        return self.pairs.at(self.place, elements)

    def difference(self, first: np.ndarray, second: np.ndarray) -> Interval:
        return self.pairs.difference(self.place, first, second)

    def weighted(
        self, first: np.ndarray, second: np.ndarray, a: np.ndarray, b: np.ndarray
    ) -> Interval | None:
        return self.pairs.weighted(self.place, first, second, a, b)
