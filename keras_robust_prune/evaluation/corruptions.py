"""Everyday damage to images, at the five severities of the common-corruption benchmarks.

Kinds, parameters and severities are those of Hendrycks and Dietterich, 2019, ["Benchmarking Neural Network Robustness
to Common Corruptions and Perturbations"](https://arxiv.org/abs/1903.12261), published for images of 32, 64 and 224
pixels (CIFAR-10-C, Tiny ImageNet-C, ImageNet-C). An image takes those of the size that is nearest to its shorter side.
What differs from theirs:

- eleven of their nineteen kinds are here; glass and zoom blur, snow, frost, fog, spatter, speckle noise and the elastic
  transform are not;
- values are kept as they are, scaled from the input range to [0, 1] and back; theirs are cut to 8 bits;
- images of one channel are damaged, too (colours excepted), and of any size and shape;
- draws come from NumPy's generators by a seed.

Blurs need SciPy, pixelate and JPEG need Pillow: both come with the extra `attacks`.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_robust_prune.inputs import parse_range

SEVERITIES = (1, 2, 3, 4, 5)
# The sizes that parameters were published for.
SIZES = (32, 64, 224)

Level = Any
"""A number, or a tuple of them."""


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A kind of damage; called with images and a severity.

    Attributes:
        name: what it is called.
        levels: for each of `SIZES` its parameters at severities 1 to 5.
        function: from images in [0, 1] `(n, height, width, channels)`, a level and a generator to images.
        colour: whether it needs 3 channels.

    Example:
        >>> images = np.full((2, 8, 8, 1), 0.5, np.float32)
        >>> round(float(CORRUPTIONS["brightness"](images, 1).max()), 6)
        0.55
    """

    name: str
    levels: tuple[tuple[Level, ...], tuple[Level, ...], tuple[Level, ...]]
    function: Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]
    colour: bool = False

    def level(self, severity: int, shape: tuple[int, ...]) -> Level:
        """The parameters of a severity for images of a shape `(height, width, ...)`."""
        shorter = min(shape[:2])
        nearest = min(range(len(SIZES)), key=lambda k: abs(math.log(SIZES[k] / shorter)))
        return self.levels[nearest][severity - 1]

    def __call__(
        self,
        images: np.ndarray,
        severity: int,
        *,
        input_range: Any = None,
        seed: int = 0,
    ) -> np.ndarray:
        """Damaged copies of images.

        Args:
            images: `(n, height, width, channels)` with 1 or 3 channels, within the range.
            severity: 1 to 5.
            input_range: valid values, `(lower, upper)`: numbers or arrays of one image's shape; None is (0, 1).
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
        (spec,) = parse_range(input_range, ["images"], [images.shape[1:]])
        lower, upper = spec.lower, spec.upper
        width = np.where(upper > lower, upper - lower, 1).astype(np.float32)
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        unit = np.clip((images.astype(np.float32) - lower) / width, 0, 1)
        damaged = self.function(unit, self.level(severity, images.shape[1:]), rng)
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


def _gaussian_noise(x: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return x + deviation * rng.standard_normal(x.shape, np.float32)


def _shot_noise(x: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(x * photons) / photons


def _impulse_noise(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    draw = rng.uniform(size=x.shape)
    return np.where(draw < share / 2, 0.0, np.where(draw > 1 - share / 2, 1.0, x))


def _gaussian_blur(x: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return _ndimage().gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest")


def _defocus_blur(
    x: np.ndarray, level: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    kernel = _disc(*level)[np.newaxis, :, :, np.newaxis]
    return _ndimage().convolve(x, kernel.astype(np.float32), mode="mirror")


def _motion_blur(x: np.ndarray, level: tuple[int, float], rng: np.random.Generator) -> np.ndarray:
    """Smeared to one side, each image at an angle of its own between -45 and 45 degrees."""
    angles = np.deg2rad(rng.uniform(-45, 45, len(x)))
    return np.stack(
        [_smeared(image, *level, angle) for image, angle in zip(x, angles, strict=True)]
    )


def _brightness(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """The value of HSV raised; hue and saturation stay."""
    value = x.max(axis=3, keepdims=True)
    raised = np.minimum(value + level, 1)
    return np.where(value > 0, x * (raised / np.where(value > 0, value, 1)), raised)


def _contrast(x: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * level + mean


def _saturate(x: np.ndarray, level: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """The saturation of HSV multiplied and shifted; grey, whose hue is none, turns red if shifted."""
    value, least = x.max(axis=3, keepdims=True), x.min(axis=3, keepdims=True)
    chroma = value - least
    saturation = np.divide(chroma, value, out=np.zeros_like(value), where=value > 0)
    wanted = np.clip(saturation * level[0] + level[1], 0, 1)
    share = np.divide(value - x, chroma, out=np.zeros_like(x), where=chroma > 0)
    share[..., 1:] = np.where(chroma > 0, share[..., 1:], 1.0)
    return value * (1 - wanted * share)


def _pixelate(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    height, width = x.shape[1:3]
    small = (max(int(width * share), 1), max(int(height * share), 1))
    box = _pillow().Resampling.BOX
    return _through_pillow(x, lambda image: image.resize(small, box).resize((width, height), box))


def _jpeg(x: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    def pressed(image: Any) -> Any:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return _pillow().open(buffer)

    return _through_pillow(x, pressed)


CORRUPTIONS = {
    corruption.name: corruption
    for corruption in (
        Corruption(  # standard deviation
            "gaussian_noise",
            (
                (0.04, 0.06, 0.08, 0.09, 0.10),
                (0.04, 0.08, 0.12, 0.15, 0.18),
                (0.08, 0.12, 0.18, 0.26, 0.38),
            ),
            _gaussian_noise,
        ),
        Corruption(  # photons that white stands for
            "shot_noise",
            ((500, 250, 100, 75, 50), (250, 100, 50, 30, 15), (60, 25, 12, 5, 3)),
            _shot_noise,
        ),
        Corruption(  # share of the values that turn 0 or 1
            "impulse_noise",
            (
                (0.01, 0.02, 0.03, 0.05, 0.07),
                (0.01, 0.02, 0.05, 0.08, 0.14),
                (0.03, 0.06, 0.09, 0.17, 0.27),
            ),
            _impulse_noise,
        ),
        Corruption(  # sigma in pixels
            "gaussian_blur",
            ((0.4, 0.6, 0.7, 0.8, 1), (0.5, 0.75, 1, 1.25, 1.5), (1, 2, 3, 4, 6)),
            _gaussian_blur,
        ),
        Corruption(  # radius of the disc, and sigma that softens its edge
            "defocus_blur",
            (
                ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
                ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
                ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
            ),
            _defocus_blur,
        ),
        Corruption(  # radius and sigma of the smear
            "motion_blur",
            (
                ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
                ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
                ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
            ),
            _motion_blur,
        ),
        Corruption(  # added to HSV's value
            "brightness",
            ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.4, 0.5)),
            _brightness,
        ),
        Corruption(  # share of the contrast that stays
            "contrast",
            ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05), (0.4, 0.3, 0.2, 0.1, 0.05)),
            _contrast,
        ),
        Corruption(  # factor and shift of HSV's saturation
            "saturate",
            (
                ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
                ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
                ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
            ),
            _saturate,
            colour=True,
        ),
        Corruption(  # share of the pixels along a side
            "pixelate",
            ((0.95, 0.9, 0.85, 0.75, 0.65), (0.9, 0.8, 0.7, 0.6, 0.5), (0.6, 0.5, 0.4, 0.3, 0.25)),
            _pixelate,
        ),
        Corruption(  # Pillow's quality
            "jpeg",
            ((80, 65, 58, 50, 40), (65, 58, 50, 40, 25), (25, 18, 15, 10, 7)),
            _jpeg,
        ),
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


def _disc(radius: float, softness: float) -> np.ndarray:
    """The pixels within a radius, blurred by a Gaussian of few pixels, summing to 1, `(size, size)`."""
    reach = max(8, int(radius))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (rows**2 + columns**2 <= radius**2).astype(np.float64)
    taps = 1 if radius <= 8 else 2
    blurred = _ndimage().gaussian_filter(disc / disc.sum(), softness, radius=taps, mode="mirror")
    return np.asarray(blurred)


def _smeared(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """A weighted mean of the image and its copies moved by 1, 2, ... pixels along a line; edges are repeated."""
    offsets = np.arange(2 * radius + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    found = np.zeros_like(image)
    height, width = image.shape[:2]
    for weight, offset in zip(weights, offsets, strict=True):
        down, right = (math.ceil(offset * part(angle) - 0.5) for part in (math.sin, math.cos))
        rows = np.clip(np.arange(height) + down, 0, height - 1)
        columns = np.clip(np.arange(width) + right, 0, width - 1)
        found += np.float32(weight) * image[rows[:, np.newaxis], columns]
    return found


def _through_pillow(x: np.ndarray, change: Callable[[Any], Any]) -> np.ndarray:
    """Each image as an 8-bit picture, changed, and back."""
    bytes_ = np.round(x * 255).astype(np.uint8)
    grey = x.shape[3] == 1
    pictures = (_pillow().fromarray(image[..., 0] if grey else image) for image in bytes_)
    changed = np.stack([np.asarray(change(picture)) for picture in pictures])
    return changed.reshape(x.shape).astype(np.float32) / 255
