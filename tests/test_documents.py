"""What the documents say works: their Python runs, their commands parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from keras_robust_prune import cli
from keras_robust_prune.cli import flags

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "results" not in path.parts)
# Needs times that were measured on a phone.
NEEDS_A_PHONE = "krp.latency.read_phone"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.parent.name == "guides"], ids=lambda p: p.stem
)
def test_guides_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, one after the other, as a reader would."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        code = compile(block, page.name, "exec")
        if NEEDS_A_PHONE not in block:
            exec(code, names)


def test_the_guide_shows_every_command() -> None:
    words = "".join(blocks(DOCS / "guides" / "command_line.md", "bash")).split()
    assert set(words) >= set(cli.COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_commands_parse(page: Path) -> None:
    for line in "".join(blocks(page, "bash")).splitlines():
        program, *words = shlex.split(line, comments=True) or [""]
        if program == flags.PROGRAM:
            cli.parse(words)
