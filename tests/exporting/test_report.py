"""The page and the tables of a report."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
from networks import network

from keras_robust_prune.evaluation.results import Evaluation, Measure
from keras_robust_prune.exporting.report import Report, accuracies, chart
from keras_robust_prune.reporting.measurement import Measurement
from keras_robust_prune.surgery.summary import compare


class Cells(HTMLParser):
    """Collects the text of a page, and every address that it would load something from."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.loads: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("img", "script", "link", "iframe"):
            self.loads.append(str(found.get("src") or found.get("href")))


def report() -> Report:
    model = network("mlp")
    name = "accuracy <of all>"
    pairs = ((Measurement(name, 0.99), Measurement(name, 0.97)),)
    history = {"kept_units": [9, 6, 3], "val_accuracy": [0.9, 0.8, 0.7]}
    return Report("mine & yours", compare(model, model), pairs, ("A note.",), history)


def test_the_page_holds_everything_and_loads_nothing() -> None:
    page = report().to_html()
    cells = Cells()
    cells.feed(page)
    for text in ("mine & yours", "A note.", "accuracy <of all>", "0.970", "total"):
        assert text in cells.texts
    assert cells.loads == []
    assert page.count("<svg") == page.count("</svg>") == 1


def test_the_text_holds_both_tables_and_the_notes() -> None:
    found = report()
    assert str(found).startswith(str(found.comparison))
    assert "accuracy <of all>   0.990  0.970" in str(found)
    assert str(found).endswith("A note.")


def test_a_plot_for_every_logged_quantity() -> None:
    drawn = chart({name: [1.0, 2.0] for name in "abcd"})
    assert drawn.count('id="axes_') == 4


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
