"""Half of the multiplications of VGG16 and ResNet50 at 224 pixels: seconds told and taken, and memory.

    python -m tests.benchmarks large_networks [--networks=VGG16,ResNet50] [--pixels=224] [--target=0.5] [--memory=8]

`robust` with default settings on `keras.applications`, random weights and made statistics: nothing is said of answers.
Each network has a process of its own; it wants the whole machine.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

from absl import flags
from networks import randomise

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.memory import give_back_what_is_freed
from tests.benchmarks.benchmark import Benchmark, Row, Spent

NETWORKS = flags.DEFINE_list("networks", ["VGG16", "ResNet50"], "Of keras.applications.")
PIXELS = flags.DEFINE_integer("pixels", 224, "Of a side.")
MINUTES = flags.DEFINE_float("minutes", None, "That a run is given; None for the default.")
MEMORY = flags.DEFINE_float("memory", None, "Gigabytes at most, as the command's --memory does it.")
TARGET = flags.DEFINE_float("target", 0.5, "Fraction of the multiplications that goes.")


def measure(network: str) -> Iterator[Row]:
    """One network pruned, with what was announced."""
    if MEMORY.value is not None:
        give_back_what_is_freed()
    shape = (PIXELS.value, PIXELS.value, 3)
    make = getattr(backends.tf_keras().applications, network)
    model = randomise(make(weights=None, input_shape=shape, classes=1000))
    options = {"measure": "macs", "input_range": (0, 255), "verbose": 1}
    options |= {"minutes": MINUTES.value, "memory": MEMORY.value}
    spent, told = Spent(), io.StringIO()
    with contextlib.redirect_stdout(told):
        result = krp.prune(model, TARGET.value, **options)
    seconds, cpu_seconds, gigabytes = spent
    announced = next(line for line in told.getvalue().splitlines() if line.startswith("about"))
    yield {
        "announced": announced,
        "minutes": seconds / 60,
        "cpu minutes": cpu_seconds / 60,
        "gigabytes": gigabytes,
        "macs removed": result.removed,
        "distillation steps": result.history["distillation_steps"][-1],
    }


BENCHMARK = Benchmark(
    cases=lambda: ({"network": network} for network in NETWORKS.value),
    measure=measure,
    quick={"networks": ["MobileNet"], "pixels": 32, "target": 0.1, "minutes": 0.1},
    isolated=True,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
