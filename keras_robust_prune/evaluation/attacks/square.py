"""Square attack: random search that needs no gradients, only scores."""

from __future__ import annotations

import math

import numpy as np

from keras_robust_prune.evaluation.attacks.registry import AttackKind
from keras_robust_prune.evaluation.attacks.threat import Threat
from keras_robust_prune.evaluation.classifier import Classifier
from keras_robust_prune.reporting.progress import Progress

FIRST_SHARE = 0.8
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(
    classifier: Classifier,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Random search over squares at the corners of the l-inf ball.

    Images lose squares, signals spans, tables random sets of features, smaller and smaller.

    Args:
        classifier: what is attacked; only its margins are asked for.
        x: inputs, `(num_inputs, num_features)`.
        labels: right classes, `(num_inputs,)`.
        threat: the ball; of norm `"linf"`.
        steps: how often the classifier may be asked about each input.
        rng: the source of all random numbers.

    Returns:
        Points of the ball, same shape as `x`.

    Reference:
        [Andriushchenko et al., 2020](https://arxiv.org/abs/1912.00049). Unlike theirs a change that leaves the margin
        where it is is taken, which crosses the plateaus of quantised outputs.
    """
    shape = threat.shape if len(threat.shape) in (2, 3) else (1, x.shape[1], 1)
    shape = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
    low, high = (threat.clip(x, x + sign * 2 * threat.eps * threat.scale) for sign in (-1, 1))
    scattered = len(threat.shape) not in (2, 3)
    up = rng.integers(0, 2, (len(x), 1, *shape[1:]), np.int8).astype(bool)
    up = np.broadcast_to(up, (len(x), *shape))
    best = np.where(up.reshape(len(x), -1), high, low)
    margins = classifier.margins(best, labels)
    for query in Progress.over("attack", range(1, steps)):
        left = np.flatnonzero(margins <= 0)
        if not left.size:
            break
        share = _share(query, steps)
        draw = _features if scattered else _window
        inside, up = (drawn.reshape(len(left), -1) for drawn in draw(rng, len(left), shape, share))
        tried = np.where(inside, np.where(up, high[left], low[left]), best[left])
        reached = classifier.margins(tried, labels[left])
        taken = reached >= margins[left]
        best[left[taken]] = tried[taken]
        margins[left[taken]] = reached[taken]
    return best


SQUARE = AttackKind("square", square, steps=1000, needs_gradients=False, norms=("linf",))


def _share(query: int, queries: int) -> float:
    """Which share of the features a change covers: halved at the paper's points of 10,000 queries."""
    done = query / queries * 10_000
    return FIRST_SHARE / 2.0 ** sum(done > point for point in _HALVINGS)


def _window(
    rng: np.random.Generator, num: int, shape: tuple[int, ...], share: float
) -> tuple[np.ndarray, np.ndarray]:
    """A square (or, where an axis is 1 long, a span) for each input, and for each channel whether it goes up."""
    height, width, channels = shape
    if 1 in (height, width):
        side = round(share * height * width)
    else:
        side = round(math.sqrt(share * height * width))
    tall, wide = (min(max(side, 1), size) for size in (height, width))
    top = rng.integers(0, height - tall + 1, (num, 1))
    left = rng.integers(0, width - wide + 1, (num, 1))
    rows = (np.arange(height) >= top) & (np.arange(height) < top + tall)
    columns = (np.arange(width) >= left) & (np.arange(width) < left + wide)
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    up = rng.integers(0, 2, (num, 1, 1, channels), np.int8).astype(bool)
    full = (num, height, width, channels)
    return np.broadcast_to(inside, full), np.broadcast_to(up, full)


def _features(
    rng: np.random.Generator, num: int, shape: tuple[int, ...], share: float
) -> tuple[np.ndarray, np.ndarray]:
    """A random set of features for each input, and for each whether it goes up."""
    full = (num, *shape)
    inside = rng.uniform(size=full) < max(share, 1.0 / math.prod(shape))
    return inside, rng.integers(0, 2, full, np.int8).astype(bool)
