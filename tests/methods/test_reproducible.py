"""One seed in two processes: the same plan and the same weights, to the last bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import hashlib
import keras_robust_prune as krp
from keras_robust_prune import demo
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.synthesis.kinds import Synthesis

model, _, _ = demo.load()
parts = (LeastSquares(), Distillation(num_steps=20))
method = krp.Robust(repair=parts, synthesis=Synthesis(num_inputs=64))
result = krp.prune(model, 0.5, method=method, verbose=0)
bits = b"".join(value.tobytes() for value in result.model.get_weights())
print(hashlib.sha256(bits + result.plan.to_json().encode()).hexdigest())
"""


@pytest.mark.slow
def test_robust_gives_the_same_bits_in_two_processes() -> None:
    root = Path(__file__).parents[2]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], cwd=root, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    hashes = [run.communicate(timeout=600)[0].strip().splitlines()[-1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert len(hashes[0]) == 64
    assert hashes[0] == hashes[1]
