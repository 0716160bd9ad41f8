"""The table of activations: Keras's names and layers to `Elementwise` primitives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from keras_robust_prune.primitives.elementwise import Elementwise, ReLU

_erf = np.frompyfunc(math.erf, 1, 1)


def piecewise_linear(
    name: str, points: tuple[float, ...], slopes: tuple[float, ...], value: float = 0.0
) -> Elementwise:
    """A continuous piecewise linear function.

    Args:
        name: what it is called.
        points: where the slope changes, ascending.
        slopes: one more than points.
        value: f at the first point.
    """
    heights = [value]
    for k in range(1, len(points)):
        heights.append(heights[-1] + slopes[k] * (points[k] - points[k - 1]))

    def function(x: np.ndarray) -> np.ndarray:
        y = heights[0] + slopes[0] * (x - points[0])
        for at, height, slope in zip(points, heights, slopes[1:], strict=True):
            y = np.where(x > at, height + slope * (x - at), y)
        return y

    def derivative(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.array(slopes)[np.searchsorted(np.array(points), x)])

    return Elementwise(
        name,
        function,
        derivative,
        points,
        tuple(itertools.pairwise(slopes)),
        increasing=min(slopes) >= 0,
        convex=list(slopes) == sorted(slopes),
        bent=False,
        ulps=4,
    )


def linear(name: str = "linear") -> Elementwise:
    """The identity."""
    return Elementwise(
        name, lambda x: x, lambda x: np.ones_like(x), convex=True, bent=False, ulps=0
    )


def leaky_relu(alpha: Any, name: str = "leaky_relu") -> Elementwise:
    """X above 0, alpha * x below; alpha may be an array (PReLU)."""
    alpha = np.asarray(alpha, np.float64)

    def slope(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, 1, np.broadcast_to(alpha, x.shape)).astype(x.dtype)

    return Elementwise(
        name,
        lambda x: np.where(x > 0, x, alpha.astype(x.dtype) * x),
        slope,
        (0.0,),
        ((alpha, 1.0),),
        increasing=bool(alpha.min(initial=0) >= 0),
        convex=bool(alpha.max(initial=0) <= 1),
        bent=False,
        ulps=2,
        uniform=alpha.ndim == 0,
    )


def relu(
    max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0
) -> Elementwise:
    """Keras's ReLU layer with all its arguments."""
    slope, top = float(negative_slope or 0), None if max_value is None else float(max_value)
    threshold = float(threshold or 0)
    if threshold:
        return thresholded(slope, top, threshold)
    if top is None:
        return leaky_relu(slope, "relu") if slope else ReLU()
    return piecewise_linear("relu", (0.0, top), (slope, 1.0, 0.0))


def thresholded(slope: float, top: float | None, threshold: float) -> Elementwise:
    """X from the threshold on, slope * (x - threshold) below it: a jump."""
    largest = math.inf if top is None else top

    def function(x: np.ndarray) -> np.ndarray:
        return np.where(x >= threshold, np.minimum(x, largest), slope * (x - threshold))

    def derivative(x: np.ndarray) -> np.ndarray:
        return np.where(x >= threshold, np.where(x < largest, 1.0, 0.0), slope).astype(x.dtype)

    breaks = (threshold,) if top is None else (threshold, top)
    return Elementwise(
        "relu", function, derivative, breaks, increasing=False, bent=False, continuous=False
    )


def elu(alpha: float = 1.0, scale: float = 1.0, name: str = "elu") -> Elementwise:
    """Scale * x above 0, scale * alpha * (exp(x) - 1) below."""
    alpha, scale = float(alpha), float(scale)

    def function(x: np.ndarray) -> np.ndarray:
        return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))

    def derivative(x: np.ndarray) -> np.ndarray:
        return scale * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))

    kinks = ((scale * alpha, scale),)
    return Elementwise(name, function, derivative, (0.0,), kinks, convex=alpha <= 1)


