"""What is called a bound is one: against exact enumeration of linear regions, corners and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_dense import mlp
from regions import Weights, extremes

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.primitives.program import Program
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.verify.bounds import interval_bounds
from keras_robust_prune.verify.certificate import certify
from keras_robust_prune.verify.crown import crown_bounds
from keras_robust_prune.verify.deviation import output_deviation

ROUNDING = 1e-9  # of the enumeration, not of the bounds


def weights_of(graph: Graph) -> Weights:
    layers = [layer.weights for layer in graph.layers.values() if layer.weights]
    return [(w["kernel"].astype(float), w["bias"].astype(float)) for w in layers]


def difference(one: Weights, two: Weights) -> Weights:
    """One network that computes two minus one."""
    joined: Weights = []
    for k, ((a, b), (c, d)) in enumerate(zip(one, two, strict=True)):
        if k == 0:
            joined.append((np.hstack([a, c]), np.hstack([b, d])))
        elif k < len(one) - 1:
            zero = np.zeros((len(a), c.shape[1]))
            joined.append((np.block([[a, zero], [zero, c]]), np.hstack([b, d])))
        else:
            joined.append((np.vstack([-a, c]), d - b))
    return joined


def box(seed: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    center = np.random.default_rng(seed).uniform(-1, 1, 2)
    return center - radius, center + radius


def merged(weights: Weights, layer: int, drop: int, keep: int) -> Weights:
    kernel, bias = weights[layer + 1]
    kernel = np.array(kernel)
    if keep >= 0:
        kernel[keep] += kernel[drop]
    kernel[drop] = 0
    return [*weights[: layer + 1], (kernel, bias), *weights[layer + 2 :]]


def masked(graph: Graph, seed: int) -> Graph:
    """A pruned twin: one hidden unit gone from each layer, its consumer's other rows changed."""
    rng = np.random.default_rng(seed)
    changed = {}
    for name in ("dense_1", "dense_2"):
        kernel = graph.layers[name].weights["kernel"]
        kernel = kernel + rng.normal(0, 0.05, kernel.shape).astype("float32")
        kernel[rng.integers(len(kernel))] = 0
        changed[name, "kernel"] = kernel
    return graph.with_weights(changed)


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.01, 3))
def test_interval_and_crown_hold_every_region(seed: int, radius: float):
    graph, _ = mlp([2, 4, 4, 2], seed=seed)
    low, high = box(seed, radius)
    least, most = extremes(weights_of(graph), low, high)
    for dtype in (np.float64, np.float32):
        start = interval_bounds(lower(graph, dtype), low, high)
        for found in (start, crown_bounds(start, refine=False)[0], crown_bounds(start)[0]):
            assert (found.logits.lower[0] <= least + ROUNDING).all()
            assert (found.logits.upper[0] >= most - ROUNDING).all()


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.01, 3), layer=st.integers(0, 1))
def test_deviations_hold_every_region(seed: int, radius: float, layer: int):
    graph, names = mlp([2, 4, 3, 2], seed=seed)
    low, high = box(seed, radius)
    weights = weights_of(graph)
    group = find_groups(graph).by_name[names[layer]]
    rng = np.random.default_rng(seed)
    drops = rng.permutation(group.num_units)[:3]
    keeps = np.array([(drops[0] + 1) % group.num_units, (drops[1] + 2) % group.num_units, -1])
    for dtype in (np.float64, np.float32):
        program = lower(graph, dtype)
        bounds = interval_bounds(program, low, high)
        found = output_deviation(program, group, drops, keeps, bounds)
        for k, (drop, keep) in enumerate(zip(drops, keeps, strict=True)):
            changed = merged(weights, layer, drop, keep)
            least, most = extremes(difference(weights, changed), low, high)
            assert (found.lower[k] <= least + ROUNDING).all()
            assert (found.upper[k] >= most - ROUNDING).all()


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.01, 1.5))
def test_certificates_hold_every_region(seed: int, radius: float):
    dense, _ = mlp([2, 4, 4, 2], seed=seed)
    pruned = masked(dense, seed)
    x = np.random.default_rng(seed).uniform(-1, 1, (1, 2))
    proven = certify(dense, pruned, x, radius, input_range=(-9, 9))
    assert proven.aligned
    one, two = weights_of(dense), weights_of(pruned)
    ends = x[0] - radius, x[0] + radius
    least, most = extremes(difference(one, two), *ends)
    assert (proven.deviation_lower[0] <= least + ROUNDING).all()
    assert (proven.deviation_upper[0] >= most - ROUNDING).all()
    for weights, verdict in ((one, proven.dense_is_constant), (two, proven.pruned_is_constant)):
        kernel, bias = weights[-1]
        margin = [*weights[:-1], (kernel[:, :1] - kernel[:, 1:], bias[:1] - bias[1:])]
        least, most = extremes(margin, *ends)
        assert not verdict[0] or least[0] > -ROUNDING or most[0] < ROUNDING


