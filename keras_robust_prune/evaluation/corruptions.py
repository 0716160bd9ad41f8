"""Everyday damage to images: noise, blur, light, pixels and compression, at five severities.

The kinds are those of common-corruption benchmarks; severities lie between the ones published for 32 and for 224
pixels, and every length is a share of the image's size, so that they mean the same for any size. Values are scaled from
the input range to [0, 1] and back. Blurs need SciPy, pixelate and JPEG need Pillow: both come with the extra `attacks`.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A kind of damage; called with images and a severity.

    Attributes:
        name: what it is called.
        levels: its parameter at severities 1 to 5, rising damage.
        function: from images in [0, 1] `(n, height, width, channels)`, a level and a generator to images.
        colour: whether it needs 3 channels.

    Example:
        >>> images = np.full((2, 8, 8, 1), 0.5, np.float32)
        >>> round(float(CORRUPTIONS["brightness"](images, 1).max()), 6)
        0.6
    """

    name: str
    levels: tuple[float, ...]
    function: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    colour: bool = False

    def __call__(
        self,
        images: np.ndarray,
        severity: int,
        *,
        input_range: Any = (0.0, 1.0),
        seed: int = 0,
    ) -> np.ndarray:
        """Damaged copies of images.

        Args:
            images: `(n, height, width, channels)` with 1 or 3 channels, within the range.
            severity: 1 to 5.
            input_range: valid values, `(lower, upper)`: numbers or arrays of one image's shape.
            seed: of everything drawn; the same seed gives the same damage.

        Returns:
            float32 images of the same shape, within the range.

        Raises:
            ValueError: no images, the wrong number of channels, a severity that does not exist.
            ImportError: SciPy or Pillow is missing.
        """
        images = np.asarray(images)
        channels = (3,) if self.colour else (1, 3)
        if images.ndim != 4 or images.shape[3] not in channels:
            raise ValueError(
                f"{self.name!r} needs images (n, height, width, channels) with"
                f" {' or '.join(map(str, channels))} channels, but x has shape {images.shape}."
            )
        if severity not in SEVERITIES:
            raise ValueError(f"Severity is {severity!r}, but it is one of {SEVERITIES}.")
        lower, upper = (np.asarray(bound, np.float32) for bound in input_range)
        width = np.where(upper > lower, upper - lower, 1).astype(np.float32)
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        unit = np.clip((images.astype(np.float32) - lower) / width, 0, 1)
        damaged = self.function(unit, self.levels[severity - 1], rng)
        return (np.clip(damaged, 0, 1) * width + lower).astype(np.float32)


def parse(text: str) -> tuple[str, tuple[int, ...]]:
    """Name and severities of `"jpeg"` (all five) or `"jpeg@3"`.

    Example:
        >>> parse("jpeg@3")
        ('jpeg', (3,))
    """
    name, _, severity = text.partition("@")
    if name not in CORRUPTIONS or (severity and severity not in map(str, SEVERITIES)):
        raise ValueError(
            f"{text!r} is no corruption. Write 'standard' for all, or a name, with a severity from 1"
            f" to 5 behind '@' if only one is wanted; names: {', '.join(CORRUPTIONS)}."
        )
    return name, (int(severity),) if severity else SEVERITIES


