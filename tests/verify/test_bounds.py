"""Bounds against golden numbers of an independent verifier (tests/goldens), and by hand."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from networks_dense import mlp

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.verify.bounds import interval_bounds
from keras_robust_prune.verify.crown import crown_bounds

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"


class Chain:
    """Writes a graph down, call by call."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.layers = {"x": Layer("x", "InputLayer", {"name": "x"})}
        self.nodes = [Node("x", "x", shapes=(shape,))]

    def add(
        self,
        name: str,
        kind: str,
        shape: tuple[int, ...],
        of: list[str],
        config: Any,
        **weights: Any,
    ) -> None:
        refs = tuple(Ref(item) for item in of)
        self.layers[name] = Layer(name, kind, {"name": name, **config}, weights)
        args = refs if len(refs) == 1 else (list(refs),)
        self.nodes.append(Node(name, name, args, {}, refs, (shape,)))

    def graph(self) -> Graph:
        return Graph(self.layers, tuple(self.nodes), (Ref("x"),), (self.nodes[-1].ref,))


def golden(name: str) -> tuple[Any, list[np.ndarray]]:
    stored = np.load(GOLDENS / f"bounds_{name}.npz")
    return stored, [stored[key] for key in sorted(stored.files) if key.startswith("weights_")]


def golden_mlp(weights: list[np.ndarray]) -> Graph:
    chain, of = Chain((784,)), "x"
    for k in range(0, len(weights), 2):
        name, activation = f"dense_{k}", "relu" if k < len(weights) - 2 else "linear"
        units = weights[k].shape[1]
        config = {"activation": activation}
        chain.add(name, "Dense", (units,), [of], config, kernel=weights[k], bias=weights[k + 1])
        of = name
    return chain.graph()


def golden_cnn(w: list[np.ndarray]) -> Graph:
    chain = Chain((28, 28, 1))
    same = {"padding": "same", "strides": (1, 1), "activation": "linear"}
    relu = {"activation": "relu"}
    chain.add("first", "Conv2D", (14, 14, 8), ["x"], {**same, "strides": (2, 2)}, kernel=w[0])
    norm = dict(zip(("gamma", "beta", "moving_mean", "moving_variance"), w[1:5], strict=True))
    chain.add(
        "norm", "BatchNormalization", (14, 14, 8), ["first"], {"epsilon": 1e-3, "axis": -1}, **norm
    )
    chain.add("relu", "ReLU", (14, 14, 8), ["norm"], {})
    pool = {"pool_size": (2, 2), "strides": (2, 2), "padding": "valid"}
    chain.add("s", "MaxPooling2D", (7, 7, 8), ["relu"], pool)
    chain.add("second", "Conv2D", (7, 7, 8), ["s"], {**same, **relu}, kernel=w[5], bias=w[6])
    chain.add("third", "Conv2D", (7, 7, 8), ["second"], same, kernel=w[7], bias=w[8])
    chain.add("add", "Add", (7, 7, 8), ["third", "s"], {})
    chain.add("relu_add", "ReLU", (7, 7, 8), ["add"], {})
    chain.add("flat", "Flatten", (392,), ["relu_add"], {})
    chain.add("hidden", "Dense", (32,), ["flat"], relu, kernel=w[9], bias=w[10])
    chain.add("out", "Dense", (10,), ["hidden"], {}, kernel=w[11], bias=w[12])
    return chain.graph()


def test_mlp_agrees_with_the_goldens_to_1e_4():
    stored, weights = golden("mlp")
    start = interval_bounds(golden_mlp(weights), stored["lower_input"], stored["upper_input"])
    for name, found in (
        ("IBP", start),
        ("CROWN-IBP", crown_bounds(start, refine=False)[0]),
        ("CROWN", crown_bounds(start)[0]),
    ):
        np.testing.assert_allclose(found.logits.lower, stored[f"{name}_lower"], atol=1e-4)
        np.testing.assert_allclose(found.logits.upper, stored[f"{name}_upper"], atol=1e-4)


