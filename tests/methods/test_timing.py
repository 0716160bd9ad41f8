"""What is said of a run's time beforehand, and what a time that is given changes."""

from __future__ import annotations

import dataclasses
import re

import pytest
import tf_keras
from networks import network

import keras_robust_prune as krp
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.repair.course import usual_steps
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.timing import INPUTS_SHARE, Speed
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.kinds import Synthesis


def run_of(model, minutes=None, synthesis=None, **options):
    graph = read(model)
    problem = Problem(graph, find_groups(graph), input_range=(0.0, 1.0), **options)
    return Run(problem, synthesis or Synthesis(), minutes)


def test_stages_are_counted_in_passes_and_products():
    run = run_of(network("mlp"))
    slow, fast = Speed(2e-3, 4e-3, 2e-9, 1e-3, 1.0), Speed(1e-3, 2e-3, 1e-9, 1e-4, 0.5)
    parts = LeastSquares(), Distillation(num_steps=1000)
    for part in parts:
        assert part.takes(run, slow) > part.takes(run, fast) > 0
    # Half of the network is left. 64 inputs a step: the dense network once, and half of them again; the pruned one's
    # gradient to half of the inputs, and to all of the weights, which is two gradients less a pass. Four are compiled.
    each = 1.5 * 1e-3 + 0.5 * (0.5 * 2e-3 + 2 * 2e-3 - 1e-3)
    assert parts[1].takes(run, fast) == pytest.approx(1000 * 64 * each + 4 * 0.5)
    assert Distillation(seconds=7.0).takes(run, fast) == 7.0


def test_large_pictures_ascend_in_fewer_steps():
    """Steps are 40, of pictures of 96 pixels and more 12."""

    def steps(side):
        layers = [
            tf_keras.Input((side, side, 3)),
            tf_keras.layers.Conv2D(4, 3, 8, activation="relu"),
        ]
        last = [tf_keras.layers.GlobalAveragePooling2D(), tf_keras.layers.Dense(3)]
        return run_of(tf_keras.Sequential([*layers, *last])).expected.steps

    assert steps(95) == 40
    assert steps(96) == 12


def test_an_estimate_holds_the_time_that_is_given():
    run = run_of(network("mlp"), minutes=30.0)
    found = Robust(minutes=30.0).estimate(run)
    assert sum(found) == pytest.approx(30 * 60)
    assert found.inputs <= INPUTS_SHARE * 30 * 60


def test_less_time_makes_fewer_inputs_and_more_time_as_many_as_usual():
    usual = Synthesis()
    run = run_of(network("mlp"), minutes=1e-6)
    assert run._within_time().num_inputs == 64
    assert run_of(network("mlp"), minutes=1e3)._within_time() == usual
    fixed = Synthesis(num_inputs=100)
    assert run_of(network("mlp"), minutes=1e-6, synthesis=fixed)._within_time() == fixed


def test_a_time_decides_the_number_of_steps(capsys):
    layers = [tf_keras.Input((6,)), tf_keras.layers.Dense(8, "relu"), tf_keras.layers.Dense(3)]
    model = tf_keras.Sequential(layers)
    method = Robust(synthesis=Synthesis(num_inputs=64))
    result = krp.prune(model, 0.5, method=method, minutes=1 / 60, input_range=(0, 1), verbose=1)
    told = capsys.readouterr().out
    assert re.search(
        r"about \d+ (seconds|minutes): ", told
    )  # at least what repair alone takes, on a busy machine
    (steps,) = result.history["distillation_steps"]
    assert 1 <= steps < usual_steps(66, 33, True) == 6000


@pytest.mark.parametrize("minutes", [0, -1.0, float("nan"), float("inf")])
def test_a_time_is_above_0(minutes):
    with pytest.raises(ValueError, match="minutes is"):
        krp.prune(network("mlp"), minutes=minutes, verbose=0)


def test_only_methods_that_can_be_hurried_take_a_time():
    with pytest.raises(ValueError, match=r"'norm' takes as long as it takes"):
        krp.prune(network("mlp"), method="norm", minutes=1.0, verbose=0)


def test_a_time_is_a_part_of_the_composition():
    method = dataclasses.replace(Robust(), minutes=3.0)
    assert method.minutes == 3.0
    assert "minutes=3.0" in repr(method)
