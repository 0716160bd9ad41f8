"""One page that needs nothing from elsewhere: light and dark, narrow and on paper, by keyboard and read aloud."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence

from keras_robust_prune.reporting.tables import Table

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --tint: #f3f5f7; --gone: #c9d1d9; --link: #0b57d0; --a: #0b57d0; --b: #a8480f; --c: #1a7f37; --d: #8250df }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --text: #e6e9ec; --soft: #a7b0ba; --line: #3a424c;
  --tint: #1e2329; --gone: #465059; --link: #8ab4f8; --a: #8ab4f8; --b: #f0a36b; --c: #6cc785; --d: #c9a6ff } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif }
header, nav, main, footer { max-width: 60rem; margin: 0 auto; padding: 0 1rem; overflow-wrap: anywhere }
header { padding-top: 1.5rem } footer { padding: 1rem; color: var(--soft) }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem }
a { color: var(--link) } :focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: .5rem 0; list-style: none }
.skip { position: absolute; left: -99rem }
.skip:focus { left: 1rem; top: .5rem; background: var(--page); padding: .5rem }
.wide { overflow: auto; margin: 0 0 1rem; max-height: 44rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); padding: .25rem 0 }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: normal }
td[style*="right"] { white-space: nowrap } td[style*="left"] { overflow-wrap: anywhere; min-width: 8rem }
tbody th { font-weight: 500 } tfoot th, tfoot td { border-top: 2px solid var(--line); font-weight: 600 }
td:last-child, th:last-child { padding-right: 0 }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .25rem 1rem; margin: 0 0 1rem }
dt { color: var(--soft) } dd { margin: 0; min-width: 0 }
pre { background: var(--tint); padding: .75rem; margin: 0 0 1rem; overflow: auto; white-space: pre-wrap;
  font-size: .875rem }
figure { margin: 0 0 1rem } figcaption { color: var(--soft); font-size: .875rem }
svg { display: block; max-width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: var(--text) }
.pictures { display: flex; flex-wrap: wrap; gap: .25rem; margin: 0 0 .25rem; padding: 0; list-style: none }
.pictures img { display: block; width: 4.5rem; image-rendering: pixelated; border: 1px solid var(--line) }
.keys { display: flex; flex-wrap: wrap; gap: .1rem 1rem; padding: 0; margin: .25rem 0; list-style: none;
  font-size: .875rem }
.keys svg { display: inline-block; vertical-align: middle; margin-right: .35rem }
@media (max-width: 30rem) { dl { display: block } dd { margin-bottom: .5rem } body { font-size: 15px } }
@media print { :root { color-scheme: light; --page: #ffffff; --text: #000000; --soft: #444444; --line: #bbbbbb;
  --tint: #f4f4f4; --gone: #cccccc; --a: #0b57d0; --b: #a8480f; --c: #1a7f37; --d: #8250df }
  nav, .skip { display: none } body { font-size: 10pt } header, main, footer { max-width: none; padding: 0 }
  .wide { overflow: visible; max-height: none } h2, h3 { break-after: avoid }
  table, tr, figure, dd { break-inside: avoid } dt { break-after: avoid } tfoot { display: table-row-group }
  a { color: inherit; text-decoration: none } @page { margin: 15mm } }
"""


class Markup(str):
    """Text that is HTML already, everything foreign in it escaped."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is what, in two columns.

    Attributes:
        items: names with what there is to say.
    """

    items: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Code:
    """Something to be typed again."""

    text: str
    label: str


Part = Table | Facts | Code | Markup | str


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        title: the heading.
        parts: one after the other.
    """

    title: str
    parts: Sequence[Part]


def page(title: str, lead: str, sections: Sequence[Section], mark: str = "", end: str = "") -> str:
    """The page.

    Args:
        title: its heading, and that of the window.
        lead: a sentence below it.
        sections: those without parts are left out.
        mark: what stands in the head besides, as HTML.
        end: a sentence at the foot.

    Example:
        >>> '<h2 id="s1">Why &amp; what</h2>' in page("A", "", [Section("Why & what", ["so"])])
        True
    """
    shown = [section for section in sections if any(section.parts)]
    contents = "".join(
        f'<li><a href="#s{number}">{html.escape(section.title)}</a></li>'
        for number, section in enumerate(shown, 1)
    )
    body = "\n".join(_section(number, section) for number, section in enumerate(shown, 1))
    title = html.escape(title)
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8">{mark}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{STYLE}</style></head>
<body>
<a class="skip" href="#main">To the report</a>
<header><h1>{title}</h1><p>{html.escape(lead)}</p></header>
<nav aria-label="Contents"><ol>{contents}</ol></nav>
<main id="main">
{body}
</main>
<footer>{html.escape(end)}</footer>
</body>
</html>
"""


def _section(number: int, section: Section) -> str:
    parts = "\n".join(_part(part, section.title) for part in section.parts if part)
    heading = f'<h2 id="s{number}">{html.escape(section.title)}</h2>'
    return f'<section aria-labelledby="s{number}">{heading}\n{parts}</section>'


def _part(part: Part, title: str) -> str:
    if isinstance(part, Table):
        return scrolling(part.to_html(), part.caption or title)
    if isinstance(part, Facts):
        pairs = (f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in part.items)
        return f"<dl>{''.join(pairs)}</dl>"
    if isinstance(part, Code):
        label = html.escape(part.label, quote=True)
        text = html.escape(part.text)
        return f'<pre tabindex="0" role="region" aria-label="{label}"><code>{text}</code></pre>'
    return part if isinstance(part, Markup) else f"<p>{html.escape(part)}</p>"


def scrolling(markup: str, label: str) -> Markup:
    """Something that may be too wide or too long for a window: it scrolls by itself, by keyboard too."""
    label = html.escape(label, quote=True)
    return Markup(
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0">{markup}</div>'
    )


def figure(markup: str, caption: str) -> Markup:
    """A drawing or pictures, with a sentence below."""
    return Markup(f"<figure>{markup}<figcaption>{html.escape(caption)}</figcaption></figure>")


def pictures(uris: Sequence[str], described: Sequence[str]) -> str:
    """Small pictures in rows, each with a text that stands for it."""
    items = (
        f'<li><img src="{uri}" alt="{html.escape(text, quote=True)}"></li>'
        for uri, text in zip(uris, described, strict=True)
    )
    return f'<ul class="pictures">{"".join(items)}</ul>'
