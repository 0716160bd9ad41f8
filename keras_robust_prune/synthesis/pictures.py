"""Natural and procedural pictures: inputs that no network shaped.

Photographs that travel with the package (`photographs/README.md` names their authors) become crops of any size; dead
leaves need not even those. Both stand beside inverted inputs, which have the classes but not the look of real
pictures, and take their place where inversion costs too much.

Reference:
    [Asano & Saeed, 2022](https://arxiv.org/abs/2112.00725) distil networks on crops of one photograph;
    [Lee et al., 2001](https://doi.org/10.1023/A:1011109015675) show that dead leaves have statistics of natural
    pictures.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
from collections.abc import Callable

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.synthesis.priors import smooth_noise

_SMALLEST = 8  # pixels of a side below which an input is no picture
_LEAST = (1, 1, 0, 0)  # height, width, left and top of a crop
_LEAVES = 160  # of one picture of dead leaves

Draw = Callable[[InputSpec, int, np.random.Generator], np.ndarray]


def is_picture(space: InputSpec) -> bool:
    """Whether an input can be a picture: height, width, and one or three channels of numbers.

    Example:
        >>> grey = InputSpec((28, 28, 1), np.float32(0), np.float32(1))
        >>> is_picture(grey), is_picture(InputSpec((28, 28, 2), grey.lower, grey.upper))
        (True, False)
    """
    shape = space.shape
    return (
        not space.num_tokens
        and len(shape) == 3
        and min(shape[:2]) >= _SMALLEST
        and shape[2] in (1, 3)
    )


@functools.cache
def photographs() -> tuple[tuple[tuple[np.ndarray, ...], ...], ...]:
    """The photographs of the package by motif, each at its own and at ever halved sizes, `(height, width, 3)` uint8.

    Views of one panorama are one motif: `park_000.jpg` and `park_090.jpg`. Grey ones repeat their channel.
    """
    decode = backends.tensorflow().io.decode_jpeg
    folder = importlib.resources.files("keras_robust_prune.synthesis") / "photographs"
    motifs: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        stem, _, ending = file.name.rpartition(".")
        if ending == "jpg":
            picture = np.asarray(decode(file.read_bytes(), channels=3))
            motifs.setdefault(stem.rstrip("0123456789"), []).append(_halved(picture))
    return tuple(tuple(views) for views in motifs.values())


def _halved(picture: np.ndarray) -> tuple[np.ndarray, ...]:
    sizes = [picture]
    while min(sizes[-1].shape[:2]) >= 4 * _SMALLEST:
        tall, wide = (length // 2 for length in sizes[-1].shape[:2])
        whole = sizes[-1][: 2 * tall, : 2 * wide].reshape(tall, 2, wide, 2, 3)
        sizes.append(np.round(whole.mean((1, 3))).astype(np.uint8))
    return tuple(sizes)


def crops(space: InputSpec, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw crops of the package's photographs, every motif alike, in [0, 1] between the bounds of the input.

    Sides reach from half the input's to the whole photograph's, evenly in their logarithm, with aspects of 3:4 to
    4:3; half of the crops are mirrored, half have their brightness, contrast and saturation changed.

    Args:
        space: the input; `is_picture` holds.
        count: how many.
        rng: of everything drawn.

    Returns:
        `(count, *space.shape)` float32.

    Example:
        >>> space = InputSpec((32, 32, 3), np.float32(-1), np.float32(1))
        >>> x = crops(space, 2, np.random.default_rng(0))
        >>> x.shape, bool(x.min() >= 0), bool(x.max() <= 1)
        ((2, 32, 32, 3), True, True)
    """
    height, width, channels = space.shape
    motifs = photographs()
    found = np.empty((count, *space.shape), np.float32)
    for row in found:
        views = motifs[rng.integers(len(motifs))]
        sizes = views[rng.integers(len(views))]
        box = _window(sizes[0].shape, (height, width), rng)
        # The smallest copy in which the crop still has a pixel for each of the input's.
        scale = max(0, int(math.log2(max(min(box[0] / height, box[1] / width), 1.0))))
        scale = min(scale, len(sizes) - 1)
        tall, wide, left, top = (
            max(number >> scale, least) for number, least in zip(box, _LEAST, strict=True)
        )
        part = sizes[scale][top : top + tall, left : left + wide]
        if rng.random() < 0.5:
            part = part[:, ::-1]
        jittered = _jittered(_resized(part, height, width), rng)
        row[...] = jittered if channels == 3 else _grey(jittered)
    return found


