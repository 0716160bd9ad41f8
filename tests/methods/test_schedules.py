from __future__ import annotations

import pytest

from keras_robust_prune import backends
from keras_robust_prune.methods.schedules import EqualSteps, check_fraction, fractions


def test_equal_steps_reach_the_target_exactly():
    found = fractions(EqualSteps(target=0.5, step=1 / 64))
    assert len(found) == 32
    assert found[0] == 1 / 64
    assert found[-1] == 0.5


def test_the_last_step_may_be_shorter():
    assert fractions(EqualSteps(target=0.5, step=0.2)) == (0.2, 0.4, 0.5)


def test_a_step_beyond_the_target_is_one_step():
    assert fractions(EqualSteps(target=0.3, step=1.0)) == (0.3,)


def test_no_target_no_steps():
    assert fractions(EqualSteps(target=0.0, step=0.1)) == ()


def test_a_polynomial_decay_of_tfmot_serves():
    schedule = backends.tfmot().sparsity.keras.PolynomialDecay(
        initial_sparsity=0.1, final_sparsity=0.5, begin_step=0, end_step=300, frequency=100
    )
    expected = [0.5 + (0.1 - 0.5) * (1 - step / 300) ** 3 for step in (0, 100, 200, 300)]
    assert fractions(schedule) == pytest.approx(expected, rel=1e-6)


def test_a_constant_sparsity_of_tfmot_is_one_step():
    schedule = backends.tfmot().sparsity.keras.ConstantSparsity(0.5, begin_step=10)
    assert fractions(schedule) == (0.5,)


class Endless:
    def __call__(self, step: int) -> tuple[bool, float]:
        return True, 0.1


class Steep:
    end_step = 2

    def __call__(self, step: int) -> tuple[bool, float]:
        return step != 1, (0.2, 0.3, 0.6)[step]


def test_steps_that_do_not_prune_are_left_out():
    assert fractions(Steep()) == (0.2, 0.6)


def test_a_schedule_without_end_is_refused():
    with pytest.raises(ValueError, match="end_step"):
        fractions(Endless())


@pytest.mark.parametrize("value", [-0.1, 1.0, 50, float("nan")])
def test_what_is_no_fraction_is_refused(value: float):
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        check_fraction("target", value)


@pytest.mark.parametrize("step", [0.0, -0.5, 2.0])
def test_what_is_no_step_is_refused(step: float):
    with pytest.raises(ValueError, match="more than 0 and at most 1"):
        EqualSteps(0.5, step)
