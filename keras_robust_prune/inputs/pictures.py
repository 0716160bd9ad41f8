"""A folder of pictures as an array that a network takes."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune.inputs.spec import InputSpec

FORMATS = ("JPEG", "PNG")
SUFFIXES = (".jpg", ".jpeg", ".png")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def load_pictures(folder: str | Path, spec: InputSpec, most: int) -> np.ndarray:
    """The JPEG and PNG files of a folder and those below it.

    Each is turned as its EXIF orientation says, made grey or coloured as the network wants it, resized
    until it covers the network's input and cropped to its middle; black is the lower end of the input
    range, white the upper one. Files that cannot be read are left out, counted and named in a warning.

    Args:
        folder: where they are.
        spec: of an image, `(height, width, channels)` or channels first.
        most: of more than that some are taken, evenly over all of them: a folder is often sorted by class.

    Returns:
        `(num_pictures, *spec.shape)` float32.

    Raises:
        ValueError: the network takes no images, Pillow is not installed, or no picture can be read.
    """
    height, width, channels, first = _layout(spec)
    pillow = _pillow()
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    evenly = np.linspace(0, len(paths) - 1, min(len(paths), most)).round().astype(int)
    wanted = [paths[index] for index in evenly]
    spare = sorted(set(paths) - set(wanted))  # take the places of broken ones
    found: list[np.ndarray] = []
    broken: list[str] = []
    for path in [*wanted, *spare]:
        if len(found) == most:
            break
        try:
            with pillow.open(path, formats=FORMATS) as image:
                found.append(_fitted(image, (width, height), MODES[channels]))
        except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
            broken.append(f"{path.name} ({type(error).__name__})")
    listed = ", ".join(broken[:5]) + (", ..." if len(broken) > 5 else "")
    if not found:
        raise ValueError(
            f"'{folder}' holds no picture that can be read"
            + (f"; broken are {len(broken):,}: {listed}." if broken else ": no .jpg or .png file.")
        )
    if broken:
        warnings.warn(
            f"{len(broken):,} of {len(found) + len(broken):,} pictures in '{folder}' cannot be read and are"
            f" left out: {listed}.",
            stacklevel=2,
        )
    pixels = np.stack(found).reshape(len(found), height, width, channels).astype(np.float32) / 255
    return spec.raw(np.moveaxis(pixels, 3, 1) if first else pixels)


def _layout(spec: InputSpec) -> tuple[int, int, int, bool]:
    """Height, width, channels, and whether channels come first."""
    if len(spec.shape) == 3:
        for first in (False, True):
            channels, *_ = sides = spec.shape if first else (spec.shape[2], *spec.shape[:2])
            if channels in MODES:
                return sides[1], sides[2], channels, first
    raise ValueError(
        f"'{spec.name}' takes {spec.shape}, which is no picture (height, width, channels) with"
        f" {', '.join(map(str, MODES))} channels. Pass an array or an .npz file."
    )


def _fitted(image: Any, size: tuple[int, int], mode: str) -> np.ndarray:
    """One picture upright, covering `(width, height)`, cropped to its middle."""
    operations = importlib.import_module("PIL.ImageOps")
    upright = operations.exif_transpose(image)
    if upright.mode.startswith("I"):  # sixteen bits
        wide = np.asarray(upright, np.float32) / 257
        upright = _pillow().fromarray(wide.clip(0, 255).astype(np.uint8))
    fitted = operations.fit(upright.convert(mode), size, method=_pillow().Resampling.BILINEAR)
    return np.asarray(fitted)


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ValueError(
            "Pictures are read by Pillow, which is not installed: pip install pillow"
        ) from error
