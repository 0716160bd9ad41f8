"""The benchmarks: one command finds and runs them, and their tables say where they come from."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import FOLDERS, benchmarks
from tests.benchmarks.benchmark import in_turns, markdown, read_rows, write_rows

ROOT = Path(__file__).parents[1]
README = ROOT / "tests" / "benchmarks" / "README.md"
HELPERS = {"paoding_run", "paper_tables", "hub_backbones", "hub_composed"}


def test_every_module_of_the_four_folders_is_a_benchmark():
    folder = ROOT / "tests" / "benchmarks"
    modules = {path.stem for name in FOLDERS for path in (folder / name).glob("*.py")}
    assert set(benchmarks()) == modules - HELPERS
    beside = {"__main__", "benchmark", "variants", "zoo"}
    assert {path.stem for path in folder.glob("*.py")} == beside


@pytest.mark.parametrize("name", sorted(benchmarks()))
def test_every_benchmark_stands_in_the_readme_and_names_its_command(name: str):
    assert f"`{name}`" in README.read_text()
    assert f"python -m tests.benchmarks {name}" in benchmarks()[name].read_text()


def test_one_command_measures_and_says_on_what(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks",
        "wide_layer",
        "--quick",
        f"--out={tmp_path}",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (row,) = read_rows(tmp_path / "wide_layer.csv")
    assert row["units removed"] == str(256 // 64 + 256 // 64)
    assert float(row["seconds"]) > 0
    text = (tmp_path / "wide_layer.md").read_text()
    for what in (
        "machine",
        "versions: Python",
        "commit",
        "date",
        "command: `python -m tests.bench",
    ):
        assert f"- {what}" in text
    assert str(tmp_path) not in text
    assert (tmp_path / "wide_layer.png").stat().st_size > 1000
    # What is there is not measured again.
    again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "seconds=" not in again.stdout


def test_an_unknown_benchmark_is_named():
    command = [sys.executable, "-m", "tests.benchmarks", "tachometer"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no benchmark tachometer" in done.stdout
    assert "speed/wide_layer" in done.stdout


def test_rows_are_written_with_their_circumstances_and_read_without(tmp_path: Path):
    path = tmp_path / "table.csv"
    write_rows(path, [{"a": "x", "b": 1}, {"a": "y", "c": 0.5}], ["- machine: one"])
    assert path.read_text().splitlines()[0] == "# machine: one"
    rows = [{"a": "x", "b": "1", "c": ""}, {"a": "y", "b": "", "c": "0.5"}]
    assert read_rows(path) == rows
    assert list(csv.reader([path.read_text().splitlines()[1]])) == [["a", "b", "c"]]
    assert markdown(rows).splitlines()[2:] == ["| x | 1 |  |", "| y |  | 0.5 |"]


def test_runs_take_turns():
    order: list[str] = []
    seconds = in_turns([lambda: order.append("a"), lambda: order.append("b")], rounds=3)
    assert order == ["a", "a", "b", "b"] * 3
    assert seconds.shape == (2, 3)
    assert (seconds >= 0).all()
