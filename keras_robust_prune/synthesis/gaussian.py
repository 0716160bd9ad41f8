"""Means and covariances of every tensor from weights and BatchNorm statistics alone.

They are estimates, not bounds.
Inputs have variance (upper - lower)^2 / 12 around their neutral value; every tensor is treated as
Gaussian along its last axis, the same at every position, neighbours correlated by one half. Linear
layers pass moments exactly under these assumptions, BatchNorm replaces scale and mean by what it
stores, activations follow Mehler's formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.synthesis.priors import InputSpace

NEIGHBOURS = 0.5  # correlation between positions
_WIDEST = 8192  # channels beyond which no covariance is kept
_TERMS = 12  # of Mehler's series
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
_FACTORIALS = np.cumprod([1.0, *range(1, _TERMS)])
_HERMITE = np.polynomial.hermite_e.hermevander(_NODES, _TERMS - 1) / np.sqrt(_FACTORIALS)
_HERMITE = _HERMITE * (_WEIGHTS / _WEIGHTS.sum())[:, None]


class Gaussian(NamedTuple):
    """Mean `(channels,)` and covariance `(channels, channels)` along a tensor's last axis."""

    mean: np.ndarray
    covariance: np.ndarray


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


FUNCTIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda z: np.maximum(z, 0.0),
    "relu6": lambda z: np.clip(z, 0.0, 6.0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.2 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0.0))),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softplus": lambda z: np.logaddexp(z, 0.0),
    "swish": lambda z: z * _sigmoid(z),
    "silu": lambda z: z * _sigmoid(z),
    "gelu": lambda z: z * _sigmoid(1.702 * z),
}


def propagate(graph: Graph, spaces: tuple[InputSpace, ...]) -> Mapping[Ref, Gaussian | None]:
    """Estimated moments of every tensor; None where a layer is unknown or too wide.

    Args:
        graph: the network, activations split off.
        spaces: of its inputs.

    Example:
        A Dense layer of weight 2 on an input in [0, 1] has mean 0 and variance 4 / 12.
    """
    found: dict[Ref, Gaussian | None] = {}
    for ref, space in zip(graph.inputs, spaces, strict=True):
        width = space.shape[-1]
        lower, upper = (
            np.broadcast_to(bound, space.shape).reshape(-1, width).mean(0).astype(float)
            for bound in (space.lower, space.upper)
        )
        mean = np.clip(0.0, lower, upper)
        found[ref] = Gaussian(mean, np.diag((upper - lower) ** 2 / 12))
    for node in graph.nodes:
        if node.ref in found:
            continue
        inputs = [found.get(ref) for ref in node.inputs]
        result = None
        if inputs and all(part is not None for part in inputs):
            known = [part for part in inputs if part is not None]
            result = _pass(graph, node, known)
        for index in range(len(node.shapes)):
            found[Ref(node.name, index)] = result
    return found


def _pass(graph: Graph, node: Node, inputs: list[Gaussian]) -> Gaussian | None:
    layer = graph.layer_of(node)
    first = inputs[0]
    width = node.shapes[0][-1] if node.shapes and node.shapes[0] else None
    if layer.kind in ("Dense", "Conv1D", "Conv2D") and layer.config.get("groups", 1) == 1:
        return _linear(layer, first)
    if layer.kind == "BatchNormalization" and "moving_mean" in layer.weights:
        return _normalised(layer, first)
    if layer.kind in ("Activation", "ReLU"):
        name = "relu" if layer.kind == "ReLU" else str(layer.config.get("activation"))
        return _activated(FUNCTIONS[name], first) if name in FUNCTIONS else None
    if layer.kind == "Add":
        return Gaussian(
            np.sum([part.mean for part in inputs], axis=0),
            np.sum([part.covariance for part in inputs], axis=0),
        )
    if layer.kind == "Flatten":
        return _tiled(first, width)
    same = len(inputs) == 1 and width == len(first.mean)
    return first if same and not layer.weights else None


def tile(inner: Gaussian, copies: int) -> Gaussian:
    """Several positions side by side, position by position."""
    between = np.full((copies, copies), NEIGHBOURS)
    np.fill_diagonal(between, 1.0)
    return Gaussian(np.tile(inner.mean, copies), np.kron(between, inner.covariance))


def _tiled(inner: Gaussian, width: int | None) -> Gaussian | None:
    if not width or width > _WIDEST or width % len(inner.mean):
        return None
    return tile(inner, width // len(inner.mean))


def _linear(layer: Layer, inner: Gaussian) -> Gaussian:
    kernel = layer.weights["kernel"].astype(float)
    taps = kernel.reshape(-1, *kernel.shape[-2:])
    summed = taps.sum(0)
    mean = inner.mean @ summed + layer.weights.get("bias", 0.0)
    alone = np.einsum("tik,ij,tjl->kl", taps, inner.covariance, taps, optimize=True)
    together = summed.T @ inner.covariance @ summed
    return Gaussian(mean, (1 - NEIGHBOURS) * alone + NEIGHBOURS * together)


def _normalised(layer: Layer, inner: Gaussian) -> Gaussian:
    gamma = layer.weights.get("gamma", np.ones(len(inner.mean)))
    beta = layer.weights.get("beta", np.zeros(len(inner.mean)))
    deviation = np.sqrt(np.maximum(np.diag(inner.covariance), 1e-12))
    correlation = inner.covariance / np.outer(deviation, deviation)
    return Gaussian(beta.astype(float), correlation * np.outer(gamma, gamma))


def _activated(function: Callable[[np.ndarray], np.ndarray], inner: Gaussian) -> Gaussian:
    """Mehler's formula: with c_k the Hermite coefficients of f, `cov = sum_k c_k c_k' rho**k`."""
    deviation = np.sqrt(np.maximum(np.diag(inner.covariance), 1e-12))
    values = function(inner.mean[:, None] + deviation[:, None] * _NODES)
    coefficients = values @ _HERMITE
    correlation = np.clip(inner.covariance / np.outer(deviation, deviation), -1.0, 1.0)
    power, covariance = np.ones_like(correlation), np.zeros_like(correlation)
    for column in coefficients.T[1:]:
        power = power * correlation
        covariance += np.outer(column, column) * power
    return Gaussian(coefficients[:, 0], covariance)
