"""A few of what `fuzz_files` and `kill_runs` do by the thousand: mutated files, killed and resumed runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("program", ["fuzz_files", "kill_runs"])
def test_a_few_of_many(program: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", f"tests.{program}", "--count=4"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
