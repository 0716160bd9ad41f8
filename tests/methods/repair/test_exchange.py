"""Flips of units against least squares solved from scratch."""

from __future__ import annotations

import numpy as np
import pytest

from keras_robust_prune.methods.repair.compensation import regular, solve
from keras_robust_prune.methods.repair.exchange import Exchange
from keras_robust_prune.methods.repair.moments import Moments
from keras_robust_prune.methods.swapping import swap

RIDGE = 1e-3


def case(rows_per_unit, units=8, targets=5, seed=0):
    """Moments of random rows, the weights, the rows of every unit and two fixed ones."""
    rng = np.random.default_rng(seed)
    count = units * rows_per_unit
    x = rng.normal(size=(200, count + 2)) @ rng.normal(size=(count + 2, count + 2))
    x = np.concatenate([x, np.ones((200, 1))], 1)
    weights = rng.normal(size=(count + 3, targets))
    y = x @ weights + rng.normal(size=(200, targets))
    moments = Moments(x.T @ x / 200, x.T @ y / 200, float(np.square(y).sum() / 200), 3.0)
    return moments, weights, np.arange(count).reshape(rows_per_unit, units).T, count + np.arange(2)


def energy(moments, weights, rows, kept, fixed):
    """The regularised error of the solution, up to a constant, solved from scratch."""
    gram, right = regular(moments, weights, RIDGE)
    free = np.concatenate([np.sort(rows[kept].ravel()), fixed, [len(weights) - 1]])
    solved = np.linalg.solve(gram[np.ix_(free, free)], right[free])
    return -np.einsum("ij,ij->", right[free], solved) / moments.energy


@pytest.mark.parametrize("rows_per_unit", [1, 3])
def test_changes_are_those_of_solutions_from_scratch_after_many_flips(rows_per_unit):
    moments, weights, rows, fixed = case(rows_per_unit)
    rng = np.random.default_rng(1)
    kept = np.arange(8) % 2 == 0
    table = Exchange(moments, weights, rows, kept, fixed, RIDGE)
    for unit in rng.integers(0, 8, 100):
        table.flip(unit)
        kept[unit] = not kept[unit]
    now = energy(moments, weights, rows, kept, fixed)
    for unit in range(8):
        other = kept.copy()
        other[unit] = not kept[unit]
        change = energy(moments, weights, rows, other, fixed) - now
        assert change == pytest.approx(table.changes[unit] * (1 if kept[unit] else -1), rel=1e-6)
    free = np.concatenate([np.sort(rows[kept].ravel()), fixed])
    wanted = solve(moments, weights, free, True, RIDGE)
    np.testing.assert_allclose(table.solved(kept), wanted[table.present], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rows_per_unit", [1, 3])
def test_swaps_reach_the_best_of_all_sets_and_report_its_gain(rows_per_unit):
    moments, weights, rows, fixed = case(rows_per_unit, seed=2)
    kept = np.arange(8) < 4
    table = Exchange(moments, weights, rows, kept, fixed, RIDGE)
    found, gain = swap([table], kept, 400, np.random.default_rng(0))
    sets = [np.array([bits >> k & 1 for k in range(8)], bool) for bits in range(256)]
    energies = [energy(moments, weights, rows, s, fixed) for s in sets if s.sum() == 4]
    assert found.sum() == 4
    assert energy(moments, weights, rows, found, fixed) == pytest.approx(min(energies))
    first = energy(moments, weights, rows, kept, fixed)
    assert gain == pytest.approx(first - min(energies))


def test_a_further_energy_can_forbid_a_unit():
    moments, weights, rows, fixed = case(1, seed=3)
    kept = np.arange(8) < 4
    table = Exchange(moments, weights, rows, kept, fixed, RIDGE)
    found, _ = swap([table], kept, 400, np.random.default_rng(0), extra=lambda s: 1e6 * float(s[0]))
    assert not found[0]
    assert found.sum() == 4
