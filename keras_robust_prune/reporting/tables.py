"""Text in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, foot: int = 0
) -> str:
    """Text in columns: the first `left` of them aligned left, the last `foot` rows set apart.

    Example:
        >>> print(table(("layer", "units"), [("dense", "64"), ("output", "10")]))
        layer   units
        -------------
        dense      64
        output     10
    """
    cells = [tuple(header), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    body, end = lines[1 : len(lines) - foot], lines[len(lines) - foot :]
    return "\n".join([lines[0], rule, *body, *([rule] if end else []), *end])