def _window(
    picture: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Height, width, left and top of a crop."""
    tallest, widest = picture[:2]
    aspect = size[1] / size[0] * math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    most = min(tallest, widest / aspect)
    least = min(size[0] / 2, most)
    tall = math.exp(rng.uniform(math.log(least), math.log(most)))
    wide = max(1, min(widest, round(tall * aspect)))
    tall = max(1, min(tallest, round(tall)))
    return tall, wide, int(rng.integers(widest - wide + 1)), int(rng.integers(tallest - tall + 1))


def _resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bytes to numbers in [0, 1] of another size, by a triangle as wide as a pixel of the coarser side."""
    rows = _weights(picture.shape[0], height) / np.float32(255)
    columns = _weights(picture.shape[1], width)
    tall, wide, channels = picture.shape
    fewer = rows @ np.ascontiguousarray(picture, np.float32).reshape(tall, wide * channels)
    return columns @ fewer.reshape(height, wide, channels)


@functools.lru_cache(maxsize=256)
def _weights(length: int, size: int) -> np.ndarray:
    """What each of `length` pixels gives to each of `size`, `(size, length)`; rows sum to 1."""
    scale = length / size
    centres = (np.arange(size) + 0.5) * scale - 0.5
    away = abs(np.arange(length) - centres[:, None]) / max(scale, 1.0)
    found = np.maximum(1.0 - away, 0.0)
    return (found / found.sum(1, keepdims=True)).astype(np.float32)


def _grey(picture: np.ndarray) -> np.ndarray:
    return picture @ np.array([[0.299], [0.587], [0.114]], np.float32)


def _jittered(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        grey = _grey(picture)
        picture = grey + rng.uniform(0.5, 1.4) * (picture - grey)
        mean = picture.mean()
        picture = mean + rng.uniform(0.6, 1.4) * (picture - mean) + rng.uniform(-0.15, 0.15)
    return np.clip(picture, 0.0, 1.0)


def procedural(space: InputSpec, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw procedural pictures in [0, 1]: overlapping leaves, each with a texture of its own.

    Half of the leaves are discs, the rest rectangles turned at random; sizes follow a power law. The ground is smooth
    noise.

    Args:
        space: the input; `is_picture` holds.
        count: how many.
        rng: of everything drawn.

    Returns:
        `(count, *space.shape)` float32.

    Example:
        >>> space = InputSpec((32, 32, 1), np.float32(0), np.float32(1))
        >>> procedural(space, 2, np.random.default_rng(0)).shape
        (2, 32, 32, 1)
    """
    height, width, channels = space.shape
    noise = smooth_noise((height, width, 3), 2 * count, rng)
    found = np.empty((count, *space.shape), np.float32)
    for k, row in enumerate(found):
        ground = rng.uniform(0.2, 0.8, 3) + rng.uniform(0.0, 0.25) * noise[2 * k]
        picture = _leaves(ground.astype(np.float32), noise[2 * k + 1], rng)
        row[...] = picture if channels == 3 else _grey(picture)
    return found


def _leaves(picture: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leaves laid over a picture, `(height, width, 3)`."""
    height, width, _ = picture.shape
    number = int(_LEAVES * rng.random() ** 2)
    least = max(1.5, min(height, width) / 40)
    most = min(height, width) / 2
    for size in (least**-2 + rng.random(number) * (most**-2 - least**-2)) ** -0.5:
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        top, left = max(int(y - 1.5 * size), 0), max(int(x - 1.5 * size), 0)
        bottom, right = min(int(y + 1.5 * size) + 1, height), min(int(x + 1.5 * size) + 1, width)
        down, across = np.ogrid[top:bottom, left:right]
        down, across = down - y, across - x
        if rng.random() < 0.5:
            inside = down**2 + across**2 < size**2
        else:
            angle, slim = rng.uniform(0, math.pi), rng.uniform(0.2, 1.0)
            along = down * math.cos(angle) + across * math.sin(angle)
            aside = across * math.cos(angle) - down * math.sin(angle)
            inside = (abs(along) < size) & (abs(aside) < slim * size)
        colour = rng.uniform(0, 1) + rng.normal(0, 0.2, 3)
        texture = rng.uniform(0, 0.15) * noise[top:bottom, left:right]
        part = picture[top:bottom, left:right]
        part[inside] = (colour + texture)[inside]
    return np.clip(picture, 0.0, 1.0)