def sigmoid_value(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow."""
    power = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, power) / (1 + power))


def sigmoid() -> Elementwise:
    """1 / (1 + exp(-x))."""

    def derivative(x: np.ndarray) -> np.ndarray:
        power = np.exp(-np.abs(x))
        return np.asarray(power / (1 + power) ** 2)

    return Elementwise("sigmoid", sigmoid_value, derivative, (0.0,))


def tanh() -> Elementwise:
    """Hyperbolic tangent."""
    return Elementwise("tanh", np.tanh, lambda x: 1 / np.cosh(np.clip(x, -40, 40)) ** 2, (0.0,))


def softsign() -> Elementwise:
    """X / (1 + |x|)."""
    return Elementwise(
        "softsign", lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2, (0.0,)
    )


def softplus() -> Elementwise:
    """log(1 + exp(x))."""
    return Elementwise(
        "softplus",
        lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
        sigmoid_value,
        convex=True,
    )


def log_sigmoid() -> Elementwise:
    """-softplus(-x)."""
    return Elementwise(
        "log_sigmoid",
        lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))),
        lambda x: sigmoid_value(-x),
    )


def exponential() -> Elementwise:
    """exp(x)."""
    return Elementwise("exponential", np.exp, np.exp, convex=True)


def _inflections(derivative: Callable[[np.ndarray], np.ndarray]) -> tuple[float, ...]:
    """Where f' is extremal, found on a grid and refined by ternary search."""
    grid = np.linspace(-12, 12, 24001)
    turns = np.diff(np.sign(np.diff(derivative(grid))))
    strong = np.abs(derivative(grid[1:-1]) - derivative(grid[:-2])) > 1e-13
    found = []
    for k in np.flatnonzero((np.abs(turns) > 1) & strong):
        start, stop, sign = grid[k], grid[k + 2], -1 if turns[k] > 0 else 1
        for _ in range(60):
            third = (stop - start) / 3
            ends = derivative(np.array([start + third, stop - third])) * sign
            start, stop = (start, stop - third) if ends[0] > ends[1] else (start + third, stop)
        found.append(float(start + stop) / 2)
    return tuple(found)


def _curve(name: str, function: Any, derivative: Any) -> Elementwise:
    """A smooth function that falls and rises."""
    return Elementwise(
        name, function, derivative, _inflections(derivative), increasing=False, ulps=64
    )


@cache
def swish() -> Elementwise:
    """X * sigmoid(x)."""

    def derivative(x: np.ndarray) -> np.ndarray:
        s = sigmoid_value(x)
        return s * (1 + x * sigmoid_value(-x))

    return _curve("swish", lambda x: x * sigmoid_value(x), derivative)


@cache
def mish() -> Elementwise:
    """X * tanh(softplus(x))."""

    def gate(x: np.ndarray) -> np.ndarray:
        return np.tanh(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))

    def derivative(x: np.ndarray) -> np.ndarray:
        t = gate(x)
        return t + x * (1 - t) * (1 + t) * sigmoid_value(x)

    return _curve("mish", lambda x: x * gate(x), derivative)


@cache
def gelu(approximate: bool = False) -> Elementwise:
    """X * Phi(x), exactly or with Keras's tanh formula."""
    if approximate:
        a, b = math.sqrt(2 / math.pi), 0.044715

        def gate(x: np.ndarray) -> np.ndarray:
            return np.tanh(a * (x + b * x**3))

        def slope(x: np.ndarray) -> np.ndarray:
            t = gate(x)
            return 0.5 * (1 + t) + 0.5 * x * (1 - t) * (1 + t) * a * (1 + 3 * b * x**2)

        return _curve("gelu", lambda x: 0.5 * x * (1 + gate(x)), slope)

    def phi(x: np.ndarray) -> np.ndarray:
        return np.asarray(0.5 * (1 + np.asarray(_erf(x / math.sqrt(2))).astype(x.dtype)))

    def derivative(x: np.ndarray) -> np.ndarray:
        density = np.exp(-(np.minimum(np.abs(x), 40) ** 2) / 2) / math.sqrt(2 * math.pi)
        return phi(x) + x * density

    return _curve("gelu", lambda x: x * phi(x), derivative)


def hard_swish() -> Elementwise:
    """X * relu6(x + 3) / 6."""
    return Elementwise(
        "hard_swish",
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6)).astype(x.dtype),
        (-3.0, 3.0),
        ((0.0, -0.5), (1.5, 1.0)),
        increasing=False,
    )


def hard_sigmoid(keras: str) -> Elementwise:
    """A line clipped to [0, 1], of slope .2 in tf_keras and 1/6 in Keras 3."""
    if keras == "tf_keras":
        return piecewise_linear("hard_sigmoid", (-2.5, 2.5), (0.0, 0.2, 0.0))
    return piecewise_linear("hard_sigmoid", (-3.0, 3.0), (0.0, 1 / 6, 0.0))


def celu(alpha: float = 1.0) -> Elementwise:
    """X above 0, alpha * (exp(x / alpha) - 1) below."""
    alpha = float(alpha)

    def function(x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))

    def derivative(x: np.ndarray) -> np.ndarray:
        return np.exp(np.minimum(x, 0) / alpha)

    return Elementwise("celu", function, derivative, (0.0,), convex=True)


