"""A budget of milliseconds beside one of MACs: predicted and measured times of the files, in float32 and int8.

    python -m tests.benchmarks latency_budget --shared=../shared [--networks=mnist_cnn,...] [--target=0.5]

The table is measured on this machine from probes of the dense network, and is written beside the results. Every pruned
file runs in turns with the dense one of its type on one thread; the fastest run of each counts, as in the table. int8
files are calibrated on noise here: only their times count.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

import keras_robust_prune as krp
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.latency.files import whole_file
from keras_robust_prune.surgery.costs import num_macs
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark, fastest, ready

ALL = ["mnist_cnn", "cifar_cnn", "resnet20", "mobilenet", "efficientnet_lite0"]
CHOSEN = flags.DEFINE_list("networks", ALL, "Which networks; mobilenet needs --mltk.")
DTYPES = flags.DEFINE_list("dtypes", ["float32", "int8"], "Of which types.")
TARGET = flags.DEFINE_float("target", 0.5, "Fraction of the milliseconds, or MACs, that goes.")
ROUNDS = flags.DEFINE_integer("rounds", 300, "How often each file runs.")
STEPS = flags.DEFINE_integer("steps", 8, "How many widths a layer is probed at.")
TABLES = flags.DEFINE_string("tables", None, "A folder that the latency tables go to.")


def table_of(network: str, model: Any, dtype: str) -> krp.latency.LatencyTable:
    """The latency table of a network on this machine; a stored one is taken if there is one."""
    stored = None if TABLES.value is None else Path(TABLES.value) / f"{network}.{dtype}.csv"
    if stored is not None and stored.exists():
        return krp.latency.LatencyTable.load(stored)
    with tempfile.TemporaryDirectory() as folder:
        krp.latency.probes(model, Path(folder) / "probes", dtype, steps=STEPS.value)
        table = krp.latency.measure(Path(folder) / "probes")
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        table.save(stored)
    return table


def measure(network: str, dtype: str, budget: str) -> Iterator[dict[str, float]]:
    """Both files in turns, and what the table says of both."""
    dense = zoo.load_model(network)
    table = table_of(network, dense, dtype)
    options: dict[str, Any] = {"measure": krp.latency.Latency(table)}
    if budget != "latency":
        width = krp.latency.tile("host", dtype) if budget == "macs, rounded" else 1
        options = {"measure": "macs", "round_to": width}
    small = krp.prune(dense, TARGET.value, method="norm", verbose=0, **options).model
    graphs = [read(model) for model in (dense, small)]
    said = [krp.latency.predict(graph, table) for graph in graphs]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("dense.tflite", "small.tflite")]
        for graph, path in zip(graphs, paths, strict=True):
            path.write_bytes(whole_file(graph, dtype))
        before, after = fastest([ready(path) for path in paths], ROUNDS.value)
        sizes = [path.stat().st_size for path in paths]
    yield {
        "dense ms": 1000 * before,
        "predicted dense ms": said[0],
        "pruned ms": 1000 * after,
        "predicted ms": said[1],
        "off": said[1] / (1000 * after) - 1,
        "share": after / before,
        "macs left": num_macs(graphs[1]) / num_macs(graphs[0]),
        "share of bytes": sizes[1] / sizes[0],
    }


BENCHMARK = Benchmark(
    cases=lambda: (
        {"network": name, "dtype": dtype, "budget": budget}
        for name in CHOSEN.value
        for dtype in DTYPES.value
        for budget in ("latency", "macs", "macs, rounded")
    ),
    measure=measure,
    quick={"networks": ["mnist_cnn"], "rounds": 20, "steps": 3},
    chart=("share", "off"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
