"""What pruning did, on one page: costs layer by layer, what was measured before and after, and the way there."""

from __future__ import annotations

import dataclasses
import html
import importlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras_robust_prune.evaluation.results import Evaluation
from keras_robust_prune.exporting.tflite import ExportReport
from keras_robust_prune.keras_io.outputs import PAGE_MARK
from keras_robust_prune.reporting.tables import table
from keras_robust_prune.surgery.summary import Comparison, count

MARK = PAGE_MARK.decode()  # by it a later run knows the page for one that it may replace
HEADER = ("measured", "before", "after")
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #1b1f24 }
table { border-collapse: collapse; margin: 0 0 1.5em }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #d5dae0 }
th:first-child, td:first-child { text-align: left }
pre { background: #f4f6f8; padding: .8em; overflow-x: auto }
svg { max-width: 100%; height: auto }
"""


class Quantity(NamedTuple):
    """Something measured before and after pruning, as text."""

    name: str
    before: str
    after: str

    def of(self, subject: str) -> Quantity:
        """The same, said of something in particular."""
        return self._replace(name=f"{subject} {self.name}")


@dataclasses.dataclass(frozen=True)
class Report:
    """What pruning did to one network; prints as tables, `to_html` gives a page.

    Attributes:
        title: the page's heading.
        comparison: costs layer by layer.
        quantities: what was measured before and after.
        notes: sentences that stand below, e.g. which inputs the decisions were taken on.
        history: what was logged at every pruning step, by name.
    """

    title: str
    comparison: Comparison
    quantities: tuple[Quantity, ...] = ()
    notes: tuple[str, ...] = ()
    history: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        parts = [str(self.comparison)]
        if self.quantities:
            parts.append(table(HEADER, self.quantities))
        if self.notes:
            parts.append("\n".join(self.notes))
        return "\n\n".join(parts)

    def to_html(self) -> str:
        """A page that needs nothing from elsewhere.

        Raises:
            ValueError: matplotlib, which draws the history, is not installed.
        """
        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        if self.quantities:
            parts += ["<h2>What was kept</h2>", _table(HEADER, self.quantities)]
        parts += ["<h2>Layer by layer</h2>"]
        parts += [_table(self.comparison.header, self.comparison.cells())]
        if self.history:
            parts += ["<h2>Step by step</h2>", chart(self.history)]
        title = f"<title>{html.escape(self.title)}</title>"
        head = f'<head><meta charset="utf-8">{MARK}{title}<style>{STYLE}</style></head>'
        body = "\n".join(parts)
        return f'<!DOCTYPE html>\n<html lang="en">{head}\n<body>\n{body}\n</body></html>\n'


def accuracies(before: Evaluation, after: Evaluation) -> tuple[Quantity, ...]:
    """Every share that two evaluations both measured, of all outputs at once.

    Example:
        >>> import numpy as np
        >>> from keras_robust_prune.evaluation.results import Evaluation, Measure
        >>> def found(*holds):
        ...     return Evaluation("toy", 2, (Measure("class", "clean", "clean", np.array(holds)),))
        >>> accuracies(found(True, True), found(True, False))
        (Quantity(name='accuracy', before='1.000', after='0.500'),)
    """
    head = after.heads[-1]
    found = {measure.name: measure.value for measure in before.measures if measure.head == head}
    return tuple(
        Quantity(
            "accuracy" if measure.kind == "clean" else f"{measure.name} accuracy",
            f"{found[measure.name]:.3f}",
            f"{measure.value:.3f}",
        )
        for measure in after.measures
        if measure.head == head and measure.name in found
    )


def files(before: ExportReport, after: ExportReport) -> tuple[Quantity, ...]:
    """Bytes and latency of two `.tflite` files.

    Example:
        >>> dense = ExportReport("dense.tflite", None, 2000, {}, 0.0, 0.25)
        >>> files(dense, dataclasses.replace(dense, num_bytes=1000, latency_ms=0.125))[0]
        Quantity(name='.tflite bytes', before='2,000', after='1,000')
    """
    return (
        Quantity(".tflite bytes", count(before.num_bytes), count(after.num_bytes)),
        Quantity("ms per input, one thread", f"{before.latency_ms:.4f}", f"{after.latency_ms:.4f}"),
    )


def require_matplotlib() -> Any:
    """Matplotlib, without a window.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ValueError(
            "The report draws with matplotlib, which is not installed:"
            " pip install 'keras-robust-prune[report]'"
        ) from error


def chart(history: Mapping[str, Sequence[float]]) -> str:
    """One small plot per logged quantity over the pruning steps, as SVG.

    Args:
        history: values at every step, by name.
    """
    columns = min(len(history), 3)
    rows = -(-len(history) // columns)
    figure = require_matplotlib().Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    for number, (name, values) in enumerate(history.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        axes.plot(range(1, len(values) + 1), values, marker=".")
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xlabel("pruning step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<table>", _row(header, "th"), *(_row(row, "td") for row in rows), "</table>"]
    return "\n".join(lines)


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
