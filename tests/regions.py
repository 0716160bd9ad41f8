"""The exact extremes of small ReLU networks with two inputs, by cutting the box into its linear regions."""

from __future__ import annotations

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]


def extremes(
    weights: Weights, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest outputs over a box of two inputs: a linear function is extremal at a region's corners.

    Args:
        weights: kernel and bias of each dense layer; ReLU between them.
        lower: the box's lower corner, `(2,)`.
        upper: its upper corner.
    """
    (a, b), (c, d) = lower, upper
    corners = np.array([[a, b], [c, b], [c, d], [a, d]])
    regions = [(corners, np.eye(2), np.zeros(2))]
    for depth, (kernel, bias) in enumerate(weights):
        regions = [(poly, slope @ kernel, at @ kernel + bias) for poly, slope, at in regions]
        if depth < len(weights) - 1:
            regions = [part for region in regions for part in _rectified(*region)]
    values = np.concatenate([poly @ slope + at for poly, slope, at in regions])
    return values.min(axis=0), values.max(axis=0)


def _rectified(polygon: np.ndarray, slope: np.ndarray, at: np.ndarray):
    """Cut a region where a neuron changes its mind, and switch the inactive ones off."""
    parts = [polygon]
    for k in range(slope.shape[1]):
        parts = [
            half
            for part in parts
            for sign in (1, -1)
            for half in [_half(part, sign * (part @ slope[:, k] + at[k]))]
            if len(half) > 2
        ]
    for part in parts:
        active = part.mean(axis=0) @ slope + at > 0
        yield part, slope * active, at * active


def _half(polygon: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The part of a convex polygon where an affine function is at least 0."""
    kept = []
    for k in range(len(polygon)):
        here, there = values[k - 1], values[k]
        if (here > 0) != (there > 0):
            share = here / (here - there)
            kept.append(polygon[k - 1] + share * (polygon[k] - polygon[k - 1]))
        if there > 0:
            kept.append(polygon[k])
    return np.array(kept)
