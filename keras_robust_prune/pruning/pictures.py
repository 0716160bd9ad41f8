"""Inputs as small pictures, whatever their shape."""

from __future__ import annotations

import base64
import math

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.inputs import InputSpec

LARGEST = 96  # pixels of a side; larger pictures are thinned out


def picture_of(array: np.ndarray, spec: InputSpec) -> np.ndarray | None:
    """One input as a picture, `(height, width, 1 or 3)` uint8; None for tokens.

    Rows are drawn as squares where they are some, spectra and the like in grey, volumes by their middle.

    Args:
        array: the input, in its raw range.
        spec: what it may be.

    Example:
        >>> spec = InputSpec((4, 2), 0.0, 2.0)
        >>> picture_of(np.ones((4, 2)), spec).squeeze().tolist()
        [[128, 128], [128, 128], [128, 128], [128, 128]]
        >>> picture_of(np.ones(784), InputSpec((784,))).shape
        (28, 28, 1)
    """
    if spec.num_tokens:
        return None
    width = np.where(spec.upper > spec.lower, spec.upper - spec.lower, 1)
    unit = np.clip((array - spec.lower) / width, 0, 1)
    while unit.ndim > 3:
        unit = unit[len(unit) // 2]
    if unit.ndim == 1:
        side = math.isqrt(unit.size)
        unit = unit.reshape((side, side) if side * side == unit.size > 9 else (1, -1))
    if unit.ndim == 3 and unit.shape[-1] not in (1, 3):
        unit = unit.mean(-1)
    unit = unit if unit.ndim == 3 else unit[..., None]
    steps = [-(-length // LARGEST) for length in unit.shape[:2]]
    return np.rint(255 * unit[:: steps[0], :: steps[1]]).astype(np.uint8)


def data_uri(picture: np.ndarray) -> str:
    """A picture as the address of an image in a page."""
    png = backends.tensorflow().io.encode_png(picture).numpy()
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