def test_cnn_agrees_with_the_goldens():
    """Interval bounds to 1e-3 relative; CROWN at most 5 % wider, on the first boxes."""
    stored, weights = golden("cnn")
    ends = stored["lower_input"], stored["upper_input"]
    start = interval_bounds(golden_cnn(weights), *ends)
    np.testing.assert_allclose(start.logits.lower, stored["IBP_lower"], rtol=1e-3)
    np.testing.assert_allclose(start.logits.upper, stored["IBP_upper"], rtol=1e-3)
    few = interval_bounds(golden_cnn(weights), ends[0][:2], ends[1][:2])
    for name, refine in (("CROWN-IBP", False), ("CROWN", True)):
        width = crown_bounds(few, refine)[0].logits.width
        expected = (stored[f"{name}_upper"] - stored[f"{name}_lower"])[:2]
        assert (width <= 1.05 * expected).all()
        assert width.mean() >= 0.9 * expected.mean()


def test_the_fast_precision_is_nearly_as_tight():
    stored, weights = golden("mlp")
    ends = stored["lower_input"][:4], stored["upper_input"][:4]
    exact = interval_bounds(lower(golden_mlp(weights)), *ends)
    fast = interval_bounds(lower(golden_mlp(weights), np.float32), *ends)
    for one, two in ((exact, fast), (crown_bounds(exact)[0], crown_bounds(fast)[0])):
        assert two.logits.lower.dtype == np.float32
        assert (two.logits.lower <= one.logits.lower).all()
        assert (two.logits.upper >= one.logits.upper).all()
        assert two.logits.width.mean() <= 1.03 * one.logits.width.mean()


def test_bounds_by_hand():
    """relu(x_0 + x_1), relu(x_0 - x_1) over [0, 1] x [0, 1]; their sum is 2 max(x_0, x_1) at most 2."""
    chain = Chain((2,))
    kernel = np.array([[1.0, 1.0], [1.0, -1.0]])
    chain.add("hidden", "Dense", (2,), ["x"], {"activation": "relu"}, kernel=kernel)
    chain.add("out", "Dense", (1,), ["hidden"], {}, kernel=np.ones((2, 1)))
    found = interval_bounds(chain.graph(), 0.0, 1.0)
    np.testing.assert_allclose(found[Ref("hidden")].lower, [[0, -1]], atol=1e-12)
    np.testing.assert_allclose(found.logits.upper, [[2 + 1]], atol=1e-12)
    tight = crown_bounds(found)[0].logits
    # below: (x_0 + x_1) + (x_0 - x_1) = 2 x_0; above: (x_0 + x_1) + (x_0 - x_1 + 1) / 2
    np.testing.assert_allclose(tight.lower, [[0]], atol=1e-12)
    np.testing.assert_allclose(tight.upper, [[3 / 2 + 1 / 2 + 1 / 2]], atol=1e-12)


def test_ranges_per_feature_and_several_boxes():
    graph, _ = mlp([3, 4, 2])
    low = np.array([[0.0, 0.1, 0.2], [0.5, 0.5, 0.5]])
    both = interval_bounds(graph, low, low + 0.1).logits
    for k in (0, 1):
        one = interval_bounds(graph, low[k], low[k] + 0.1).logits
        np.testing.assert_allclose(one.lower[0], both.lower[k], atol=1e-12)
        np.testing.assert_allclose(one.upper[0], both.upper[k], atol=1e-12)


def test_wrong_ranges_are_refused():
    graph, _ = mlp([3, 4, 2])
    with pytest.raises(ValueError, match="expected a number"):
        interval_bounds(graph, np.zeros(5), 1.0)
    with pytest.raises(ValueError, match="lower <= upper"):
        interval_bounds(graph, 1.0, 0.0)


def test_methods_are_ordered_by_tightness():
    graph, _ = mlp([6, 12, 12, 3], seed=3)
    low = np.full((2, 6), 0.4)
    start = interval_bounds(graph, low, low + 0.05)
    found = (start, crown_bounds(start, refine=False)[0], crown_bounds(start)[0])
    interval, between, crown = (bounds.logits.width for bounds in found)
    assert (crown <= between + 1e-12).all()
    assert (between <= interval + 1e-12).all()
