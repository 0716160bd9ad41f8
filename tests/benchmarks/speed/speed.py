"""How long reading, finding channel groups and a whole `norm` prune of half the units take, and how much memory.

    python -m tests.benchmarks speed [--keras=tf_keras] [--networks=ResNet50] [--target=0.5]

Random weights at 224 x 224. Wall seconds and CPU seconds; on a busy machine only the latter mean something.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from typing import Any

from absl import flags
from networks import randomise

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import Norm
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks.benchmark import Benchmark

KERASES = flags.DEFINE_list("keras", ["tf_keras"], "Which Keras versions.")
NETWORKS = flags.DEFINE_list("networks", ["ResNet50"], "Which members of keras.applications.")
TARGET = flags.DEFINE_float("target", 0.5, "Fraction of the units that goes.")


def measure(keras: str, network: str) -> Iterator[dict[str, Any]]:
    """A row for each part of the work."""

    def row(part: str, units: int) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
        begin[:] = time.perf_counter(), time.process_time()
        return {
            "part": part,
            "units": units,
            "seconds": wall,
            "cpu seconds": cpu,
            "gigabytes": peak,
        }

    begin = [time.perf_counter(), time.process_time()]
    make = getattr(backends.module(keras).applications, network)
    model = randomise(make(weights=None, input_shape=(224, 224, 3)))
    yield row("Keras makes the model", 0)
    graph = read(model)
    groups = find_groups(graph)
    *_, state = Norm().steps(Problem(graph, groups, target=TARGET.value))
    yield row("read, groups and plan", len(state.plan.removals))
    del graph, groups, state
    result = krp.prune(model, TARGET.value, method="norm", verbose=0)
    yield row("krp.prune, norm", len(result.plan.removals))


BENCHMARK = Benchmark(
    cases=lambda: ({"keras": k, "network": n} for k in KERASES.value for n in NETWORKS.value),
    measure=measure,
    quick={"networks": ["MobileNetV2"]},
    chart=("seconds", "gigabytes"),
    isolated=True,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
