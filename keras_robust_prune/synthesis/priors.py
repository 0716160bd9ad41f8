"""What an input looks like before the network has a say.

A prior knows no data: images and signals are smooth, many show something bright before an even
background, tables are normal around their neutral value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_robust_prune.inputs import InputSpec


def start(space: InputSpec, count: int, rng: np.random.Generator, sparse: float = 0.5) -> Any:
    """Draw inputs from the prior, in [0, 1] between the bounds.

    Of images and signals a share of `sparse` is background with smooth bright parts, the rest
    smooth textures of random brightness and contrast. Of tables every entry is normal around the
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
    axes = tuple(range(1, 1 + len(shape)))
    noise = smooth_noise(shape, count, rng)
    share = rng.random(broad) < sparse
    cut = np.quantile(noise, 0.8, axis=axes, keepdims=True)
    blobs = np.clip(3 * (noise - cut) / (noise.max(axes, keepdims=True) - cut + 1e-9), 0, 1)
    up = rng.random(broad) >= neutral
    blobs = np.where(up, neutral + (1 - neutral) * blobs, neutral * (1 - blobs))
    texture = rng.uniform(0.3, 0.7, broad) + rng.uniform(0.08, 0.3, broad) * noise
    return np.clip(np.where(share, blobs, texture), 0, 1).astype("float32")


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
    every = (*axes, len(shape))
    noise -= noise.mean(every, keepdims=True)
    noise /= noise.std(every, keepdims=True) + 1e-9
    return np.asarray(noise, "float32")
