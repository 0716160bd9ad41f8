"""Runs every notebook and prints the seconds of each: `python -m tests.run_notebooks [--fresh] [NAME.ipynb...]`.

With `--fresh` they run in a new virtual environment that holds the package as it would be installed, and Jupyter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"


def executed(name: str, folder: Path) -> list[Any]:
    """The outputs of all cells of a notebook, run in an empty folder.

    Args:
        name: of the file.
        folder: where it runs.

    Raises:
        ValueError: outputs are stored in it.
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(FOLDER / name, as_version=4)
    if any(cell.get("outputs") for cell in notebook.cells):
        raise ValueError(f"{name} holds outputs. Clear them.")
    place = {"metadata": {"path": str(folder)}}
    before = dict(os.environ)
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    os.environ.pop("MPLBACKEND", None)  # plots stand in the notebook
    try:
        client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place)
        client.execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text_of(outputs: list[Any]) -> str:
    """All that is written, one output after the other."""
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs
    )


def in_a_fresh_environment(names: list[str]) -> None:
    """The same in a virtual environment that is made for it and goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        python, source = Path(folder, "env", "bin", "python"), Path(folder, "source")
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        shutil.copytree(ROOT / "keras_robust_prune", source / "keras_robust_prune")
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        what = [str(source), "ipykernel", "matplotlib", "nbclient", "nbformat"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *what], check=True)
        print(f"{'environment':20} {time.perf_counter() - begin:6.1f} s", flush=True)
        command = [python, "-m", "tests.run_notebooks", *names]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, check=True)


def main() -> None:
    """All notebooks, or those that are named."""
    names = [word for word in sys.argv[1:] if word != "--fresh"]
    if len(names) < len(sys.argv) - 1:
        in_a_fresh_environment(names)
        return
    for name in names or sorted(path.name for path in FOLDER.glob("*.ipynb")):
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            executed(name, Path(folder))
        print(f"{name:20} {time.perf_counter() - begin:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
