"""What the README says works: its Python runs, its commands parse, CI runs its test command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from test_architecture import ORDER

from keras_robust_prune import cli
from keras_robust_prune.cli import flags

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, one block after the other, as a reader would."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "digits.tflite").exists()


def test_commands_parse() -> None:
    commands = [line for block in blocks("bash") for line in block.split("&&")]
    lines = [line for command in commands for line in command.strip().splitlines()]
    seen = set()
    for line in lines:
        program, *words = shlex.split(line)
        if program == flags.PROGRAM:
            cli.parse(words)
            seen.add(words[0])
        else:
            assert program in ("pip", "python", "sphinx-build")
    assert seen == {"demo"}


def test_what_it_links_to_is_there() -> None:
    links = re.findall(r"\]\(([\w./]+)\)", README)
    assert len(links) > 15
    for link in links:
        assert (ROOT / link).exists(), link
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{path.name}" in links


def test_first_command_shows_the_demonstration_and_second_runs_the_tests() -> None:
    first, second, *_ = blocks("bash")
    assert first.strip().endswith("&& keras-robust-prune demo")
    install, _, tests = second.strip().partition(" && ")
    assert install == "pip install -e '.[test]'"
    assert tests in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_order_of_imports_is_the_one_that_is_held() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    order = re.search(r"    (backends <- [\w\s<-]+ <- cli)", architecture)
    assert order is not None
    assert tuple(re.findall(r"\w+", order[1])) == ORDER[:-1]


def test_rooms_and_files_exist() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    table = architecture.split("| room | begin with |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        room, *files = re.findall(r"`([\w/.]+)`", line)
        for name in files:
            assert (ROOT / "keras_robust_prune" / room / name).exists(), f"{room}{name}"
