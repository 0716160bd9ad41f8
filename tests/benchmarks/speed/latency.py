"""Milliseconds of the `.tflite` file of a network with half of its units, beside the dense one's.

    python -m tests.benchmarks latency --shared=../shared [--networks=mnist_cnn,...] [--target=0.5]

One input on one thread; the two files run in turns, and the ratio is the median of the turns' ratios.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

import keras_robust_prune as krp
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark, in_turns, ready

CHOSEN = flags.DEFINE_list("networks", list(zoo.NETWORKS), "Which networks.")
TARGET = flags.DEFINE_float("target", 0.5, "Fraction of the units that goes.")
ROUNDS = flags.DEFINE_integer("rounds", 200, "How often each file runs.")


def measure(network: str) -> Iterator[dict[str, float]]:
    """Both files in turns."""
    dense = zoo.load_model(network)
    small = krp.prune(dense, TARGET.value, method="norm", verbose=0).model
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.tflite" for name in ("dense", "small")]
        for model, path in zip((dense, small), paths, strict=True):
            krp.export_tflite(model, path, verify=False)
        before, after = in_turns([ready(path) for path in paths], ROUNDS.value)
    yield {
        "dense ms": 1000 * np.median(before),
        "pruned ms": 1000 * np.median(after),
        "times faster": np.median(before / after),
    }


BENCHMARK = Benchmark(
    cases=lambda: ({"network": name} for name in CHOSEN.value),
    measure=measure,
    quick={"networks": ["mnist_cnn"], "rounds": 20},
    chart=("dense ms", "pruned ms", "times faster"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
