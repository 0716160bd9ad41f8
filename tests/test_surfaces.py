"""The same run in a terminal, in a pipe and in a notebook: the same lines stay, and standard error is empty."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

RUN = """
from keras_robust_prune.reporting import progress
progress.DELAY = 0.0  # as if all took long, but no machine so slow that lines of progress stay
progress.BETWEEN_LINES = 600.0
import keras_robust_prune as krp
from keras_robust_prune import demo
model, x, y = demo.load()
result = krp.prune(model, method="norm", step=1 / 64)
print(krp.evaluate(result.model, x[:32], y[:32], attacks=["fgsm@0.1"]))
report = krp.export_tflite(result.model, "small.tflite")
"""
# One step of many is said, the last; the evaluation is a table.
LINES = (
    r"step 32: 50\.0% of units removed, 9,874 parameters, 86,848 MACs \(\d\.\d s\)",
    "digits, 32 inputs",
    r"measure +accuracy +95 % interval",
    "-+",
    "clean .*",
    "fgsm@0.1 .*",
)


def environment() -> dict[str, str]:
    """Without the switches by which the tests quieten TensorFlow."""
    found = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return {**found, "PYTHONPATH": str(Path(__file__).parent.parent)}


def screen(text: str) -> list[str]:
    """What is left to read when every carriage return has had its way."""
    lines = []
    for written in text.replace("\r\n", "\n").split("\n"):
        line = ""
        for part in written.split("\r"):
            line = part + line[len(part) :]
        lines.append(line.rstrip())
    return [line for line in lines if line]


def check(lines: list[str]) -> None:
    assert len(lines) == len(LINES), lines
    for line, pattern in zip(lines, LINES, strict=True):
        assert re.fullmatch(pattern, line), line


@pytest.mark.slow
def test_in_a_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN]
    told = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment()
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert "\r" not in told.stdout
    check(told.stdout.splitlines())


@pytest.mark.slow
def test_in_a_terminal(tmp_path: Path) -> None:
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-c", RUN]
    with subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.PIPE, cwd=tmp_path, env=environment()
    ) as running:
        os.close(theirs)
        text = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not part:
                break
            text += part
        assert running.stderr is not None
        assert running.stderr.read() == b""
    os.close(ours)
    assert running.returncode == 0
    assert re.search(r"\rpruning, step: +\d+%, (\?|\d\d:\d\d) left", text.decode())
    assert re.search(r"\rexport: +\d+%, ", text.decode())
    check(screen(text.decode()))


@pytest.mark.slow
def test_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(RUN)])
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    outputs = notebook.cells[0].outputs
    assert [output.text for output in outputs if output.name == "stderr"] == []
    check(screen("".join(output.text for output in outputs)))
