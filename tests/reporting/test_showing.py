"""Values show themselves: as tables in notebooks, as figures, and nothing hostile gets through."""

from __future__ import annotations

import importlib
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import tf_keras

import keras_robust_prune as krp
from keras_robust_prune.reporting.tables import Table, as_html

HOSTILE = 'a<script>alert("1")</script>&b'


class Page(HTMLParser):
    """The tags that are open, everything that was seen, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("br", "img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def small() -> Any:
    layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(8, name="first", activation="relu")]
    return tf_keras.Sequential([*layers, tf_keras.layers.Dense(2, name="second")], name="small")


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One value of every kind that shows itself."""
    model, x = small(), np.linspace(0, 1, 24, dtype="float32").reshape(6, 4)
    result = krp.prune(model, 0.5, method="norm", step=0.25, verbose=0)
    path = tmp_path_factory.mktemp("files") / "small.tflite"
    return {
        "result": result,
        "inspection": krp.inspect(model),
        "evaluation": krp.evaluate(model, x, [0, 1] * 3, reference=result.model),
        "certificate": krp.certify(model, result.model, x, 0.01),
        "file": krp.export_tflite(result.model, path),
        "plan": result.plan,
        "summary": krp.summary(model),
        "comparison": result.comparison,
    }


NAMES = ["result", "inspection", "evaluation", "certificate", "file", "plan", "summary"]


@pytest.mark.parametrize("name", [*NAMES, "comparison"])
def test_a_notebook_shows_what_is_printed(values: dict[str, Any], name: str) -> None:
    """Every word of a row that is printed stands in the HTML, which is balanced and has tables alone."""
    value = values[name]
    page = Page(value._repr_html_())
    assert not page.open
    assert set(page.tags) <= {
        "div",
        "p",
        "br",
        "table",
        "caption",
        "thead",
        "tbody",
        "tfoot",
        "tr",
        "th",
        "td",
    }
    printed = value.summary() if name == "result" else str(value)
    shown = " ".join(page.texts)
    for word in re.findall(r"\S*\d\S*", printed):
        assert word.strip("(),") in shown


def test_hostile_names_are_text() -> None:
    shown = as_html([HOSTILE, Table((HOSTILE,), [(HOSTILE,)], caption=HOSTILE)])
    page = Page(shown)
    assert "script" not in page.tags
    assert page.texts == [HOSTILE] * 4


def test_the_header_of_a_comparison_says_each_thing_once(values: dict[str, Any]) -> None:
    header = values["comparison"].table.header
    assert len(set(header)) == len(header)


def test_a_result_draws_widths_and_steps(values: dict[str, Any]) -> None:
    widths, over = values["result"].plot().axes
    assert [text.get_text() for text in widths.texts] == [" 4 of 8"]
    macs = next(line for line in over.lines if line.get_label() == "MACs")
    np.testing.assert_allclose(macs.get_xdata(), [0.25, 0.5])
    np.testing.assert_allclose(macs.get_ydata(), [0.75, 0.5])  # 6 and 4 of 8 units


def test_a_single_step_is_no_line() -> None:
    figure = krp.prune(small(), 0.5, method="norm", step=0.5, verbose=0).plot()
    assert len(figure.axes) == 1
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_evaluation_draws_every_share_with_its_interval(values: dict[str, Any]) -> None:
    evaluation = values["evaluation"]
    (axes,) = evaluation.plot().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["clean", "agreement"]
    ends = [bars.get_segments()[0][:, 0] for bars in axes.collections]
    np.testing.assert_allclose(ends, [measure.interval for measure in evaluation.measures])


def test_without_matplotlib_it_says_how_to_get_it(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"pip install 'keras-robust-prune\[report\]'"):
        values["result"].plot()


def test_a_file_says_how_much_its_time_varies(values: dict[str, Any]) -> None:
    file = values["file"]
    low, high = file.spread_ms
    assert 0 < low <= file.latency_ms <= high
    assert "5 to 95 %" in str(file)
