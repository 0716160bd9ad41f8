"""How much a deviation of the outputs matters: its total width, and how unlike the outputs move.

Both are read off the intervals of an output deviation, pruned minus dense, and weighed into one
number, the energy. Lower is better.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from keras_robust_prune.primitives.intervals import Interval

# Intervals are compared in blocks of this many numbers.
BLOCK = 1 << 22


def l1_width(deviation: Interval) -> np.ndarray:
    """Total width of an output deviation: how far the outputs may move apart.

    Sum over outputs k of upper_k - lower_k; 0 means that every output moves by a known amount.

    Args:
        deviation: pruned minus dense outputs, `(..., num_outputs)`, in logits.

    Returns:
        `(...)`, >= 0, in logits. Lower is better.

    Example:
        >>> float(l1_width(Interval(np.array([-1.0, 0.0]), np.array([1.0, 3.0]))))
        5.0

    Reference:
        [Meng et al., 2023](https://arxiv.org/abs/2204.00783).
    """
    return np.sum(deviation.upper - deviation.lower, axis=-1)


def entropy(deviation: Interval, similarity: float = 0.9) -> np.ndarray:
    """How unlike the outputs move; 0 if all of them shift alike, which keeps their ranking.

    Two outputs are alike if `1 - (|lower_i - lower_j| + |upper_i - upper_j|) / (2 * width)` is at
    least `similarity`, where `width` is that of the hull of all intervals and 0. With `p_i` the
    part of the outputs that are alike to output i, itself included, it is `-sum p_i ln p_i`.

    Not monotone: ten outputs in groups of k give `k * ln(10 / k)`, most for groups of four.

    Args:
        deviation: pruned minus dense outputs, `(..., num_outputs)`.
        similarity: from which similarity on two outputs are alike, in [0, 1].

    Returns:
        `(...)`, >= 0, in nats. Lower is better.

    Example:
        >>> same = np.full(10, 0.5)
        >>> float(entropy(Interval(same, same + 1.0)))
        0.0

    Reference:
        Dai, Xu & Xu, 2016, as used by [Meng et al., 2023](https://arxiv.org/abs/2204.00783).
    """
    num_outputs = deviation.lower.shape[-1]
    lower = deviation.lower.reshape(-1, num_outputs)
    upper = deviation.upper.reshape(-1, num_outputs)
    found = np.empty(len(lower))
    size = max(1, BLOCK // num_outputs**2)
    for begin in range(0, len(lower), size):
        block = slice(begin, begin + size)
        found[block] = _entropy(lower[block], upper[block], similarity)
    return found.reshape(deviation.lower.shape[:-1])


def _entropy(lower: np.ndarray, upper: np.ndarray, similarity: float) -> np.ndarray:
    hull = np.maximum(upper.max(-1), 0.0) - np.minimum(lower.min(-1), 0.0)
    apart = np.abs(lower[:, :, None] - lower[:, None, :])
    apart += np.abs(upper[:, :, None] - upper[:, None, :])
    # An unmoved network has an empty hull: all of its outputs are alike.
    apart *= (0.5 / np.where(hull > 0, hull, 1.0))[:, None, None]
    alike = np.subtract(1.0, apart, out=apart) >= similarity
    part = np.count_nonzero(alike, axis=-1) / lower.shape[-1]
    return -np.sum(part * np.log(part), axis=-1) + 0.0


@dataclasses.dataclass(frozen=True)
class Scale:
    """What counts as a usual deviation: medians over the candidates of one layer and step.

    Attributes:
        width: a usual L1 width, in logits.
        entropy: a usual entropy, in nats.
    """

    width: float
    entropy: float

    @classmethod
    def of(cls, widths: np.ndarray, entropies: np.ndarray) -> Scale:
        """The medians of candidates' widths and entropies."""
        return cls(float(np.median(widths)), float(np.median(entropies)))


class Energy(Protocol):
    """Widths and entropies of output deviations, weighed into one number each; lower is better."""

    def __call__(self, width: ArrayLike, entropy: ArrayLike, scale: Scale) -> np.ndarray:
        """The energies, in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class PublishedEnergy:
    """`alpha * sigmoid(width) + (1 - alpha) * sigmoid(entropy)`, as published.

    The sigmoid is 1 within 5e-5 from a width of 10 logits on. ReLU networks always are beyond
    that, so there this energy hardly tells one candidate from another.

    Attributes:
        alpha: weight of the width, in [0, 1].

    Example:
        >>> PublishedEnergy(0.75)([10.0, 500.0], 0.0, Scale(1.0, 1.0)).round(4).tolist()
        [0.875, 0.875]

    Reference:
        [Meng et al., 2023](https://arxiv.org/abs/2204.00783).
    """

    alpha: float = 0.75

    def __call__(self, width: ArrayLike, entropy: ArrayLike, scale: Scale) -> np.ndarray:
        """The energies, in [0.5, 1]."""
        return self.alpha * _sigmoid(width) + (1.0 - self.alpha) * _sigmoid(entropy)


@dataclasses.dataclass(frozen=True)
class RelativeEnergy:
    """The published energy with widths and entropies taken relative to usual ones.

    `alpha * r(width) + (1 - alpha) * r(entropy)` with `r(x) = x / (x + usual x)`: the sigmoid of
    the *logarithm* of the ratio. A usual candidate has energy 1/2, one twice as wide 2/3,
    whatever the network's scale is, so that it never saturates.

    Attributes:
        alpha: weight of the width, in [0, 1].

    Example:
        >>> RelativeEnergy(1.0)([10.0, 30.0], 0.0, Scale(10.0, 1.0)).tolist()
        [0.5, 0.75]
    """

    alpha: float = 0.75

    def __call__(self, width: ArrayLike, entropy: ArrayLike, scale: Scale) -> np.ndarray:
        """The energies, in [0, 1]."""
        return self.alpha * _relative(width, scale.width) + (1.0 - self.alpha) * _relative(
            entropy, scale.entropy
        )


def weighed(deviation: Interval, energy: Energy) -> tuple[np.ndarray, Scale]:
    """The energies of candidates, measured by what is usual among them, and what that is.

    Args:
        deviation: pruned minus unpruned logits, `(candidates, outputs)`.
        energy: what weighs width and entropy.

    Returns:
        `(candidates,)`, and the scale.
    """
    widths, entropies = l1_width(deviation), entropy(deviation)
    scale = Scale.of(widths, entropies)
    return energy(widths, entropies, scale), scale


def _sigmoid(value: ArrayLike) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(value, np.float64))))


def _relative(value: ArrayLike, usual: float) -> np.ndarray:
    value = np.asarray(value, np.float64)
    return np.divide(value, value + usual, out=np.zeros_like(value), where=value > 0.0)
