"""What strategies of `tf.distribute` spread comes to what one device comes to, within rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import network

from keras_robust_prune import backends
from keras_robust_prune.pruning.pruner import Pruner

ROOT = Path(__file__).parents[2]


def answer(*command: str) -> Any:
    """The last line that a program prints, as JSON."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("keras", backends.NAMES)
def test_two_devices_come_to_what_one_does(keras: str) -> None:
    """Devices are set once in a process, so there is one for each Keras."""
    found = answer("tests.two_devices", f"--keras={keras}")
    assert found["replicas"] == 2
    assert found["masked"] > 0
    assert found["masks"] == 0
    assert found["weights"] < 1e-4
    assert found["plans"]
    assert found["kept"] > 0
    assert found["distilled"] < 1e-4
    assert max(found["synthesised"]) < 1e-3
    assert max(found["moments"]) < 1e-3
    assert found["evaluated"][1] < found["evaluated"][0]
    assert np.abs(np.subtract(found["evaluated"], found["evaluated spread"])).max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kill", [[], ["--kill"]], ids=["undisturbed", "one killed"])
def test_two_workers_end_alike(kill: list[str]) -> None:
    """Keras 3 itself does not train on several workers, so this is tf_keras."""
    found = answer("tests.two_workers", *kill)
    assert found["between"] == 0
    assert found["from one process"] < 1e-4


def test_several_workers_keep_no_checkpoint(tmp_path: Path) -> None:
    class Several:
        """As much of a strategy of several workers as is looked at before the work."""

        cluster_resolver = object()

    with pytest.raises(ValueError, match="one process"):
        Pruner(network("mlp")).compile("norm", checkpoint=tmp_path / "run", strategy=Several())
