"""Each primitive against a slow twin: transposes by inner products, curves by a fine grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_robust_prune.primitives import activations
from keras_robust_prune.primitives.base import Rounding
from keras_robust_prune.primitives.combining import Largest, Product, RootMeanSquare, Softmax, Sum
from keras_robust_prune.primitives.convolution import Convolution, TransposedConvolution
from keras_robust_prune.primitives.elementwise import Elementwise
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.linear import Linear, MatMul, Reindex, Scale
from keras_robust_prune.primitives.pooling import AveragePool, MaxPool
from keras_robust_prune.primitives.windows import Window

RNG = np.random.default_rng(0)
ROUNDING = Rounding(np.float64)
WINDOW = Window.of((6, 5), (3, 2), (2, 1), "same")
CONVOLUTION = Convolution(WINDOW, RNG.normal(size=(3, 2, 4, 6)), RNG.normal(size=6))
LINEAR: dict[str, Linear] = {
    "matmul": MatMul((3, 4), RNG.normal(size=(4, 5)), RNG.normal(size=5)),
    "scale": Scale((3, 4), RNG.normal(size=4), RNG.normal(size=4)),
    "convolution": CONVOLUTION,
    "dilated": Convolution(Window.of((9,), (3,), (1,), "causal", (2,)), RNG.normal(size=(3, 2, 3))),
    "groups": Convolution(WINDOW, RNG.normal(size=(3, 2, 2, 6)), None, 2),
    "depthwise": Convolution(WINDOW, RNG.normal(size=(3, 2, 1, 8)), None, 4),
    "transposed": TransposedConvolution(CONVOLUTION, RNG.normal(size=4)),
    "average": AveragePool(Window.of((5, 4), (3, 3), (2, 2), "same"), 3),
    "repeat": Reindex((4,), np.array([[0, 0, 3], [1, -1, 0]])),
}
CURVES = {
    name: activations.named(name, keras)
    for keras in ("tf_keras", "keras")
    for name in ("relu", "relu6", "leaky_relu", "elu", "selu", "sigmoid", "hard_sigmoid", "tanh")
    + ("softplus", "softsign", "log_sigmoid", "gelu", "swish", "mish", "hard_swish", "hard_tanh")
    + ("exponential", "celu", "hard_shrink", "soft_shrink", "sparse_plus", "sparse_sigmoid")
    + ("squareplus", "tanh_shrink")
}
CURVES["stepped"] = activations.relu(max_value=3.0, negative_slope=0.2, threshold=1.0)
CURVES["steep"] = activations.leaky_relu(1.7)
CURVES["gelu_tanh"] = activations.gelu(approximate=True)


@pytest.mark.parametrize("name", LINEAR)
def test_adjoint_is_the_transpose(name: str):
    primitive = LINEAR[name]
    x = RNG.normal(size=(3, *primitive.in_shape))
    y = RNG.normal(size=(3, *primitive.out_shape))
    np.testing.assert_allclose((primitive.apply(x) * y).sum(), (x * primitive.adjoint(y)).sum())


@pytest.mark.parametrize("name", LINEAR)
def test_interval_of_a_linear_map_is_exact(name: str):
    """The extremes of one output are attained at the corner that its row of the matrix points to."""
    primitive = LINEAR[name]
    size = int(np.prod(primitive.in_shape))
    rows = primitive.apply(np.eye(size).reshape(size, *primitive.in_shape)).reshape(size, -1)
    lower = RNG.normal(size=(1, *primitive.in_shape))
    upper = lower + RNG.uniform(0, 1, lower.shape)
    low, high = lower.ravel(), upper.ravel()
    bias = primitive.forward(np.zeros_like(lower)).ravel()
    found = primitive.interval([Interval(lower, upper)], ROUNDING)
    expected = np.where(rows > 0, low[:, None], high[:, None])
    np.testing.assert_allclose(
        found.lower.ravel(), (rows * expected).sum(axis=0) + bias, atol=1e-12
    )
    expected = np.where(rows > 0, high[:, None], low[:, None])
    np.testing.assert_allclose(
        found.upper.ravel(), (rows * expected).sum(axis=0) + bias, atol=1e-12
    )


@pytest.mark.parametrize("name", [n for n in LINEAR if n != "repeat"])
def test_sparse_deviation_is_the_deviation_of_a_full_array(name: str):
    primitive = LINEAR[name]
    channels = primitive.in_shape[-1]
    lead = np.arange(int(np.prod(primitive.in_shape[:-1]))) * channels
    elements = lead + np.array([[0], [channels - 1]])
    lower = RNG.normal(size=elements.shape)
    d = Interval(lower, lower + 1)
    found = primitive.sparse_deviation(d, elements, ROUNDING)
    expected = Linear.sparse_deviation(primitive, d, elements, ROUNDING)
    np.testing.assert_allclose(found.lower, expected.lower, atol=1e-12)
    np.testing.assert_allclose(found.upper, expected.upper, atol=1e-12)


@pytest.mark.parametrize("name", CURVES)
@settings(max_examples=40, deadline=None)
@given(
    lower=st.floats(-9, 9), width=st.floats(0, 9), shift=st.floats(-5, 5), spread=st.floats(0, 3)
)
def test_curves_lie_inside_their_bounds(
    name: str, lower: float, width: float, shift: float, spread: float
):
    curve = CURVES[name]
    assert isinstance(curve, Elementwise)
    x = Interval([[lower]], [[lower + width]])
    grid = np.linspace(lower, lower + width, 301)[:, None]
    values = curve.forward(grid)
    assert curve.interval([x], ROUNDING).contains(values)
    lines = curve.relax([x], ROUNDING)
    low, high = lines.slopes
    assert (low * grid + lines.lower_offset <= values).all()
    assert (values <= high * grid + lines.upper_offset).all()
    d = Interval([[shift]], [[shift + spread]])
    moved = [curve.forward(grid + shift + spread * part) - values for part in (0, 0.3, 1)]
    # the difference of two rounded values is rounded itself
    assert curve.deviation([d], [x], ROUNDING).contains(np.stack(moved), 1e-12)
    if curve.continuous and width > 1e-3:
        slopes = np.diff(values[:, 0]) / np.diff(grid[:, 0])
        assert curve.slopes(x).contains(slopes, 1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "swish", "elu", "softplus"])
def test_lines_of_a_curve_touch_it(name: str):
    """Of the lines with their slopes, no tighter ones exist."""
    curve = CURVES[name]
    assert isinstance(curve, Elementwise)
    lower = np.linspace(-4, 3, 40)[None]
    x = Interval(lower, lower + np.linspace(0.1, 5, 40))
    grid = lower + np.linspace(0, 1, 4001)[:, None] * x.width
    (low, below), (high, above) = curve.lines(x)
    np.testing.assert_allclose((curve.forward(grid) - low * grid).min(axis=0), below[0], atol=1e-6)
    np.testing.assert_allclose((curve.forward(grid) - high * grid).max(axis=0), above[0], atol=1e-6)


def test_relu_takes_the_adaptive_slope():
    curve = activations.relu()
    x = Interval([[-1.0, -3.0, -2.0, 1.0, -2.0]], [[3.0, 1.0, 2.0, 2.0, -1.0]])
    (low, below), (high, above) = curve.lines(x)
    np.testing.assert_array_equal(low, [[1, 0, 1, 1, 0]])
    np.testing.assert_array_equal(below, [[0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(high, [[3 / 4, 1 / 4, 2 / 4, 1, 0]])
    np.testing.assert_array_equal(above, [[3 / 4, 3 / 4, 4 / 4, 0, 0]])


def drawn(box: Interval, count: int = 400) -> np.ndarray:
    """Points of a box `(1, *shape)`, a third of them corners."""
    share = RNG.uniform(size=(count, *box.shape[1:]))
    share[::3] = share[::3] > 0.5
    return box.lower + share * box.width


@pytest.mark.parametrize(
    ("primitive", "count"),
    [
        (MaxPool(Window.of((4, 4), (3, 3), (2, 2), "same")), 1),
        (Softmax(2), 1),
        (RootMeanSquare(0.01), 1),
        (Product(((4, 4, 2), (4, 4, 2)), (4, 4, 2)), 2),
        (Sum((1, -1), ((4, 4, 2), (4, 4, 2)), (4, 4, 2)), 2),
        (Largest(), 3),
    ],
)
def test_joining_primitives_hold_values_lines_and_deviations(primitive, count: int):
    for _ in range(10):
        boxes = []
        for _ in range(count):
            lower = RNG.normal(size=(1, 4, 4, 2))
            boxes.append(Interval(lower, lower + RNG.uniform(0, 2, lower.shape)))
        points = [drawn(box) for box in boxes]
        values = primitive.forward(*points)
        assert primitive.interval(boxes, ROUNDING).contains(values)
        rows = RNG.normal(size=(1, 5, *values.shape[1:]))
        passed, constant = primitive.backward(rows, primitive.relax(boxes, ROUNDING))
        bound = constant + sum(
            np.einsum("bnhwc,mhwc->mn", item, x) for item, x in zip(passed, points, strict=False)
        )
        assert (bound <= np.einsum("bnhwc,mhwc->mn", rows, values)).all()
        moves = [Interval(-0.2 * np.ones(b.shape), 0.5 * np.ones(b.shape)) for b in boxes]
        shifted = primitive.forward(
            *(x + drawn(move) for x, move in zip(points, moves, strict=True))
        )
        assert primitive.deviation(moves, boxes, ROUNDING).contains(shifted - values, 1e-12)


def test_the_interval_of_a_normalised_number_is_attained():
    """Between -1 and 2, beside a number between 1 and 2: most is 2 / sqrt((4 + 1) / 2), least with 1 / 2."""
    box = Interval(np.array([[-1.0, 1.0]]), np.array([[2.0, 2.0]]))
    found = RootMeanSquare(0.0).interval([box], ROUNDING)
    np.testing.assert_allclose(found.upper[0], [2 / np.sqrt(5 / 2), 2 / np.sqrt(4 / 2)])
    np.testing.assert_allclose(found.lower[0], [-1 / np.sqrt(2 / 2), 1 / np.sqrt(5 / 2)])
    still = RootMeanSquare(0.0).deviation([Interval([[0.0, 0.0]], [[0.0, 0.0]])], [box], ROUNDING)
    np.testing.assert_allclose(still.magnitude, 0, atol=1e-12)


def test_product_with_a_gate_sums_over_what_was_broadcast():
    primitive = Product(((2, 2, 3), (1, 1, 3)), (2, 2, 3))
    x, gate = np.ones((1, 2, 2, 3)), np.full((1, 1, 1, 3), 0.5)
    boxes = [Interval(x, x), Interval(gate, gate)]
    rows = np.ones((1, 1, 2, 2, 3))
    passed, constant = primitive.backward(rows, primitive.relax(boxes, ROUNDING))
    assert [item.shape for item in passed] == [(1, 1, 2, 2, 3), (1, 1, 1, 1, 3)]
    total = sum((a[0] * b).sum() for a, b in zip(passed, (x, gate), strict=True)) + constant[0, 0]
    assert total == pytest.approx(2 * 2 * 3 * 0.5)
