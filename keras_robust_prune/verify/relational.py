"""How far apart two units can be at the same input: the relational form.

The two activations of a pair are not independent. Where both come from one linear layer, the difference of their
pre-activations is linear in that layer's input, so its interval over a box is exact; an activation with slopes in
[0, 1] then brings them no further apart. What has no relational form falls back to the difference of intervals.

Source: the pair deviation of [Meng et al., 2023](https://arxiv.org/abs/2204.00783), who take the two as independent.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_robust_prune.primitives.base import MatMul, Reindex, Rounding, Scale
from keras_robust_prune.primitives.combining import Sum
from keras_robust_prune.primitives.elementwise import Elementwise
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.windows import AveragePool, Convolution, MaxPool
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
        operation = self.bounds.program.operations[place]
        primitive, inputs = operation.primitive, operation.inputs
        if isinstance(primitive, (MatMul, Convolution)):
            return self._linear(place, first, second, None, None)
        if isinstance(primitive, Scale):
            return self._scaled(place, primitive, first, second)
        if isinstance(primitive, Elementwise) and primitive.uniform:
            d = self.difference(inputs[0], first, second)
            forth = primitive.deviation([d], [self.at(inputs[0], first)], self.rounding)
            back = primitive.deviation([-d], [self.at(inputs[0], second)], self.rounding)
            return forth.intersect(-back)
        if isinstance(primitive, Reindex):
            sources = primitive.indices.ravel()
            if (sources[first] >= 0).all() and (sources[second] >= 0).all():
                return self.difference(inputs[0], sources[first], sources[second])
        if isinstance(primitive, (MaxPool, AveragePool)):
            return self._pooled(inputs[0], primitive, first, second)
        if isinstance(primitive, Sum) and set(primitive.shapes) == {primitive.shape}:
            total: Interval | None = None
            for sign, source in zip(primitive.signs, inputs, strict=True):
                part = self.difference(source, first, second)
                part = part if sign > 0 else -part
                total = part if total is None else total + part
            assert total is not None
            return total.widen(self.rounding.error(total.magnitude, 2 * len(inputs)))
        return None

    def _linear(
        self,
        place: int,
        first: np.ndarray,
        second: np.ndarray,
        first_factor: np.ndarray | None,
        second_factor: np.ndarray | None,
    ) -> Interval | None:
        """Exact over the layer's input, for pairs of channels that are compared position by position."""
        operation = self.bounds.program.operations[place]
        primitive, box = operation.primitive, self.bounds.values[operation.inputs[0]]
        channels = operation.shape[-1]
        positions, one, two = first // channels, first[:, 0] % channels, second[:, 0] % channels
        together = (
            (positions == second // channels).all()
            and (first % channels == one[:, None]).all()
            and (second % channels == two[:, None]).all()
        )
        if not together or getattr(primitive, "groups", 1) != 1:
            return None
        assert isinstance(primitive, (MatMul, Convolution))

        def apart(weight: np.ndarray) -> np.ndarray:
            a, b = np.take(weight, one, axis=-1), np.take(weight, two, axis=-1)
            return np.asarray(
                (b if second_factor is None else b * second_factor)
                - (a if first_factor is None else a * first_factor)
            )

        kernel = apart(primitive.kernel)
        bias = None if primitive.bias is None else apart(primitive.bias)
        apply = dataclasses.replace(primitive, kernel=kernel, bias=bias)
        interval = apply.interval([box], self.rounding)
        # the kernels' difference is rounded once more than a kernel
        size = primitive.largest(box.magnitude).reshape(-1, channels)
        if primitive.bias is not None:
            size = size + np.abs(primitive.bias)
        factors = np.ones(())
        if first_factor is not None and second_factor is not None:
            factors = np.maximum(abs(first_factor), abs(second_factor))
        error = self.rounding.error((size[:, one] + size[:, two]) * factors, 4)
        flat = interval.reshape(-1, len(one)).widen(error)
        return flat[positions, np.arange(len(one))[:, None]]

    def _scaled(
        self, place: int, scale: Scale, first: np.ndarray, second: np.ndarray
    ) -> Interval | None:
        source = self.bounds.program.operations[place].inputs[0]
        shape = scale.in_shape
        factor = np.broadcast_to(scale.factor, shape).ravel()
        bias = np.zeros((), factor.dtype) if scale.bias is None else scale.bias
        surplus = np.abs(bias) if scale.surplus is None else scale.surplus
        bias, surplus = (np.broadcast_to(item, shape).ravel() for item in (bias, surplus))
        a, b = factor[first], factor[second]
        constant = bias[second] - bias[first]
        size = self.at(source, first).magnitude * abs(a) + self.at(source, second).magnitude * abs(
            b
        )
        error = self.rounding.error(2 * (size + surplus[first] + surplus[second]), 16)
        operation = self.bounds.program.operations[source]
        if isinstance(operation.primitive, (MatMul, Convolution)) and (
            (a == a[:, :1]).all() and (b == b[:, :1]).all()
        ):
            exact = self._linear(source, first, second, a[:, 0], b[:, 0])
            if exact is not None:
                return (exact + constant).widen(error)
        d = self.difference(source, first, second)
        forth = d.scale(b) + self.at(source, first).scale(b - a)
        back = d.scale(a) + self.at(source, second).scale(b - a)
        return (forth.intersect(back) + constant).widen(error)

    def _pooled(
        self, source: int, pool: MaxPool | AveragePool, first: np.ndarray, second: np.ndarray
    ) -> Interval:
        """A mean of differences, or their hull: the largest of a window cannot differ more than its entries."""
        channels = self.bounds.program.operations[source].shape[-1]
        table = pool.window.table
        filled = np.where(table < 0, table.max(axis=1, keepdims=True), table)
        ends = []
        for elements in (first, second):
            positions, channel = filled[elements // channels], elements % channels
            ends.append((positions * channels + channel[..., None]).reshape(len(elements), -1))
        d = self.difference(source, *ends).reshape(*first.shape, -1)
        if isinstance(pool, MaxPool):
            return Interval(d.lower.min(axis=-1), d.upper.max(axis=-1))
        present = table >= 0
        share = (present / present.sum(axis=1, keepdims=True))[first // channels]
        share = share.astype(d.lower.dtype)
        error = self.rounding.error((share * d.magnitude).sum(axis=-1), table.shape[1] + 4)
        mean = Interval((d.lower * share).sum(axis=-1), (d.upper * share).sum(axis=-1))
        return mean.widen(error)
