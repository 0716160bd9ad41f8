from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_robust_prune.methods.reference import energy as module
from keras_robust_prune.methods.reference.energy import (
    PublishedEnergy,
    RelativeEnergy,
    Scale,
    entropy,
    l1_width,
)
from keras_robust_prune.primitives.intervals import Interval


def groups_of(size: int, num_outputs: int = 10) -> Interval:
    """Outputs in groups that move alike, the groups far from each other."""
    places = np.arange(num_outputs) // size
    return Interval(10.0 * places, 10.0 * places + 1.0)


def test_width_is_the_sum_over_outputs():
    deviation = Interval([[-1.0, 0.0], [2.0, -3.0]], [[1.0, 3.0], [2.0, -1.0]])
    np.testing.assert_array_equal(l1_width(deviation), [(1 + 1) + 3, 0 + (-1 + 3)])


def test_an_unmoved_network_has_no_width_and_no_entropy():
    still = Interval(np.zeros(10), np.zeros(10))
    assert float(l1_width(still)) == 0.0
    assert float(entropy(still)) == 0.0


@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_groups_of_k_give_k_times_ln_10_over_k(size: int):
    expected = size * math.log(10 / size)
    assert float(entropy(groups_of(size), similarity=0.99)) == pytest.approx(expected)


def test_entropy_is_not_monotone():
    found = [float(entropy(groups_of(size), similarity=0.99)) for size in (1, 2, 5, 10)]
    assert [round(value, 3) for value in found] == [2.303, 3.219, 3.466, 0.0]


def test_one_output_has_no_entropy():
    assert float(entropy(Interval([-1.0], [4.0]))) == 0.0


def literal_entropy(lower: np.ndarray, upper: np.ndarray, similarity: float) -> float:
    """The formula, loop by loop."""
    n = len(lower)
    hull = max(0.0, max(upper)) - min(0.0, min(lower))
    total = 0.0
    for i in range(n):
        alike = 0
        for j in range(n):
            apart = abs(lower[i] - lower[j]) + abs(upper[i] - upper[j])
            if hull == 0 or 1 - 0.5 * apart / hull >= similarity:
                alike += 1
        total -= alike / n * math.log(alike / n)
    return total


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 7), st.integers(1, 12), st.integers(0, 10_000))
def test_entropy_is_the_literal_formula(rows: int, num_outputs: int, seed: int):
    rng = np.random.default_rng(seed)
    lower = rng.normal(size=(rows, num_outputs))
    upper = lower + rng.uniform(0.0, 1.0, size=lower.shape)
    expected = [literal_entropy(*ends, 0.9) for ends in zip(lower, upper, strict=True)]
    np.testing.assert_allclose(entropy(Interval(lower, upper)), expected, atol=1e-12)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    lower = rng.normal(size=(9, 5))
    deviation = Interval(lower, lower + 0.5)
    whole = entropy(deviation)
    monkeypatch.setattr(module, "BLOCK", 2 * 5**2)
    np.testing.assert_array_equal(entropy(deviation), whole)


def test_published_energy_is_the_formula():
    found = PublishedEnergy(0.75)(2.0, 1.0, Scale(7.0, 7.0))
    expected = 0.75 / (1 + math.exp(-2.0)) + 0.25 / (1 + math.exp(-1.0))
    assert found == pytest.approx(expected)


def test_published_energy_saturates_and_the_default_does_not():
    scale = Scale(1000.0, 1.0)
    published, relative = PublishedEnergy(1.0), RelativeEnergy(1.0)
    assert published(1000.0, 0.0, scale) - published(10.0, 0.0, scale) < 5e-5
    assert relative(1000.0, 0.0, scale) - relative(10.0, 0.0, scale) > 0.4


@settings(max_examples=50, deadline=None)
@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6), st.floats(1e-3, 1e3), st.floats(0.0, 1.0))
def test_relative_energy_ignores_units(width: float, spread: float, unit: float, alpha: float):
    energy = RelativeEnergy(alpha)
    one = energy(width, spread, Scale(5.0, 2.0))
    other = energy(width * unit, spread, Scale(5.0 * unit, 2.0))
    assert one == pytest.approx(other)
    assert 0.0 <= one <= 1.0


def test_scale_is_the_median():
    scale = Scale.of(np.array([1.0, 9.0, 2.0]), np.array([0.0, 4.0, 2.0]))
    assert scale == Scale(2.0, 2.0)