def searched(program: Program, weights: Weights, low: Any, high: Any, rng: Any) -> np.ndarray:
    """Outputs at random points, at corners, and at corners that ascend and descend the gradient."""
    points = [low + rng.uniform(size=low.shape) * (high - low) for _ in range(2)]
    points += [np.where(rng.uniform(size=low.shape) > 0.5, low, high) for _ in range(2)]
    for sign in (1, -1):
        for output in range(weights[-1][0].shape[1]):
            at = (low + high) / 2
            for _ in range(3):
                gradient = np.broadcast_to(
                    weights[-1][0][:, output], (len(at), len(weights[-1][0]))
                )
                hidden = [at]
                for kernel, bias in weights[:-1]:
                    hidden.append(np.maximum(hidden[-1] @ kernel + bias, 0))
                for (kernel, _), value in zip(weights[-2::-1], hidden[:0:-1], strict=True):
                    gradient = (gradient * (value > 0)) @ kernel.T
                at = np.where(sign * gradient > 0, high, low)
            points.append(at)
    rounded = [np.clip(p.astype(program.dtype), low, high).astype(program.dtype) for p in points]
    return np.stack([program(point)[0] for point in rounded])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_ten_thousand_boxes_hold_corners_and_gradients(dtype: Any):
    """No tolerance: the bounds hold every evaluation in their own precision."""
    rng, cases = np.random.default_rng(0), 0
    for seed in range(20):
        graph, _ = mlp([12, 16, 16, 3], seed=seed, closing="linear")
        program = lower(graph, dtype)
        center = rng.uniform(-1, 1, (500, 12))
        radius = 10.0 ** rng.uniform(-4, 0, (500, 1))
        low, high = ((center + sign * radius).astype(dtype) for sign in (-1, 1))
        found = searched(program, weights_of(graph), low, high, rng)
        start = interval_bounds(program, low, high)
        assert start.logits.contains(found)
        assert crown_bounds(start)[0].logits.contains(found)
        cases += len(center)
    assert cases == 10_000


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "gelu", "elu", "swish"])
def test_curved_networks(activation: str):
    rng = np.random.default_rng(1)
    graph, _ = mlp([6, 8, 8, 3], activation=activation, seed=2, closing="linear")
    program = lower(graph)
    low = rng.uniform(-1, 1, (40, 6))
    high = low + 10.0 ** rng.uniform(-3, 0.3, (40, 1))
    found = np.stack(
        [program(low + rng.uniform(size=low.shape) * (high - low))[0] for _ in range(99)]
    )
    start = interval_bounds(program, low, high)
    tight = crown_bounds(start)[0].logits
    assert start.logits.contains(found)
    assert tight.contains(found)
    assert tight.width.mean() < 0.8 * start.logits.width.mean()


def test_the_enumeration_itself_is_exact():
    """A fine grid comes close to its extremes and never passes them."""
    graph, _ = mlp([2, 5, 4, 2], seed=11)
    low, high = np.array([-1.0, -0.5]), np.array([1.0, 1.5])
    weights = weights_of(graph)
    least, most = extremes(weights, low, high)
    axes = [np.linspace(a, b, 401) for a, b in zip(low, high, strict=True)]
    values = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    for k, (kernel, bias) in enumerate(weights):
        values = values @ kernel + bias
        values = np.maximum(values, 0) if k < len(weights) - 1 else values
    assert (values.min(axis=0) >= least - ROUNDING).all()
    assert (values.max(axis=0) <= most + ROUNDING).all()
    np.testing.assert_allclose(values.min(axis=0), least, atol=0.02)
    np.testing.assert_allclose(values.max(axis=0), most, atol=0.02)
