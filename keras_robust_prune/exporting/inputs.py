"""Arrays that a user hands over as files."""

from __future__ import annotations

from typing import Any

import numpy as np


def load_range(text: str) -> tuple[Any, Any]:
    """Two numbers, or the arrays of a file.

    Raises:
        ValueError: the text is neither.

    Example:
        >>> load_range("0,255")
        (0.0, 255.0)
    """
    if text.endswith(".npz"):
        with np.load(text) as arrays:
            if {"lower", "upper"} <= set(arrays):
                return arrays["lower"], arrays["upper"]
        raise ValueError(f"--input_range: {text} lacks one of the arrays lower and upper.")
    try:
        lower, upper = map(float, text.split(","))
    except ValueError as error:
        raise ValueError(
            f"--input_range is {text!r}: give two numbers such as 0,255, or an .npz file with the"
            " arrays lower and upper."
        ) from error
    return lower, upper


def load_inputs(path: str) -> Any:
    """The array of a `.npy` file, `x` of an `.npz` file, or its arrays by name."""
    loaded = np.load(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        arrays = {name: loaded[name] for name in loaded if name != "y"}
    return arrays["x"] if set(arrays) == {"x"} else arrays


def load_labelled(path: str) -> tuple[Any, np.ndarray]:
    """Inputs and labels of an `.npz` file.

    Raises:
        ValueError: it has no array `y`, or none besides.
    """
    loaded = np.load(path)
    names = set() if isinstance(loaded, np.ndarray) else set(loaded)
    if "y" not in names or names == {"y"}:
        raise ValueError(
            f"--data: {path} has no arrays x and y. Write it with"
            " np.savez(path, x=inputs, y=labels)."
        )
    with loaded:
        return load_inputs(path), loaded["y"]
