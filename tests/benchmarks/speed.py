"""How long reading, finding groups and a whole `norm` prune of half the units take, and how much memory.

    python tests/benchmarks/speed.py [--keras=tf_keras] [--network=ResNet50] [--target=0.5]

Random weights at 224 x 224. Wall seconds and CPU seconds; on a busy machine only the latter mean something.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import app, flags

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from networks import randomise

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import Norm
from keras_robust_prune.surgery.groups import find_groups

KERAS = flags.DEFINE_enum("keras", "tf_keras", list(backends.NAMES), "Which Keras.")
NETWORK = flags.DEFINE_string("network", "ResNet50", "Which member of keras.applications.")
TARGET = flags.DEFINE_float("target", 0.5, "Fraction of the units that goes.")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints what a block takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what:24}{wall:8.1f} s wall{cpu:8.1f} s CPU   peak so far {peak:.2f} GB", flush=True)


def main(_: list[str]) -> None:
    with timed("Keras makes the model"):
        make = getattr(backends.module(KERAS.value).applications, NETWORK.value)
        model = randomise(make(weights=None, input_shape=(224, 224, 3)))
    with timed("read, groups and plan"):
        graph = read(model)
        groups = find_groups(graph)
        for state in Norm().steps(Problem(graph, groups, target=TARGET.value)):
            plan = state.plan
    print(f"{len(groups.groups)} groups, {len(plan.removals)} units planned")
    del graph, groups, state
    with timed("krp.prune, norm"):
        result = krp.prune(model, TARGET.value, method="norm", verbose=0)
    print(result.summary())


if __name__ == "__main__":
    app.run(main)
