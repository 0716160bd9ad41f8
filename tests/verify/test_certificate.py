"""The certificate: alignment, verdicts, tightness, radii, and honest refusals."""

from __future__ import annotations

import numpy as np
import pytest
from networks import network
from networks_dense import mlp

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.verify.alignment import aligned, in_order
from keras_robust_prune.verify.bounds import interval_bounds
from keras_robust_prune.verify.certificate import certify
from keras_robust_prune.verify.crown import Backward, crown_bounds


def pruned_pair(graph: Graph, fraction: float = 0.25) -> tuple[Graph, Graph]:
    """Masked and cut, every group by the same fraction, units chosen at random; the rest retuned a little."""
    groups, rng = find_groups(graph), np.random.default_rng(7)
    removals = [
        Removal(group.name, int(unit))
        for group in groups.groups
        for unit in rng.permutation(group.num_units)[: int(group.num_units * fraction)]
    ]
    plan = Plan(tuple(removals), groups.widths)
    changed = {}
    for name, layer in graph.layers.items():
        if "kernel" in layer.weights:
            kernel = layer.weights["kernel"]
            changed[name, "kernel"] = kernel * rng.uniform(0.97, 1.03, kernel.shape).astype(
                "float32"
            )
    full = mask(graph.with_weights(changed), groups, plan)
    return full, cut(full, groups, plan)


@pytest.mark.parametrize(
    "name", ["mlp", "conv_bn", "conv_flatten", "residual", "separable", "convnext", "mixer"]
)
def test_a_cut_network_is_laid_over_the_dense_one(name: str):
    dense = read(network(name))
    full, small = pruned_pair(dense)
    assert small.num_params < full.num_params
    shapes = [dense.shape(ref) for ref in dense.inputs]
    x = [np.random.default_rng(0).uniform(-1, 1, (16, *shape)) for shape in shapes]
    found = aligned(dense, small, x)
    assert found is not None
    for key, layer in full.layers.items():
        for weight, value in layer.weights.items():
            assert found.layers[key].weights[weight].shape == value.shape
    np.testing.assert_allclose(lower(found)(*x)[0], lower(small)(*x)[0], atol=1e-6)


def test_networks_that_do_not_correspond_are_compared_all_the_same():
    dense, _ = mlp([4, 6, 3])
    other, _ = mlp([4, 5, 5, 3], seed=1)
    x = np.random.default_rng(0).uniform(0, 1, (5, 4))
    assert aligned(dense, other, [x]) is None
    proven = certify(dense, other, x, 0.01)
    assert not proven.aligned
    rng = np.random.default_rng(1)
    for _ in range(50):
        at = np.clip(x + 0.01 * rng.choice([-1, 1], x.shape), 0, 1)
        delta = lower(other).values([at])[-2] - lower(dense).values([at])[-2]
        assert proven.deviation.contains(delta)


@pytest.mark.parametrize("name", ["conv_flatten", "residual"])
def test_jointly_is_tighter_than_apart(name: str):
    dense = read(network(name))
    _, small = pruned_pair(dense, 0.2)
    shape = dense.shape(dense.inputs[0])
    x = np.random.default_rng(2).uniform(-0.5, 0.5, (3, *shape))
    proven = certify(dense, small, x, 0.01, input_range=(-1, 1))
    apart = [
        crown_bounds(interval_bounds(lower(graph), x - 0.01, x + 0.01))[0].logits
        for graph in (dense, small)
    ]
    separate = apart[1] - apart[0]
    assert proven.aligned
    assert (proven.deviation.width <= separate.width * (1 + 1e-9)).all()
    rng = np.random.default_rng(3)
    for _ in range(30):
        at = x + 0.01 * rng.choice([-1, 0.3, 1], x.shape)
        delta = [lower(graph).values([at])[lower(graph).logits[0]] for graph in (dense, small)]
        assert proven.deviation.contains(delta[1] - delta[0], 1e-9)


