"""A limit of memory: what it leaves to each part, what it refuses, and that a run keeps it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from networks import network

import keras_robust_prune as krp
from keras_robust_prune import memory
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.inputs.loading import most_of
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.repair import consumers
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.probe import batch_size, bytes_per_input

PARTS = [part for part in vars(memory).values() if isinstance(part, memory.Part)]
# Prunes a network of 100 x 100 pixels and prints the most that the process took, in gigabytes.
RUN = """
import sys
import tf_keras
import keras_robust_prune as krp
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.synthesis.kinds import Synthesis

layers = tf_keras.layers
inputs = x = tf_keras.Input((100, 100, 3))
for _ in range(4):
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(48, 3, padding="same")(x)))
model = tf_keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
method = krp.Robust(
    repair=(LeastSquares(), Distillation(num_steps=3)), synthesis=Synthesis(num_inputs=48)
)
limit = float(sys.argv[1]) or None
krp.prune(model, 0.5, measure="macs", method=method, input_range=(0, 1), memory=limit, verbose=0)
# What getrusage says begins with what the parent had taken.
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(1024 * int(line.split()[1]) / 1e9)
"""

# Prunes by the command line, then frees half a gigabyte of tensors and prints how many megabytes go back.
FREED = """
import contextlib
import sys
from keras_robust_prune.cli import main

sys.argv += ["--target=.5", "--method=norm", "--memory=4", "--quiet"]
with contextlib.suppress(SystemExit):
    main()

import tensorflow as tf

def resident():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1e3

before = resident()
tensors = [tf.ones((1 << 24,)) for _ in range(8)]
full = resident()
del tensors
print(full - before, full - resident())
"""


def test_without_a_limit_every_part_has_its_usual_size():
    assert [memory.most(part) for part in PARTS] == [part.usual for part in PARTS]
    with memory.limited(None):
        assert [memory.most(part) for part in PARTS] == [part.usual for part in PARTS]
    with memory.limited(1000.0):
        assert [memory.most(part) for part in PARTS] == [part.usual for part in PARTS]


def test_what_a_network_and_tensorflow_leave_is_shared():
    with memory.limited(2.0, weights=1e8):
        left = 2.0e9 - memory.TENSORFLOW - 6e8
        for part in PARTS:
            assert memory.most(part) == pytest.approx(min(part.usual, part.share * left))
        with ThreadPoolExecutor(1) as pool:  # a limit is this thread's
            assert pool.submit(memory.most, memory.CUTS).result() == memory.CUTS.usual
    assert memory.most(memory.CUTS) == memory.CUTS.usual


def test_batches_moments_and_examples_follow_it():
    graph = read(network("depthwise"))
    usual, width = batch_size(graph), consumers.most_rows()
    with memory.limited(1.301):
        assert 1 <= batch_size(graph) <= usual
        assert batch_size(graph) == np.clip(0.15 * 0.201e9 // bytes_per_input(graph), 1, 250)
        assert consumers.most_rows() == int(np.sqrt(0.1 * 0.201e9 / 8)) < width == 10_000
        assert most_of([InputSpec((224, 224, 3))]) == int(0.15 * 0.201e9 // (4 * 224 * 224 * 3))
        assert find_groups(graph).groups  # what is no array does not change


@pytest.mark.parametrize("given", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_is_above_0(given: float):
    with pytest.raises(ValueError, match=r"memory is .* above 0, such as 4"):
        krp.Pruner(network("mlp"), memory=given)


def test_a_limit_that_leaves_nothing_is_refused_with_the_least_that_would_do():
    least = np.ceil((memory.TENSORFLOW + 2e8) / 1e8) / 10
    told = (
        rf"memory is 0\.5 GB, but TensorFlow .* Give at least {least + 0.1:g}\."  # and some weights
    )
    with pytest.raises(ValueError, match=told):
        krp.prune(network("mlp"), memory=0.5)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is asked of Linux")
def test_within_a_limit_tensorflow_gives_back_what_was_freed(tmp_path: Path):
    network("mlp").save(tmp_path / "model.keras")
    places = [str(tmp_path / "model.keras"), str(tmp_path / "small.keras")]
    command = [sys.executable, "-c", FREED, "prune", *places]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken, given_back = map(float, done.stdout.splitlines()[-1].split())
    assert 500 < taken < 600
    assert given_back > 0.95 * taken


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is asked of Linux")
def test_a_run_keeps_it():
    def taken(limit: float) -> float:
        command = [sys.executable, "-c", RUN, str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout.splitlines()[-1])

    assert taken(1.5) < 1.5 < taken(0)
