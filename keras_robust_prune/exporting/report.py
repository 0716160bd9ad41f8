"""What pruning did, on one page: costs layer by layer, what was measured before and after, and the way there."""

from __future__ import annotations

import dataclasses
import html
import importlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from keras_robust_prune.evaluation.results import Evaluation
from keras_robust_prune.exporting.tflite import ExportReport
from keras_robust_prune.keras_io.outputs import PAGE_MARK
from keras_robust_prune.reporting.measurement import Measurement
from keras_robust_prune.reporting.tables import table
from keras_robust_prune.surgery.summary import Comparison

MARK = PAGE_MARK.decode()  # by it a later run knows the page for one that it may replace
Pair = tuple[Measurement, Measurement]
HEADER = ("measured", "before", "after")
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #1b1f24 }
table { border-collapse: collapse; margin: 0 0 1.5em }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #d5dae0 }
th:first-child, td:first-child { text-align: left }
pre { background: #f4f6f8; padding: .8em; overflow-x: auto }
svg { max-width: 100%; height: auto }
"""


@dataclasses.dataclass(frozen=True)
class Report:
    """What pruning did to one network; prints as tables, `to_html` gives a page.

    Attributes:
        title: the page's heading.
        comparison: costs layer by layer.
        pairs: what was measured before and after.
        notes: sentences that stand below, e.g. which inputs the decisions were taken on.
        history: what was logged at every pruning step, by name.
    """

    title: str
    comparison: Comparison
    pairs: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()
    history: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        parts = [str(self.comparison)]
        if self.pairs:
            parts.append(table(HEADER, self._rows()))
        if self.notes:
            parts.append("\n".join(self.notes))
        return "\n\n".join(parts)

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(before.name, before.text, after.text) for before, after in self.pairs]

    def to_html(self) -> str:
        """A page that needs nothing from elsewhere.

        Raises:
            ValueError: matplotlib, which draws the history, is not installed.
        """
        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        if self.pairs:
            parts += ["<h2>What was kept</h2>", _table(HEADER, self._rows())]
        parts += ["<h2>Layer by layer</h2>"]
        parts += [_table(self.comparison.header, self.comparison.cells())]
        if self.history:
            parts += ["<h2>Step by step</h2>", chart(self.history)]
        title = f"<title>{html.escape(self.title)}</title>"
        head = f'<head><meta charset="utf-8">{MARK}{title}<style>{STYLE}</style></head>'
        body = "\n".join(parts)
        return f'<!DOCTYPE html>\n<html lang="en">{head}\n<body>\n{body}\n</body></html>\n'


def accuracies(before: Evaluation, after: Evaluation, of: str = "") -> tuple[Pair, ...]:
    """Every share that two evaluations both measured, of all outputs at once.

    Args:
        before: of the dense network, or its file.
        after: of the pruned one.
        of: what stands before the names.

    Example:
        >>> import numpy as np
        >>> from keras_robust_prune.evaluation.results import Evaluation, Measure
        >>> def found(*holds):
        ...     return Evaluation("toy", 2, (Measure("class", "clean", "clean", np.array(holds)),))
        >>> [(one.name, one.text, two.text) for one, two in accuracies(found(1, 1), found(1, 0))]
        [('accuracy', '1.000', '0.500')]
    """
    earlier = {item.name: item for item in before.overall}

    def named(item: Measurement) -> Measurement:
        name = item.name if item.name == "accuracy" else f"{item.name} accuracy"
        return dataclasses.replace(item, name=f"{of} {name}".strip())

    return tuple(
        (named(earlier[item.name]), named(item)) for item in after.overall if item.name in earlier
    )


def files(before: ExportReport, after: ExportReport) -> tuple[Pair, ...]:
    """Bytes and latency of two `.tflite` files.

    Example:
        >>> dense = ExportReport("dense.tflite", None, 2000, {}, 0.0, 0.25)
        >>> pair = files(dense, dataclasses.replace(dense, num_bytes=1000, latency_ms=0.125))[0]
        >>> [item.text for item in pair]
        ['2,000', '1,000']
    """

    def size(file: ExportReport) -> Measurement:
        return Measurement(".tflite bytes", file.num_bytes, measured_on=file.path, unit="bytes")

    def latency(file: ExportReport) -> Measurement:
        name = "ms per input, one thread"
        return Measurement(name, file.latency_ms, measured_on=file.path, unit="ms")

    return (size(before), size(after)), (latency(before), latency(after))


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
