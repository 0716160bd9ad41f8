"""The worked examples of docs/extend.md run, each section as a reader would, and do what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keras_robust_prune.evaluation.attacks.registry import ATTACKS
from keras_robust_prune.layers import base

PAGE = (Path(__file__).parents[1] / "docs" / "extend.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture(autouse=True)
def _registries_as_they_were() -> Iterator[None]:
    before = [(table, dict(table)) for table in (ATTACKS, base._USERS)]
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_example_runs(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", SECTIONS[section], re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, f"extend.md, {section}", "exec"), names)


def test_the_layer_is_cut_by_half(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", SECTIONS["A layer"], re.DOTALL):
        exec(compile(block, "extend.md", "exec"), names)
    shown = capsys.readouterr().out
    assert re.search(rf"^first +FirstConv .* {36 * 9 * 2 * 4:,}$", shown, re.MULTILINE)
    assert re.search(rf"^second +FirstConv .* {36 * 9 * 4 * 4:,}$", shown, re.MULTILINE)
    assert (tmp_path / "small.tflite").exists()


def test_the_attack_is_named_and_stronger_than_one_step(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", SECTIONS["An attack"], re.DOTALL):
        exec(compile(block, "extend.md", "exec"), names)
    shares = dict(re.findall(r"^(\S+@\S+)\s+(\.\d+|1\.0+)", capsys.readouterr().out, re.MULTILINE))
    assert set(shares) == {"momentum@0.1", "momentum-40x2@5%", "fgsm@0.1"}
    assert float(shares["momentum@0.1"]) <= float(shares["fgsm@0.1"]) < 1


@pytest.mark.slow
def test_the_selector_and_the_repair_compose(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", SECTIONS["A selector"], re.DOTALL):
        exec(compile(block, "extend.md", "exec"), names)
    result: Any = names["result"]
    assert result.method == "mine"
    assert all(len(result.plan.kept(g)) == -(-w // 2) for g, w in result.plan.widths.items())
    assert "selector=LeastVarying(), repair=(LeastSquares(),)" in capsys.readouterr().out
    for block in re.findall(r"```python\n(.*?)```", SECTIONS["A repair"], re.DOTALL):
        exec(compile(block, "extend.md", "exec"), names)
    shown = dict(re.findall(r"^(\d) ([0-9.]+)$", capsys.readouterr().out, re.MULTILINE))
    assert float(shown["1"]) > float(shown["0"])
