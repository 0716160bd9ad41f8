"""Means and covariances along the last axis of a tensor, and how operations pass them on: estimates, not bounds.

A tensor is taken as Gaussian along its last axis, the same at every position, positions correlated by one half.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

NEIGHBOURS = 0.5
"""Correlation between positions."""

_TERMS = 12  # of Mehler's series
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
_FACTORIALS = np.cumprod([1.0, *range(1, _TERMS)])
_HERMITE = np.polynomial.hermite_e.hermevander(_NODES, _TERMS - 1) / np.sqrt(_FACTORIALS)
_HERMITE = _HERMITE * (_WEIGHTS / _WEIGHTS.sum())[:, None]


class Gaussian(NamedTuple):
    """Mean `(channels,)` and covariance `(channels, channels)` along a tensor's last axis."""

    mean: np.ndarray
    covariance: np.ndarray

    def times(self, matrix: np.ndarray, constant: Any = 0.0) -> Gaussian:
        """Of `x @ matrix + constant`."""
        return Gaussian(self.mean @ matrix + constant, matrix.T @ self.covariance @ matrix)

    def scaled(self, factor: Any, constant: Any = 0.0) -> Gaussian:
        """Of `x * factor + constant`, channel by channel."""
        factor = np.broadcast_to(np.asarray(factor, float), self.mean.shape)
        return Gaussian(self.mean * factor + constant, self.covariance * np.outer(factor, factor))

    def tiled(self, copies: int) -> Gaussian:
        """Several positions side by side, position by position."""
        between = np.full((copies, copies), NEIGHBOURS)
        np.fill_diagonal(between, 1.0)
        return Gaussian(np.tile(self.mean, copies), np.kron(between, self.covariance))

    def filtered(self, taps: np.ndarray, constant: Any = 0.0) -> Gaussian:
        """Of several positions side by side, times a matrix: `taps` of shape `(positions, channels, units)`.

        The same as `tiled(len(taps)).times(...)`, without the large covariance.
        """
        summed = taps.sum(0)
        alone = np.einsum("tik,ij,tjl->kl", taps, self.covariance, taps, optimize=True)
        together = summed.T @ self.covariance @ summed
        covariance = (1 - NEIGHBOURS) * alone + NEIGHBOURS * together
        return Gaussian(self.mean @ summed + constant, covariance)

    def averaged(self, count: int) -> Gaussian:
        """Of the mean of several positions."""
        return Gaussian(self.mean, self.covariance * (NEIGHBOURS + (1 - NEIGHBOURS) / count))

    def largest(self, count: int) -> Gaussian:
        """Of the largest of several positions.

        A position is what all have in common and a part of its own, independent between positions; of the own parts
        the largest counts, whose mean and variance are those of the largest of so many standard normal numbers.
        """
        mean, variance = _largest_of(count)
        own = np.sqrt((1 - NEIGHBOURS) * np.maximum(np.diag(self.covariance), 0.0))
        share = NEIGHBOURS + (1 - NEIGHBOURS) * variance
        return Gaussian(self.mean + mean * own, self.covariance * share)

    def activated(self, function: Callable[[np.ndarray], np.ndarray]) -> Gaussian:
        """Of `function(x)`, by Mehler's formula: with c_k the Hermite coefficients, `cov = sum_k c_k c_k' rho**k`."""
        deviation = np.sqrt(np.maximum(np.diag(self.covariance), 1e-12))
        values = function(self.mean[:, None] + deviation[:, None] * _NODES)
        coefficients = values @ _HERMITE
        correlation = np.clip(self.covariance / np.outer(deviation, deviation), -1.0, 1.0)
        power, covariance = np.ones_like(correlation), np.zeros_like(correlation)
        for column in coefficients.T[1:]:
            power = power * correlation
            covariance += np.outer(column, column) * power
        return Gaussian(coefficients[:, 0], covariance)


def _largest_of(count: int) -> tuple[float, float]:
    """Mean and variance of the largest of so many standard normal numbers, by integrating its distribution."""
    x = np.linspace(-8.0, 8.0, 4001)
    density = np.exp(-np.square(x) / 2)
    below = np.cumsum(density)
    share = np.diff(np.power(below / below[-1], count), prepend=0.0)
    mean = float(share @ x)
    return mean, float(share @ np.square(x)) - mean**2
