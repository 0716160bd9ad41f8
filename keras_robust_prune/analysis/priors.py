"""What an input may be, and what it looks like before the network has a say.

A prior knows no data. Images and signals have one of three looks: something bright before an even
background, a smooth texture, or things that cover one another. Tables are normal around their
neutral value.

Reference:
    [Lee, Mumford and Huang, 2001](https://doi.org/10.1023/A:1011109015675): pictures of things that
    cover one another, with radii that fall as a power, have the statistics of photographs. Ellipses
    instead of discs, and a little shade on each, are ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.network.graph import Graph, Ref

LOOKS = ("blobs", "textures", "leaves")
_NUM_LEAVES = 60
_RADII = (0.05, 0.8)  # of leaves, as shares of the longest side; their density falls as r**-3
_SHADE = 0.3


@dataclasses.dataclass(frozen=True, eq=False)
class InputSpace:
    """What one input of a network may be.

    Attributes:
        shape: without the batch axis; unknown lengths are filled in.
        lower, upper: bounds, broadcastable to `shape`.
        num_tokens: for whole-numbered inputs (of an Embedding) how many values there are, else 0.
    """

    shape: tuple[int, ...]
    lower: np.ndarray
    upper: np.ndarray
    num_tokens: int = 0

    @property
    def neutral(self) -> np.ndarray:
        """Where the raw value 0 lies between the bounds, [0, 1]: background, silence, the mean."""
        return np.clip(-self.lower / (self.upper - self.lower), 0.0, 1.0).astype("float32")

    def raw(self, unit: np.ndarray) -> np.ndarray:
        """Values of the network's inputs for values in [0, 1]."""
        if self.num_tokens:
            return unit
        return (self.lower + (self.upper - self.lower) * unit).astype("float32")


def input_spaces(graph: Graph, input_range: Any = (0.0, 1.0)) -> tuple[InputSpace, ...]:
    """Shapes and bounds of a network's inputs.

    Args:
        graph: the network.
        input_range: `(lower, upper)`, numbers or arrays of one input's shape; for several inputs a
        mapping from their
            names to such pairs, or one pair for all.

    Raises:
        ValueError: a range is missing, not finite or empty.
    """
    problems, spaces = [], []
    for ref in graph.inputs:
        given = input_range
        if isinstance(input_range, Mapping):
            if ref.node not in input_range:
                problems.append(f"input_range has no entry for the input '{ref.node}'")
                continue
            given = input_range[ref.node]
        lower, upper = (np.asarray(bound, "float32") for bound in given)
        if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower < upper).all()):
            problems.append(f"the range of '{ref.node}' is not finite with lower < upper")
            continue
        known = graph.shape(ref)
        filler = 32 if len(known) > 2 else 16
        shape = tuple(length or filler for length in known)
        spaces.append(InputSpace(shape, lower, upper, _num_tokens(graph, ref)))
    if problems:
        raise ValueError(f"{'; '.join(problems)}. Pass input_range=(lower, upper).")
    return tuple(spaces)


def _num_tokens(graph: Graph, ref: Ref) -> int:
    kinds = [graph.layer_of(node) for node in graph.readers.get(ref, ())]
    return min((int(x.config["input_dim"]) for x in kinds if x.kind == "Embedding"), default=0)


