"""The program ends when it is told to, at any moment: one line, the status that shells expect, nothing half."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_robust_prune as krp
from keras_robust_prune import demo

PROGRAM = """
import os, signal, sys

class At:
    def find_spec(self, name, path=None, target=None):
        if name == {moment!r}:
            os.kill(os.getpid(), signal.{signal})

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, At())
from keras_robust_prune.cli import main
main()
"""


@pytest.mark.parametrize(
    ("moment", "signal", "status"),
    [
        ("absl.app", "SIGINT", 130),
        ("numpy", "SIGTERM", 143),
        ("tensorflow.python.ops.array_ops", "SIGTERM", 143),
        ("tf_keras.src.backend", "SIGINT", 130),
        ("keras_robust_prune.pruning.inspection", "SIGTERM", 143),
    ],
)
def test_a_signal_ends_the_program_while_it_imports(
    moment: str, signal: str, status: int, tmp_path: Path
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(moment=moment, signal=signal)]
        + ["inspect", str(demo.FOLDER / "digits.h5")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(krp.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == status, found.stderr
    told = [line for line in found.stderr.splitlines() if line.startswith("interrupted")]
    assert told == ["interrupted: what was not finished was not written."]
    assert "Traceback" not in found.stderr
