from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_robust_prune.methods.reference.annealing import anneal
from keras_robust_prune.methods.schedules import falling_temperature


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_in_the_heat_candidates_are_taken_in_order():
    found = anneal(6, 4, lambda k, _: float(k), rng(), temperature=lambda _: 1e12)
    assert found == [0, 1, 2, 3]


def test_in_the_cold_only_falling_energies_are_taken():
    energies = [0.5, 0.6, 0.4, 0.45, 0.1, 0.2]
    found = anneal(6, 3, lambda k, _: energies[k], rng(), temperature=lambda _: 1e-9)
    assert found == [0, 2, 4]


def test_what_was_refused_is_offered_again_and_a_barren_round_takes_the_best():
    energies = [0.1, 0.9, 0.5]
    found = anneal(3, 3, lambda k, _: energies[k], rng(), temperature=lambda _: 1e-9)
    assert found == [0, 2, 1]


def test_a_rise_is_accepted_as_often_as_its_temperature_says():
    rise, heat = 0.3, 0.4
    second = [
        anneal(3, 2, lambda k, _: [0.0, rise, 0.0][k], rng(seed), lambda _: heat)[1]
        for seed in range(4000)
    ]
    assert np.mean(np.array(second) == 1) == pytest.approx(math.exp(-rise / heat), abs=0.03)


def test_candidates_are_scored_with_those_accepted_before():
    seen = []

    def energy(candidate: int, accepted: list[int]) -> float:
        seen.append((candidate, tuple(accepted)))
        return 0.0

    anneal(3, 3, energy, rng())
    assert seen == [(0, ()), (1, (0,)), (2, (0, 1))]


def test_temperature_falls_linearly_with_what_is_accepted():
    asked = []

    def temperature(progress: float) -> float:
        asked.append(progress)
        return falling_temperature(progress)

    anneal(4, 4, lambda k, _: 0.0, rng(), temperature)
    assert asked == [0.0, 0.25, 0.5, 0.75]
    assert [falling_temperature(p) for p in asked] == pytest.approx(
        [1.0001, 0.7501, 0.5001, 0.2501]
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 20), st.integers(1, 20), st.integers(0, 1000), st.floats(1e-6, 10.0))
def test_the_count_is_met_and_none_is_taken_twice(
    num_candidates: int, count: int, seed: int, heat: float
):
    energies = rng(seed).uniform(size=num_candidates)
    found = anneal(num_candidates, count, lambda k, _: energies[k], rng(seed), lambda _: heat)
    assert len(found) == len(set(found)) == min(count, num_candidates)
    assert set(found) <= set(range(num_candidates))


def test_the_same_seed_takes_the_same():
    energies = rng(5).uniform(size=30)
    found = [anneal(30, 10, lambda k, _: energies[k], rng(1), lambda _: 0.1) for _ in range(2)]
    assert found[0] == found[1]