def hard_shrink(threshold: float = 0.5) -> Elementwise:
    """X outside of [-threshold, threshold], 0 inside: two jumps."""
    edge = float(threshold)

    def function(x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x) > edge, x, 0 * x)

    def derivative(x: np.ndarray) -> np.ndarray:
        return (np.abs(x) > edge).astype(x.dtype)

    return Elementwise(
        "hard_shrink", function, derivative, (-edge, edge), bent=False, continuous=False, ulps=0
    )


def soft_shrink(threshold: float = 0.5) -> Elementwise:
    """X less the threshold outside of [-threshold, threshold], 0 inside."""
    edge = float(threshold)
    return piecewise_linear("soft_shrink", (-edge, edge), (1.0, 0.0, 1.0))


def squareplus(b: float = 4.0) -> Elementwise:
    """(x + sqrt(x^2 + b)) / 2."""

    def function(x: np.ndarray) -> np.ndarray:
        return (x + np.sqrt(np.square(x) + b)) / 2

    def derivative(x: np.ndarray) -> np.ndarray:
        return (1 + x / np.sqrt(np.square(x) + b)) / 2

    return Elementwise("squareplus", function, derivative, convex=True)


def sparse_plus() -> Elementwise:
    """0 up to -1, x from 1 on, (x + 1)^2 / 4 between."""
    return Elementwise(
        "sparse_plus",
        lambda x: np.where(x >= 1, x, np.square(np.maximum(x + 1, 0)) / 4),
        lambda x: np.clip((x + 1) / 2, 0, 1),
        (-1.0, 1.0),
        convex=True,
    )


def tanh_shrink() -> Elementwise:
    """X - tanh(x)."""
    return Elementwise("tanh_shrink", lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2, (0.0,))


SELU = (1.6732632423543772, 1.0507009873554805)
# What Keras calls every activation that works number by number: made of `"tf_keras"` or `"keras"`, where they differ,
# and of further arguments by name.
_TABLE: dict[str, Callable[[str, Mapping[str, Any]], Elementwise]] = {
    "celu": lambda _, config: celu(config.get("alpha", 1.0)),
    "elu": lambda _, config: elu(config.get("alpha", 1.0)),
    "exp": lambda *_: exponential(),
    "exponential": lambda *_: exponential(),
    "gelu": lambda _, config: gelu(bool(config.get("approximate", False))),
    "hard_shrink": lambda _, config: hard_shrink(config.get("threshold", 0.5)),
    "hard_sigmoid": lambda keras, _: hard_sigmoid(keras),
    "hard_silu": lambda *_: hard_swish(),
    "hard_swish": lambda *_: hard_swish(),
    "hard_tanh": lambda *_: piecewise_linear("hard_tanh", (-1.0, 1.0), (0.0, 1.0, 0.0), -1.0),
    "leaky_relu": lambda _, config: leaky_relu(
        config.get("alpha", config.get("negative_slope", 0.2))
    ),
    "linear": lambda *_: linear(),
    "log_sigmoid": lambda *_: log_sigmoid(),
    "mish": lambda *_: mish(),
    "relu": lambda _, config: relu(
        config.get("max_value"),
        config.get("negative_slope", config.get("alpha", 0.0)),
        config.get("threshold", 0.0),
    ),
    "relu6": lambda *_: relu(6.0),
    "selu": lambda *_: elu(*SELU, name="selu"),
    "sigmoid": lambda *_: sigmoid(),
    "silu": lambda *_: swish(),
    "soft_shrink": lambda _, config: soft_shrink(config.get("threshold", 0.5)),
    "softplus": lambda *_: softplus(),
    "softsign": lambda *_: softsign(),
    "sparse_plus": lambda *_: sparse_plus(),
    "sparse_sigmoid": lambda *_: piecewise_linear("sparse_sigmoid", (-1.0, 1.0), (0.0, 0.5, 0.0)),
    "squareplus": lambda _, config: squareplus(config.get("b", 4.0)),
    "swish": lambda *_: swish(),
    "tanh": lambda *_: tanh(),
    "tanh_shrink": lambda *_: tanh_shrink(),
}
NAMES = frozenset(_TABLE)
"""Every name that `named` knows."""


def named(name: str, keras: str, config: Mapping[str, Any] | None = None) -> Elementwise | None:
    """The activation that Keras calls `name`; None if it is not an element-wise one that we know.

    Args:
        name: `"relu"`, `"swish"`, ...
        keras: `"tf_keras"` or `"keras"`, where they differ.
        config: further arguments by name.
    """
    return _TABLE[name](keras, config or {}) if name in _TABLE else None
