"""The tables of a report."""

from __future__ import annotations

import numpy as np
from networks import network

from keras_robust_prune.evaluation.results import Evaluation, Measure
from keras_robust_prune.exporting.report import Report, accuracies
from keras_robust_prune.reporting.measurement import Measurement
from keras_robust_prune.surgery.summary import compare


def report() -> Report:
    model = network("mlp")
    name = "accuracy <of all>"
    pairs = ((Measurement(name, 0.99), Measurement(name, 0.97)),)
    return Report(compare(model, model), pairs, ("A note.",))


def test_the_text_holds_both_tables_and_the_notes() -> None:
    found = report()
    assert str(found).startswith(str(found.comparison))
    assert "accuracy <of all>   0.990  0.970" in str(found)
    assert str(found).endswith("A note.")


def test_accuracies_are_of_all_outputs_and_of_what_both_measured() -> None:
    def found(*measures: tuple[str, str, str, list[bool]]) -> Evaluation:
        return Evaluation("m", 4, tuple(Measure(*m[:3], np.array(m[3])) for m in measures))

    first = ("digit", "clean", "clean", [True] * 4)
    before = found(first, ("all outputs", "clean", "clean", [True, True, True, False]))
    after = found(
        first,
        ("all outputs", "clean", "clean", [True, False, False, False]),
        ("all outputs", "attack", "pgd@0.1", [False] * 4),
    )
    ((one, two),) = accuracies(before, after)
    assert (one.name, one.number, two.name, two.number) == ("accuracy", 0.75, "accuracy", 0.25)
