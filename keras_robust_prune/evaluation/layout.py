"""Inputs as rows: attacks see every example, whatever its shape, as one row of numbers.

A network with several inputs, images, signals and tables all become an array `(num_inputs, num_features)`, so that an
attack is written once, norms are plain row norms and a range given per feature is one row.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from keras_robust_prune.inputs import InputSpec, by_input, parse_range


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names and shapes, without the batch axis, of a network's inputs, in order.

    Attributes:
        names: of the inputs.
        shapes: of one example.
        said: what the network says of each input's range, if it is known.

    Example:
        >>> layout = Layout(("image", "age"), ((2, 2, 1), (1,)))
        >>> layout.pack([np.zeros((7, 2, 2, 1)), np.ones((7, 1))]).shape
        (7, 5)
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    said: tuple[InputSpec | None, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers one example has in each input."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def num_features(self) -> int:
        """How many numbers one example has."""
        return sum(self.sizes)

    def parts(self, x: Any) -> list[np.ndarray]:
        """The arrays of `x` in the network's order, given as array, list or mapping by name.

        Raises:
            ValueError: an input is missing, or an array has another shape than the network takes.
        """
        arrays = by_input(x, self.names, self.shapes)
        return [
            _fit(np.asarray(array), shape, name)
            for array, shape, name in zip(arrays, self.shapes, self.names, strict=True)
        ]

    def pack(self, x: Any) -> np.ndarray:
        """`x` as float32 rows `(num_inputs, num_features)`."""
        parts = self.parts(x)
        if len({len(part) for part in parts}) > 1:
            raise ValueError(
                f"The inputs have {[len(part) for part in parts]} examples; each needs as many."
            )
        rows = [
            np.asarray(part, np.float32).reshape(len(part), size)
            for part, size in zip(parts, self.sizes, strict=True)
        ]
        return rows[0] if len(rows) == 1 else np.concatenate(rows, 1)

    def unpack(self, rows: Any, reshape: Any = np.reshape) -> list[Any]:
        """The inputs that rows stand for, each with its own shape; `tf.reshape` serves tensors."""
        found, start = [], 0
        for size, shape in zip(self.sizes, self.shapes, strict=True):
            found.append(reshape(rows[:, start : start + size], (-1, *shape)))
            start += size
        return found

    def range_rows(self, input_range: Any) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper row of an `input_range`; see `inputs.parse_range`."""
        specs = parse_range(input_range, self.names, self.shapes, self.said)
        lower, upper = (
            np.concatenate([spec.row(end) for spec in specs]) for end in ("lower", "upper")
        )
        return lower, upper


def _fit(array: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    if array.shape[1:] == shape:
        return array
    if array.ndim >= 1 and array.shape[1:] == shape[:-1] and shape[-1:] == (1,):
        return array[..., np.newaxis]
    raise ValueError(
        f"x for input {name!r} has shape {array.shape}, but the network takes {('n', *shape)}."
        " Reshape it."
    )
