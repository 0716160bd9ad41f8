"""Reads a page as a browser would: what is open, what it loads, what it says."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

EMPTY = {"br", "img", "meta"}


class Page(HTMLParser):
    """A page that was read; tags that are not closed in order are an error.

    Attributes:
        tags: of every element, with its attributes, in order.
        texts: everything that is said.
        svg: every drawing, parsed as XML.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open
        parts = text.split("<svg")[1:]
        self.svg = [ElementTree.fromstring(f"<svg{p.split('</svg>')[0]}</svg>") for p in parts]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def headings(self) -> list[int]:
        """The levels of the headings, in order."""
        return [int(name[1]) for name, _ in self.tags if name in ("h1", "h2", "h3")]

    @property
    def text(self) -> str:
        """Everything that is said, in one line."""
        return " ".join(" ".join(self.texts).split())
