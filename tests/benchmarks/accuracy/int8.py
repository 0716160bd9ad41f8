"""int8 calibrated without data beside float32 of the same network, dense and pruned, each adjustment off once.

    python -m tests.benchmarks int8 --shared=../shared [--networks=mnist_cnn,...] [--models=FOLDER]

A network is pruned to so much of its MACs first, or not at all. "held out" is what the export itself sees: the
signal-to-noise ratio of the outputs on synthetic inputs, by which it keeps or leaves an adjustment.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

import keras_robust_prune as krp
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark, Row

ALL = ["mnist_cnn", "cifar_cnn", "resnet20", "mobilenet", "efficientnet_lite0"]
CHOSEN = flags.DEFINE_list("networks", ALL, "Which networks; mobilenet needs --mltk.")
TARGETS = flags.DEFINE_list("targets", ["0", "0.5"], "Fractions of the MACs that go; 0 for none.")
METHOD = flags.DEFINE_string("method", "robust", "How.")
NUM = flags.DEFINE_integer("num", 1000, "On how many inputs accuracy is measured.")
ADJUST = {
    "both": ("equalization", "bias"),
    "no equalization": ("bias",),
    "no bias": ("equalization",),
    "none": (),
}


def measure(network: str, target: str) -> Iterator[Row]:
    """A float32 file, and int8 ones."""
    dense = model = zoo.load_model(network)
    if float(target):
        given: dict[str, Any] = {"measure": "macs"}
        model = zoo.pruned(network, dense, METHOD.value, float(target), "macs", **given)
    x, y = zoo.judging(network, dense, NUM.value)
    given = {"input_range": zoo.input_range_of(network), "min_agreement": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.tflite"
        krp.export_tflite(model, path, **given)
        exact = krp.evaluate(path, x, y, verbose=0).accuracy
        for name, adjust in ADJUST.items():
            file = Path(folder) / f"{name}.tflite"
            report = krp.export_tflite(model, file, "int8_float32", adjust=adjust, **given)
            judged = krp.evaluate(file, x, y, reference=path, verbose=0)
            yield {
                "adjust": name,
                "float32": exact,
                "int8": judged.accuracy,
                "points lost": 100 * (exact - judged.accuracy),
                "agreement": judged["agreement"],
                "held out": report.decibels,
                "kept": " ".join(report.adjusted) or "nothing",
            }


BENCHMARK = Benchmark(
    cases=lambda: (
        {"network": network, "target": target}
        for network in CHOSEN.value
        for target in TARGETS.value
    ),
    measure=measure,
    quick={"networks": ["mnist_cnn"], "targets": ["0"], "num": 100},
    chart=("points lost", "held out"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
