"""A target per group: what goes, by every kind of method, and what is said of names that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tf_keras
from networks import network

import keras_robust_prune as krp
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.budgets import uniform_counts
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.surgery.groups import find_groups


def chain() -> Any:
    layers = [tf_keras.layers.Dense(width, name=name) for name, width in (("a", 8), ("b", 6))]
    return tf_keras.Sequential([tf_keras.Input((4,)), *layers, tf_keras.layers.Dense(2, name="c")])


def widths(model: Any) -> list[int]:
    return [layer.units for layer in model.layers]


@pytest.mark.parametrize("method", ["norm", "random", "baseline", "greedy"])
def test_each_group_gives_its_own_and_the_others_nothing(method: str) -> None:
    result = krp.prune(chain(), {"a": 0.5}, method=method, calibration="weights", verbose=0)
    assert widths(result.model) == [4, 6, 2]
    assert result.asked == result.removed == 4 / 14


def test_robust_repairs_what_is_left() -> None:
    method = krp.Robust(repair="reconstruct")
    x = np.random.default_rng(0).random((64, 4), np.float32)
    target = {"a": 0.25, "b": 0.5}
    result = krp.prune(chain(), target, method=method, calibration=x, verbose=0)
    assert widths(result.model) == [6, 3, 2]


def test_steps_come_near_in_equal_parts() -> None:
    graph = read(chain())
    problem = Problem(graph, find_groups(graph), {"a": 0.5, "b": 0.5}, step=0.25)
    counts = uniform_counts(problem, problem.fractions(1.0))
    assert counts == ({"a": 2, "b": 2}, {"a": 4, "b": 3})


def test_a_layer_names_the_group_that_it_adds_to() -> None:
    model = network("residual")
    groups = find_groups(read(model)).groups
    group = next(group for group in groups if len(group.producers) > 1)
    by_layer = krp.prune(model, {group.producers[-1]: 0.5}, method="norm", verbose=0)
    by_group = krp.prune(model, {group.name: 0.5}, method="norm", verbose=0)
    assert by_layer.plan == by_group.plan
    assert {removal.group for removal in by_layer.plan.removals} == {group.name}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"aa": 0.5}, r"no group 'aa' \(did you mean 'a'\?\)"),
        (
            {"c": 0.5},
            "'c' has no unit that can be removed: its units reach 'c', which is an output",
        ),
        ({"a": 1.0}, r"target\['a'\] is 1.0, but it is a fraction"),
        ({}, "names no group"),
        ({7: 0.5}, "no group 7"),
    ],
)
def test_a_target_that_does_not_fit_is_refused_with_the_way_out(
    target: dict[Any, float], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as error:
        krp.prune(chain(), target, method="norm", verbose=0)
    assert "krp.inspect(model) lists the groups" in str(error.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError, match=r"'c' has no unit.*no group 'd'"):
        krp.prune(chain(), {"c": 0.5, "d": 0.5}, method="norm", verbose=0)


def test_layers_whose_units_go_together_cannot_have_two_targets() -> None:
    model = network("residual")
    groups = find_groups(read(model)).groups
    first, second, *_ = next(g.producers for g in groups if len(g.producers) > 1)
    with pytest.raises(ValueError, match=r"units go together, but the targets are 0\.5 and 0\.25"):
        krp.prune(model, {first: 0.5, second: 0.25}, method="norm", verbose=0)


@pytest.mark.parametrize("options", [{"measure": "macs"}, {"limits": {"macs": 0.5}}])
def test_a_target_per_group_counts_units(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(A|a) target per group"):
        krp.prune(chain(), {"a": 0.5}, method="norm", verbose=0, **options)


def test_in_training_too() -> None:
    masked = krp.wrap(chain())
    masked.compile("sgd", "mse")
    x = np.random.default_rng(0).random((8, 4), np.float32)
    callback = krp.RobustPruning({"b": 0.5}, begin=0, end=1, method="norm")
    masked.fit(x, np.zeros((8, 2), "float32"), epochs=2, verbose=0, callbacks=[callback])
    assert widths(krp.strip(masked)) == [8, 3, 2]
    with pytest.raises(ValueError, match="no group 'z'"):
        masked.fit(x, x, verbose=0, callbacks=[krp.RobustPruning({"z": 0.5})])