def test_cutting_down_to_what_is_read_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    dense = read(network("conv_flatten"))
    _, small = pruned_pair(dense, 0.2)
    x = np.random.default_rng(2).uniform(-0.5, 0.5, (2, *dense.shape(dense.inputs[0])))
    cropped = certify(dense, small, x, 0.03, input_range=(-1, 1))
    monkeypatch.setattr(Backward, "cut_down", lambda *_: None)
    whole = certify(dense, small, x, 0.03, input_range=(-1, 1))
    np.testing.assert_allclose(cropped.deviation_lower, whole.deviation_lower, atol=1e-10)
    np.testing.assert_allclose(cropped.deviation_upper, whole.deviation_upper, atol=1e-10)


def test_verdicts_and_radius_of_a_linear_classifier():
    """Logits x_0 and x_1: the class holds while |x_0 - x_1| > 2 eps."""
    graph, names = mlp([2, 2], closing="softmax")
    identity = np.eye(2, dtype="float32")
    graph = graph.with_weights(
        {(names[0], "kernel"): identity, (names[0], "bias"): np.zeros(2, "float32")}
    )
    x = [[0.9, 0.1], [0.5, 0.44], [0.3, 0.6]]
    proven = certify(graph, graph, x, 0.05)
    np.testing.assert_array_equal(proven.agree, [True, False, True])
    np.testing.assert_array_equal(proven.pruned_is_constant, proven.dense_is_constant)
    assert np.abs(proven.deviation_upper).max() < 1e-12
    # bisected from .4 downwards in eight halvings; capped there for the first
    radii = proven.radius("agree", largest=0.4)
    np.testing.assert_allclose(radii, [0.4, 0.03, 0.15], atol=0.4 / 2**8)
    assert (radii <= [0.4, 0.03, 0.15]).all()
    assert "both agree                  2  0.6667" in str(proven)


def test_one_output_is_a_class_by_its_sign():
    graph, names = mlp([2, 1], closing="sigmoid")
    kernel = np.array([[1.0], [-1.0]], "float32")
    graph = graph.with_weights(
        {(names[0], "kernel"): kernel, (names[0], "bias"): np.zeros(1, "float32")}
    )
    opposite = graph.with_weights({(names[0], "kernel"): -kernel})
    x = [[0.9, 0.1], [0.5, 0.45], [0.1, 0.6]]
    same, other = certify(graph, graph, x, 0.05), certify(graph, opposite, x, 0.05)
    np.testing.assert_array_equal(same.agree, [True, False, True])
    np.testing.assert_array_equal(other.pruned_is_constant, [True, False, True])
    assert not other.agree.any()
    # (x_1 - x_0) - (x_0 - x_1) = 2 (x_1 - x_0), give or take 4 eps
    np.testing.assert_allclose(other.deviation_lower[:, 0], [-1.8, -0.3, 0.8], atol=1e-9)


def test_a_larger_ball_proves_less():
    dense, _ = mlp([6, 10, 10, 3], seed=4)
    full, _ = pruned_pair(dense)
    x = np.random.default_rng(0).uniform(0, 1, (20, 6))
    small, large = (certify(dense, full, x, eps) for eps in (0.01, 0.1))
    assert (large.deviation.width >= small.deviation.width - 1e-9).all()
    assert (small.agree | ~large.agree).all()


def test_order_is_kept_in_matching():
    distance = np.array([[1.0, 0.0], [0.0, 1.0], [9.0, 0.5]])
    np.testing.assert_array_equal(in_order(distance), [False, True, True])
    np.testing.assert_array_equal(in_order(np.zeros((2, 2))), [True, True])


def test_what_cannot_be_certified_is_refused():
    dense, _ = mlp([4, 6, 3])
    with pytest.raises(ValueError, match="input_range"):
        certify(dense, dense, np.full((1, 4), 3.0), 0.1)
    with pytest.raises(ValueError, match="same outputs"):
        certify(dense, mlp([4, 6, 2])[0], np.zeros((1, 4)), 0.1)
    with pytest.raises(ValueError, match="at least 0"):
        certify(dense, dense, np.zeros((1, 4)), -0.1)
    with pytest.raises(ValueError, match="the network takes"):
        certify(dense, dense, np.zeros((1, 5)), 0.1)
    with pytest.raises(ValueError, match="Choose one of"):
        certify(dense, dense, np.zeros((1, 4)), 0.1).radius("speed")
