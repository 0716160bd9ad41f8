"""Threads that use the package first, all at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from concurrent.futures import ThreadPoolExecutor
from keras_robust_prune import backends
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda k: backends.module(backends.NAMES[k % 2]).Model, range(8)))
"""


def test_the_first_import_may_come_from_many_threads() -> None:
    """One thread's half done import of TensorFlow was another's TensorFlow."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