def _gaussian_noise(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return x + level * rng.standard_normal(x.shape, np.float32)


def _shot_noise(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(x / level) * level


def _impulse_noise(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    draw = rng.uniform(size=x.shape)
    return np.where(draw < level / 2, 0.0, np.where(draw > 1 - level / 2, 1.0, x))


def _gaussian_blur(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    sigma = _pixels(x, level)
    return _ndimage().gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest")


def _defocus_blur(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return _ndimage().convolve(x, _disc(_pixels(x, level)), mode="nearest")


def _motion_blur(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Blurred along one of eight directions, each image along its own."""
    length = _pixels(x, level)
    direction = rng.integers(0, 8, len(x))
    found = np.empty_like(x)
    for turn in np.unique(direction):
        kernel = _line(length, np.pi * turn / 8)
        chosen = direction == turn
        found[chosen] = _ndimage().convolve(x[chosen], kernel, mode="nearest")
    return found


def _brightness(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    return x + level


def _contrast(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * (1 - level) + mean


def _saturate(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Colours drawn towards grey."""
    grey = (x @ np.array([0.299, 0.587, 0.114], np.float32))[..., np.newaxis]
    return grey + (x - grey) * (1 - level)


def _pixelate(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    height, width = x.shape[1:3]
    small = (max(round(width * (1 - level)), 1), max(round(height * (1 - level)), 1))
    box = _pillow().Resampling.BOX

    def coarse(image: Any) -> Any:
        return image.resize(small, box).resize((width, height), _pillow().Resampling.NEAREST)

    return _through_pillow(x, coarse)


def _jpeg(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    def pressed(image: Any) -> Any:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=round(100 - level))
        return _pillow().open(buffer)

    return _through_pillow(x, pressed)


CORRUPTIONS = {
    corruption.name: corruption
    for corruption in (
        Corruption("gaussian_noise", (0.04, 0.08, 0.12, 0.18, 0.26), _gaussian_noise),
        Corruption("shot_noise", (0.005, 0.01, 0.02, 0.05, 0.1), _shot_noise),
        Corruption("impulse_noise", (0.01, 0.03, 0.06, 0.1, 0.17), _impulse_noise),
        Corruption("gaussian_blur", (0.0125, 0.017, 0.022, 0.028, 0.035), _gaussian_blur),
        Corruption("defocus_blur", (0.02, 0.03, 0.04, 0.05, 0.065), _defocus_blur),
        Corruption("motion_blur", (0.05, 0.08, 0.12, 0.16, 0.2), _motion_blur),
        Corruption("brightness", (0.1, 0.2, 0.3, 0.4, 0.5), _brightness),
        Corruption("contrast", (0.4, 0.55, 0.7, 0.8, 0.9), _contrast),
        Corruption("saturate", (0.3, 0.5, 0.7, 0.85, 1.0), _saturate, colour=True),
        Corruption("pixelate", (0.2, 0.35, 0.5, 0.6, 0.7), _pixelate),
        Corruption("jpeg", (40.0, 70.0, 80.0, 87.0, 93.0), _jpeg),
    )
}


def _ndimage() -> Any:
    return _extra("scipy.ndimage", "SciPy")


def _pillow() -> Any:
    return _extra("PIL.Image", "Pillow")


def _extra(module: str, product: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This corruption needs {product}. Install it with: pip install"
            " 'keras-robust-prune[attacks]'"
        ) from error


def _pixels(x: np.ndarray, share: float) -> float:
    """A length given as a share of the images' size; on small images, where it would be no pixel, of 32."""
    return share * max(32, min(x.shape[1:3]))


def _disc(radius: float) -> np.ndarray:
    """A disc with soft edge, summing to 1, `(1, size, size, 1)`."""
    reach = int(np.ceil(radius))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1)
    return (inside / inside.sum()).astype(np.float32)[np.newaxis, :, :, np.newaxis]


def _line(length: float, angle: float) -> np.ndarray:
    """A line through the centre with soft edge, summing to 1, `(1, size, size, 1)`."""
    reach = int(np.ceil(length / 2))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.abs(columns * np.cos(angle) + rows * np.sin(angle))
    across = np.abs(rows * np.cos(angle) - columns * np.sin(angle))
    inside = np.clip(length / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return (inside / inside.sum()).astype(np.float32)[np.newaxis, :, :, np.newaxis]


def _through_pillow(x: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
    """Each image as an 8-bit picture, changed, and back."""
    bytes_ = np.round(x * 255).astype(np.uint8)
    grey = x.shape[3] == 1
    pictures = (_pillow().fromarray(image[..., 0] if grey else image) for image in bytes_)
    changed = np.stack([np.asarray(change(picture)) for picture in pictures])
    return changed.reshape(x.shape).astype(np.float32) / 255
