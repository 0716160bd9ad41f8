"""Does a `.tflite` file still say what its Keras model says? Agreement and noise, on held-out inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_robust_prune.evaluation.layout import Layout
from keras_robust_prune.evaluation.litefile import LiteFile

# Signal-to-noise ratios stop here: float32 against itself has no noise at all.
MOST_DECIBELS = 150.0
# On so many inputs the layers of two files are compared.
LAYER_INPUTS = 16


@dataclasses.dataclass(frozen=True)
class LayerNoise:
    """How far one layer's output in a file is from that in the float32 file.

    Attributes:
        layer: the name of the layer's output tensor in the file.
        decibels: `10 log10(sum of squares / sum of squared errors)`; higher is better, below 10 is poor.
    """

    layer: str
    decibels: float


def agreement(
    wanted: Sequence[np.ndarray], found: Sequence[np.ndarray], activations: Sequence[str]
) -> float:
    """The share of inputs on which a file says the same as its model, of the output that agrees least.

    What counts as the same depends on the output's last activation: softmax and several linear values: the largest
    value is the same one (at every position of a map, the share of positions counts); sigmoid: every value is on the
    same side of 1/2; a single linear value: it moves by at most a tenth of what it varies over the inputs (standard
    deviation).

    Args:
        wanted: the model's outputs, `(num_inputs, ...)` each.
        found: the file's.
        activations: the last activation of each output.

    Returns:
        A share in [0, 1]; higher is better.

    Example:
        >>> one, other = np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.8, 0.2], [0.6, 0.4]])
        >>> agreement([one], [other], ["softmax"])
        0.5
    """
    return min(
        float(_same(want.reshape(have.shape), have, activation).mean())
        for want, have, activation in zip(wanted, found, activations, strict=True)
    )


def _same(want: np.ndarray, have: np.ndarray, activation: str) -> np.ndarray:
    if activation == "sigmoid":
        return (want > 0.5) == (have > 0.5)
    if want.ndim > 1 and want.shape[-1] > 1:
        return want.argmax(-1) == have.argmax(-1)
    return np.abs(want - have) <= 0.1 * want.std() + 1e-6 * np.abs(want).max()


def decibels(signal: np.ndarray, other: np.ndarray) -> float:
    """Signal-to-noise ratio in dB; higher is better.

    Example:
        >>> decibels(np.array([1.0, 1.0]), np.array([1.1, 0.9]))  # 10 log10(2 / .02)
        20.0
    """
    power = float(np.square(signal, dtype=np.float64).sum())
    noise = float(np.square(signal - other, dtype=np.float64).sum())
    if not np.isfinite(noise):
        return -MOST_DECIBELS
    ratio = 10 * np.log10(max(power, 1e-300) / max(noise, 1e-300))
    return float(round(np.clip(ratio, -MOST_DECIBELS, MOST_DECIBELS), 6))


def layer_noise(
    reference: bytes, content: bytes, layout: Layout, rows: np.ndarray
) -> tuple[LayerNoise, ...]:
    """Noise of every layer whose output both files hold, the worst first.

    The converter names a tensor after the layers that compute it, alike in float32 and int8; layers that it fused in
    one file alone are left out.

    Args:
        reference: the float32 file.
        content: the file that is looked at.
        layout: of the inputs.
        rows: inputs, `(num, num_features)`; the first few are used.
    """
    want, have = (every_tensor(file, layout, rows[:LAYER_INPUTS]) for file in (reference, content))
    common = [name for name in want if name in have and want[name].shape == have[name].shape]
    noise = [LayerNoise(name, decibels(want[name], have[name])) for name in common]
    return tuple(sorted(noise, key=lambda item: item.decibels))


def every_tensor(content: bytes, layout: Layout, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What every operator of a file computes on some inputs, `(num, ...)` float32, by the tensor's name."""
    file = LiteFile(content, layout.names, keep_tensors=True)
    parts: dict[str, list[np.ndarray]] = {}
    for row in rows:
        for name, value in file.tensors(row[np.newaxis]).items():
            parts.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in parts.items()}
