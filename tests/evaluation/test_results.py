"""Confidence intervals by arithmetic, and how an evaluation prints and converts."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_robust_prune.evaluation.results import Evaluation, Measure, wilson_interval


def share(count: int, total: int) -> np.ndarray:
    return np.arange(total) < count


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [
        (0, 10, (0.0, 1.959964**2 / (10 + 1.959964**2))),
        (10, 10, (10 / (10 + 1.959964**2), 1.0)),
        (81, 263, (0.2553, 0.3662)),  # Newcombe, 1998, table I, method 3
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_intervals_are_those_published(
    count: int, total: int, expected: tuple[float, float]
) -> None:
    assert wilson_interval(count, total) == pytest.approx(expected, abs=6e-5)


@given(total=st.integers(1, 500), data=st.data())
def test_wilson_ends_solve_their_equation(total: int, data: st.DataObject) -> None:
    count, z = data.draw(st.integers(0, total)), 1.5
    for end in wilson_interval(count, total, z):
        distance = abs(count / total - end)
        assert distance == pytest.approx(z * math.sqrt(end * (1 - end) / total), abs=1e-7)


def test_wilson_without_trials_knows_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="between 0 and total"):
        wilson_interval(3, 2)


@pytest.fixture
def evaluation() -> Evaluation:
    measures = (
        Measure("digit", "clean", "clean", share(9, 10)),
        Measure("digit", "attack", "pgd@0.1", share(4, 10)),
        Measure("digit", "corruption", "jpeg@1", share(8, 10)),
        Measure("digit", "corruption", "jpeg@5", share(5, 10)),
    )
    return Evaluation("net", 10, measures, ("gradients are masked",))


def test_an_evaluation_prints_as_tables(evaluation: Evaluation) -> None:
    lines = [" ".join(line.split()) for line in str(evaluation).splitlines()]
    assert "clean .9000 [.5958, .9821]" in lines
    assert "pgd@0.1 .4000 [.1682, .6873]" in lines
    assert "jpeg .8000 .5000 .6500" in lines
    assert lines[-1] == "warning: gradients are masked"


def test_an_evaluation_answers_by_name(evaluation: Evaluation) -> None:
    assert evaluation.accuracy == evaluation["clean"] == 9 / 10
    assert evaluation["pgd@0.1"] == 4 / 10
    assert evaluation.corruption_accuracy == pytest.approx((8 + 5) / 20)
    assert evaluation.find("jpeg@5").count == 5
    assert evaluation["pgd@1/10"] == evaluation["PGD-20@.1"] == 4 / 10
    with pytest.raises(KeyError, match=r"there is \['clean', 'pgd@0.1'"):
        evaluation["fgsm@0.1"]


def test_an_evaluation_converts_to_plain_values(evaluation: Evaluation) -> None:
    plain = json.loads(json.dumps(evaluation.to_dict()))
    assert plain["subject"] == "net"
    assert plain["num_inputs"] == 10
    assert plain["warnings"] == ["gradients are masked"]
    assert [m["name"] for m in plain["measures"]] == ["clean", "pgd@0.1", "jpeg@1", "jpeg@5"]
    assert plain["measures"][1]["count"] == 4
    assert plain["measures"][1]["lower"] == pytest.approx(0.1682, abs=1e-4)


def test_without_corruptions_their_mean_is_not_a_number() -> None:
    assert math.isnan(Evaluation("net", 0, ()).corruption_accuracy)


def test_a_renamed_attack_is_found_by_its_old_name() -> None:
    found = Evaluation("net", 10, (Measure("digit", "attack", "ensemble-8@0.1", share(3, 10)),))
    with pytest.warns(DeprecationWarning, match="'ensemble'"):
        assert found["autoattack-8@0.1"] == 3 / 10
