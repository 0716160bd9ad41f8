from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.budgets import uniform_counts, units_removed
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.schedules import EqualSteps, fractions
from keras_robust_prune.surgery.groups import find_groups


def test_steps_of_one_64th_land_on_the_half():
    half = fractions(EqualSteps(0.5, 1 / 64))
    assert units_removed(128, half) == tuple(2 * (step + 1) for step in range(32))
    assert units_removed(64, half) == tuple(range(1, 33))


def test_steps_round_up_but_the_end_does_not():
    assert units_removed(10, (0.25, 0.5, 0.75)) == (3, 5, 7)


def test_fractions_in_single_precision_count_as_meant():
    assert units_removed(1000, (0.10000000149011612,)) == (100,)


def test_one_unit_stays():
    assert units_removed(1, (0.9,)) == (0,)
    assert units_removed(3, (0.99,)) == (2,)


def test_widths_become_multiples():
    assert units_removed(100, (0.5,), round_to=8) == (100 - 56,)
    assert units_removed(100, (0.02,), round_to=8) == (0,)
    assert units_removed(6, (0.5,), round_to=8) == (0,)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.floats(0.01, 0.99), st.floats(0.01, 1.0), st.sampled_from([1, 4, 8]))
def test_never_falling_never_exceeding(num_units: int, target: float, step: float, round_to: int):
    counts = units_removed(num_units, fractions(EqualSteps(target, step)), round_to)
    assert list(counts) == sorted(counts)
    assert counts[-1] <= target * num_units + 1e-3
    assert all(num_units - count >= 1 for count in counts)
    assert all((num_units - count) % round_to == 0 or count == 0 for count in counts)
    if round_to == 1:
        assert counts[-1] == min(math.floor(target * num_units + 1e-4), num_units - 1)


def test_no_steps_no_counts():
    assert units_removed(5, ()) == ()


class Stairs:
    """A device that computes 16 units at once."""

    name = "stairs"

    def remaining(self, graph, groups):
        class Left:
            total = float(sum(math.ceil(group.num_units / 16) for group in groups))

            def __call__(self, gone):
                return float(
                    sum(math.ceil((g.num_units - gone.get(g.name, 0)) / 16) for g in groups)
                )

        return Left()


@pytest.mark.parametrize(("target", "left"), [(0.25, 3 + 3), (0.125, 3 + 4), (0.3, 3 + 2)])
def test_no_more_groups_take_a_stair_than_it_takes(target: float, left: int):
    """All took it: two layers of 64 came to 48 together, and half of a budget of time became a third."""
    layers = backends.tf_keras().layers
    stack = [layers.Input((4,)), layers.Dense(64), layers.Dense(64), layers.Dense(2)]
    graph = read(backends.tf_keras().Sequential(stack))
    groups = find_groups(graph)
    problem = Problem(graph, groups, target=target, measure=Stairs())
    (gone,) = uniform_counts(problem, (target,))
    assert Stairs().remaining(graph, groups.groups)(gone) == left