def start(
    space: InputSpace,
    count: int,
    rng: np.random.Generator,
    looks: Sequence[str] = ("blobs", "textures"),
) -> Any:
    """Draw inputs from the prior, in [0, 1] between the bounds.

    Args:
        space: what an input may be.
        count: how many.
        rng: of everything.
        looks: of images and signals, all alike often: `"blobs"`, background with smooth bright
            parts; `"textures"`, smooth noise of random brightness and contrast; `"leaves"`, the
            same of even things that cover one another. Of tables every entry is normal around the
            neutral value, with a width per row. Tokens are uniform.

    Returns:
        `(count, *shape)` float32.
    """
    shape = space.shape
    if space.num_tokens:
        return rng.integers(0, space.num_tokens, (count, *shape)).astype("float32")
    neutral = space.neutral
    broad = (count,) + (1,) * len(shape)
    if len(shape) < 2:
        width = rng.uniform(0.03, 0.25, broad)
        noise = width * rng.standard_normal((count, *shape))
        edge = (neutral == 0) | (neutral == 1)
        inner = neutral + noise
        return np.clip(np.where(edge, abs(neutral - abs(2 * noise)), inner), 0, 1).astype("float32")
    noise = smooth_noise(shape, count, rng)
    look = (len(looks) * rng.random(broad)).astype(int)
    up = rng.random(broad) >= neutral
    brightness, contrast = rng.uniform(0.3, 0.7, broad), rng.uniform(0.08, 0.3, broad)
    drawn = []
    for name in looks:
        if name == "blobs":
            axes = tuple(range(1, 1 + len(shape)))
            cut = np.quantile(noise, 0.8, axis=axes, keepdims=True)
            blobs = np.clip(3 * (noise - cut) / (noise.max(axes, keepdims=True) - cut + 1e-9), 0, 1)
            drawn.append(np.where(up, neutral + (1 - neutral) * blobs, neutral * (1 - blobs)))
        elif name == "leaves":
            leaves = _normalised(dead_leaves(shape, count, rng) + _SHADE * noise)
            drawn.append(brightness + contrast * leaves)
        else:
            drawn.append(brightness + contrast * noise)
    return np.clip(np.choose(look, drawn), 0, 1).astype("float32")


def dead_leaves(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """Even ellipses that cover one another; radii are distributed as r**-3, channels correlated.

    Returns:
        `(count, *shape)`, mean 0 and deviation 1 per item.

    Example:
        >>> x = dead_leaves((16, 16, 3), 2, np.random.default_rng(0))
        >>> x.shape, bool((np.diff(x, axis=1) == 0).mean() > 0.5)  # most neighbours are of one leaf
        ((2, 16, 16, 3), True)
    """
    spatial, channels = shape[:-1], shape[-1]
    grids = np.meshgrid(*[(np.arange(n) + 0.5) / max(spatial) for n in spatial], indexing="ij")
    broad = (count,) + (1,) * len(spatial)
    ends = [length / max(spatial) for length in spatial]
    found = np.broadcast_to(_colours(broad, channels, rng), (count, *shape))
    for _ in range(_NUM_LEAVES):
        share = rng.random(broad)
        radius = (share / _RADII[1] ** 2 + (1 - share) / _RADII[0] ** 2) ** -0.5
        away = np.zeros(1)
        for grid, end in zip(grids, ends, strict=True):
            axis = radius * np.exp(rng.normal(0, 0.4, broad))
            away = away + ((grid - end * rng.random(broad)) / axis) ** 2
        found = np.where((away < 1)[..., None], _colours(broad, channels, rng), found)
    return _normalised(found)


def _colours(broad: tuple[int, ...], channels: int, rng: np.random.Generator) -> np.ndarray:
    own = rng.standard_normal((*broad, channels))
    return own if channels == 1 else 0.45 * own + 0.9 * rng.standard_normal((*broad, 1))


def _normalised(noise: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 per item."""
    axes = tuple(range(1, noise.ndim))
    noise = noise - noise.mean(axes, keepdims=True)
    return np.asarray(noise / (noise.std(axes, keepdims=True) + 1e-9), "float32")


def smooth_noise(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose amplitude falls with frequency as f**-1.5 along all axes but the last.

    Returns:
        `(count, *shape)`, mean 0 and deviation 1 per item; channels are correlated.

    Example:
        >>> x = smooth_noise((16, 16, 1), 2, np.random.default_rng(0))
        >>> x.shape, bool(abs(np.diff(x, axis=1)).mean() < 0.6)  # of white noise it is 1.13
        ((2, 16, 16, 1), True)
    """
    spatial = shape[:-1]
    grids = np.meshgrid(*[np.fft.fftfreq(length) for length in spatial], indexing="ij")
    frequency = np.maximum(np.sqrt(sum(grid**2 for grid in grids)), 0.5 / max(spatial))
    axes = tuple(range(1, len(shape)))
    white = rng.standard_normal((count, *shape))
    if shape[-1] > 1:
        white = 0.45 * white + 0.9 * rng.standard_normal((count, *spatial, 1))
    spectrum = np.fft.fftn(white, axes=axes) * (frequency**-1.5)[..., None]
    noise = np.real(np.fft.ifftn(spectrum, axes=axes))
    return _normalised(noise)
