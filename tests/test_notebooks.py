"""Every notebook runs from its first cell to its last, and says what it promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent


def executed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The outputs of all cells of a notebook, run in an empty folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # plots stand in the notebook
    notebook = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear its outputs"
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(outputs: list[Any]) -> str:
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs
    )


def test_every_notebook_is_tested_here() -> None:
    source = Path(__file__).read_text()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f'executed("{path.name}"' in source


@pytest.mark.slow
def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = executed("quickstart.ipynb", tmp_path, monkeypatch)
    text = text_of(outputs)
    assert "can be pruned" in text
    assert "decided on T1" in text
    assert any("image/png" in output.get("data", {}) for output in outputs)
    share = re.search(r"([\d.]+) of the test images", text)
    assert share is not None
    assert float(share[1]) >= 0.9
    assert (tmp_path / "history.csv").read_text().count("\n") == 1 + 12
