"""Text in columns, and the same tables in HTML for notebooks and pages."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Table:
    """Text in columns; prints as text, `to_html` gives HTML.

    Attributes:
        header: a title per column.
        rows: text, cell by cell.
        left: how many columns are names, aligned left; the others are numbers.
        foot: how many of the last rows are set apart.
        caption: what HTML says above it.

    Example:
        >>> small = Table(("layer", "units"), [("dense", "64"), ("output", "10")])
        >>> print(small)
        layer   units
        -------------
        dense      64
        output     10
        >>> small.to_html().count('scope="row"')
        2
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    foot: int = 0
    caption: str = ""

    def __str__(self) -> str:
        cells = [tuple(self.header), *map(tuple, self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.header))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < self.left else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        body, end = lines[1 : len(lines) - self.foot], lines[len(lines) - self.foot :]
        return "\n".join([lines[0], rule, *body, *([rule] if end else []), *end])

    def to_html(self) -> str:
        """The table as HTML: everything escaped, each row headed by its first cell."""
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        head = "".join(
            self._cell(text, column, "th", "col") for column, text in enumerate(self.header)
        )
        split = len(self.rows) - self.foot
        parts = [("tbody", self.rows[:split]), ("tfoot", self.rows[split:])]
        body = "".join(
            f"<{tag}>{''.join(map(self._row, rows))}</{tag}>" for tag, rows in parts if rows
        )
        return f"<table>{caption}<thead><tr>{head}</tr></thead>{body}</table>"

    def _row(self, cells: Sequence[str]) -> str:
        first, *others = cells
        row = [self._cell(first, 0, "th", "row")]
        row += [self._cell(text, column, "td") for column, text in enumerate(others, 1)]
        return f"<tr>{''.join(row)}</tr>"

    def _cell(self, text: str, column: int, tag: str, scope: str = "") -> str:
        side = "left" if column < self.left else "right"
        about = f' scope="{scope}"' if scope else ""
        return f'<{tag}{about} style="text-align:{side}">{html.escape(text)}</{tag}>'


def as_html(parts: Iterable[Table | str]) -> str:
    """Tables and sentences, as a notebook shows them; a sentence of several lines keeps them.

    Example:
        >>> as_html(["a < b"])
        '<div><p>a &lt; b</p></div>'
    """
    shown = [
        part.to_html()
        if isinstance(part, Table)
        else f"<p>{'<br>'.join(map(html.escape, part.splitlines()))}</p>"
        for part in parts
        if part
    ]
    return f"<div>{''.join(shown)}</div>"
