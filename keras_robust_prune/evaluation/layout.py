"""Inputs as rows: attacks see every example, whatever its shape, as one row of numbers.

A network with several inputs, images, signals and tables all become an array `(num_inputs, num_features)`, so that an
attack is written once, norms are plain row norms and a range given per feature is one row.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names and shapes, without the batch axis, of a network's inputs, in order.

    Example:
        >>> layout = Layout(("image", "age"), ((2, 2, 1), (1,)))
        >>> layout.pack([np.zeros((7, 2, 2, 1)), np.ones((7, 1))]).shape
        (7, 5)
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

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
        if isinstance(x, Mapping):
            missing = [name for name in self.names if name not in x]
            if missing:
                raise ValueError(
                    f"x has the inputs {sorted(x)}, but the network also takes {missing}. Give all"
                    f" of {list(self.names)}."
                )
            arrays = [x[name] for name in self.names]
        elif len(self.shapes) > 1 and isinstance(x, Sequence):
            arrays = list(x)
        else:
            arrays = [x]
        if len(arrays) != len(self.shapes):
            raise ValueError(
                f"x has {len(arrays)} arrays, but the network takes {len(self.shapes)} inputs:"
                f" {list(self.names)}. Give a list in this order or a mapping from these names."
            )
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

    def row(self, value: Any) -> np.ndarray:
        """A number, an array that broadcasts to one example, or a mapping of these, as one row."""
        values = value if isinstance(value, Mapping) else dict.fromkeys(self.names, value)
        try:
            parts = [
                np.broadcast_to(np.asarray(values[name], np.float32), shape).ravel()
                for name, shape in zip(self.names, self.shapes, strict=True)
            ]
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(
                f"A bound of input_range does not fit inputs {dict(zip(self.names, self.shapes, strict=True))}"
                f" ({error}). Give two numbers, two arrays of one input's shape, or for several"
                " inputs a mapping from their names to such pairs."
            ) from error
        return np.concatenate(parts)

    def range_rows(self, input_range: Any) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper row of an `input_range`.

        Raises:
            ValueError: it is no pair, does not fit the inputs, or is empty somewhere.
        """
        pairs = input_range if isinstance(input_range, Mapping) else None
        try:
            if pairs is None:
                lower, upper = input_range
            else:
                lower = {name: pair[0] for name, pair in pairs.items()}
                upper = {name: pair[1] for name, pair in pairs.items()}
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise ValueError(
                f"input_range is {input_range!r}, but it is a pair (lower, upper)."
            ) from error
        lower, upper = self.row(lower), self.row(upper)
        if not (np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)).all():
            raise ValueError(
                "input_range needs finite bounds with lower <= upper, for example (0.0, 1.0) or"
                " (x.min(axis=0), x.max(axis=0))."
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
