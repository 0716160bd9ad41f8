"""A few of the mutated files of `fuzz_files`, which holds the test and can open thousands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_mutated_files_are_results_or_our_errors() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.fuzz_files", "--count=12"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
