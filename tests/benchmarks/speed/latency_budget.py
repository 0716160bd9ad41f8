"""A budget of milliseconds beside one of MACs: predicted and measured times of the files, in float32 and int8.

    python -m tests.benchmarks latency_budget --shared=../shared [--networks=mnist_cnn,...] [--target=0.5]

The table is measured on this machine from probes of the dense network, and kept where `--tables` says. Every pruned
file runs in turns with the dense one of its type on one thread, and finds its own weights in the caches, as the probes
of the table do. The fastest run of each counts, as there; beside it stands the median of the turns' ratios. With
`--num=0` int8 files are calibrated on noise: only their times count then.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import keras_robust_prune as krp
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.latency.files import whole_file
from keras_robust_prune.surgery.costs import num_macs
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark, in_turns, ready

ALL = ["mnist_cnn", "cifar_cnn", "resnet20", "mobilenet", "efficientnet_lite0"]
CHOSEN = flags.DEFINE_list("networks", ALL, "Which networks; mobilenet needs --mltk.")
DTYPES = flags.DEFINE_list("dtypes", ["float32", "int8"], "Of which types.")
BUDGETS = flags.DEFINE_list(
    "budgets", ["latency", "macs", "rounded"], "Which; rounded are MACs in multiples of a tile."
)
TARGET = flags.DEFINE_float("target", 0.5, "Fraction of the milliseconds, or MACs, that goes.")
METHOD = flags.DEFINE_string("method", "norm", "How; times do not depend on it.")
NUM = flags.DEFINE_integer("num", 0, "On how many inputs accuracy is measured.")
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


def options_of(network: str, dense: Any, dtype: str, budget: str) -> dict[str, Any]:
    """What a budget counts, and of what widths are multiples."""
    if budget == "latency":
        return {"measure": krp.latency.Latency(table_of(network, dense, dtype))}
    device = ("host", dtype) if budget == "rounded" else None
    return {"measure": "macs", "device": device}


def measure(network: str, dtype: str, budget: str) -> Iterator[dict[str, float]]:
    """Both files in turns, and what the table says of both."""
    dense = zoo.load_model(network)
    options = options_of(network, dense, dtype, budget)
    name = budget if budget == "macs" else f"{budget}.{dtype}"
    small = zoo.pruned(network, dense, METHOD.value, TARGET.value, name, **options)
    graphs = [read(model) for model in (dense, small)]
    table = table_of(network, dense, dtype)
    said = [krp.latency.predict(graph, table) for graph in graphs]
    judged: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("dense.tflite", "small.tflite")]
        for which, model, path in zip(("dense ", ""), (dense, small), paths, strict=True):
            if NUM.value:
                export(network, model, path, dtype)
                x, y = zoo.judging(network, dense, NUM.value)
                judged[f"{which}accuracy"] = krp.evaluate(path, x, y, verbose=0).accuracy
            else:
                path.write_bytes(whole_file(read(model), dtype))
        times = 1000 * in_turns([ready(path) for path in paths], ROUNDS.value)
        sizes = [path.stat().st_size for path in paths]
    before, after = times.min(1)
    yield {
        "dense ms": before,
        "predicted dense ms": said[0],
        "pruned ms": after,
        "predicted ms": said[1],
        "off": said[1] / after - 1,
        "predicted share": said[1] / said[0],
        "share": after / before,
        "median share": np.median(times[1] / times[0]),
        "macs left": num_macs(graphs[1]) / num_macs(graphs[0]),
        "bytes": sizes[1],
        "share of bytes": sizes[1] / sizes[0],
        **judged,
    }


def export(network: str, model: Any, path: Path, dtype: str) -> None:
    """A file as users get it, int8 calibrated without data."""
    given: dict[str, Any] = {"input_range": zoo.input_range_of(network), "min_agreement": 0.0}
    krp.export_tflite(model, path, dtype, **given)


BENCHMARK = Benchmark(
    cases=lambda: (
        {"network": name, "dtype": dtype, "budget": budget}
        for name in CHOSEN.value
        for dtype in DTYPES.value
        for budget in BUDGETS.value
    ),
    measure=measure,
    quick={"networks": ["mnist_cnn"], "rounds": 20, "steps": 3},
    chart=("share", "off"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
