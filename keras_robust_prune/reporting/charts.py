"""Lines over the fraction removed, as SVG in the colours of the page that it stands in."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 250, 40, 12, 10, 42
STYLES = (("a", ""), ("b", "6 3"), ("c", "2 3"), ("d", "8 3 2 3"))


class Point(NamedTuple):
    """One value of a line, with its interval if there is one.

    Attributes:
        x: the fraction removed, [0, 1].
        y: a share, [0, 1].
        lower: the interval's lower end; None without one.
        upper: its upper end.
    """

    x: float
    y: float
    lower: float | None = None
    upper: float | None = None


class Line(NamedTuple):
    """One quantity over the fraction removed."""

    name: str
    points: Sequence[Point]


def line_chart(lines: Sequence[Line], title: str, along: str) -> str:
    """SVG with a key; nothing of lines of fewer than two points, which are no lines.

    Args:
        lines: at most as many as can be told apart well, four; more repeat the styles.
        title: of the drawing, read aloud.
        along: what the x axis counts.

    Example:
        >>> line_chart([Line("accuracy", [Point(0.5, 0.9)])], "one", "removed")
        ''
    """
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ""
    top = max(point.x for line in lines for point in line.points)
    styles = list(itertools.islice(itertools.cycle(STYLES), len(lines)))
    drawn = "".join(_line(line, top, *style) for line, style in zip(lines, styles, strict=True))
    said = html.escape("; ".join(map(_said, lines)))
    keys = "".join(
        f'<li><svg width="30" height="10" viewBox="0 0 30 10" aria-hidden="true">{_stroke("M0 5H30", *style)}'
        f"</svg>{html.escape(line.name)}</li>"
        for line, style in zip(lines, styles, strict=True)
    )
    name = html.escape(title)
    return (
        f'<svg role="img" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' aria-label="{html.escape(title, quote=True)}"><title>{name}</title><desc>{said}</desc>'
        f'{_axes(top, along)}{drawn}</svg><ul class="keys">{keys}</ul>'
    )


def _said(line: Line) -> str:
    return f"{line.name}: " + ", ".join(f"{p.y:.3f} at {100 * p.x:.3g} %" for p in line.points)


def _x(value: float, top: float) -> float:
    return round(LEFT + value / (top or 1) * (WIDTH - LEFT - RIGHT), 1)


def _y(value: float) -> float:
    return round(HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM), 1)


APART = (0.2, 0.1, 0.05, 0.02, 0.01)
"""How far apart the fractions are that stand below a chart."""


def _axes(top: float, along: str) -> str:
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = _y(tick)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" style="stroke:var(--line)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    apart = next((step for step in APART if top >= 3 * step), top / 3)
    for part in range(int(top / apart + 1e-9) + 1 if top else 1):
        x = _x(part * apart, top)
        side = "end" if x > WIDTH - RIGHT - 12 else "middle"
        parts.append(
            f'<text x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{side}">{100 * part * apart:.3g} %</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    label = html.escape(along)
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text>')
    return "".join(parts)


def _stroke(path: str, colour: str, dashes: str) -> str:
    return (
        f'<path d="{path}" style="fill:none;stroke:var(--{colour});stroke-width:2;'
        f'stroke-dasharray:{dashes or "none"}"/>'
    )


def _line(line: Line, top: float, colour: str, dashes: str) -> str:
    places = [(_x(p.x, top), _y(p.y)) for p in line.points]
    path = "M" + "L".join(f"{x} {y}" for x, y in places)
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="3.5" style="fill:var(--{colour})"/>' for x, y in places
    )
    bars = "".join(
        _stroke(
            f"M{x} {_y(p.lower)}V{_y(p.upper)}M{x - 4} {_y(p.lower)}h8M{x - 4} {_y(p.upper)}h8",
            colour,
            "",
        )
        for (x, _), p in zip(places, line.points, strict=True)
        if p.lower is not None and p.upper is not None
    )
    return _stroke(path, colour, dashes) + bars + dots
