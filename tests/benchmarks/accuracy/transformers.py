"""Transformers without data: `robust` beside `norm` and `random` at 30 and 50 % of the operations.

    python -m tests.benchmarks transformers

The two networks are trained first, half a minute each (`tests/tools/train_transformers.py`). `random` and `robust` are
run with three seeds. The table ends with medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from absl import flags

import keras_robust_prune as krp
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.surgery.costs import num_macs
from tests.benchmarks.benchmark import Benchmark, Row, markdown
from tests.tools.train_transformers import EPOCHS, trained

KEY = ("network", "target", "method")
CHOSEN = flags.DEFINE_list("networks", list(EPOCHS), "Which networks.")
METHODS = flags.DEFINE_list("kinds", ["dense", "norm", "random", "robust"], "Which methods.")
TARGETS = flags.DEFINE_list("shares", ["0.3", "0.5"], "Shares of the operations that go.")
SEEDS = flags.DEFINE_list("runs", ["0", "1", "2"], "Which seeds.")


def cases() -> Iterator[dict[str, str]]:
    """Every run."""
    for seed in SEEDS.value:
        for network in CHOSEN.value:
            for method in METHODS.value:
                for target in TARGETS.value if method != "dense" else ("0",):
                    if seed == SEEDS.value[0] or method in ("random", "robust"):
                        key = dict(zip(KEY, (network, target, method), strict=True))
                        yield {**key, "seed": seed}


def measure(network: str, target: str, method: str, seed: str) -> Iterator[dict[str, float]]:
    """One pruning, and what it leaves."""
    found = trained(network)
    begin, model = time.perf_counter(), found.model
    if method != "dense":
        model = krp.prune(
            model,
            float(target),
            measure="macs",
            method=method,
            seed=int(seed),
            input_range=found.input_range,
            verbose=0,
        ).model
    seconds = time.perf_counter() - begin
    attack = f"pgd@{found.eps}"
    result = krp.evaluate(
        model, found.x_test, found.y_test, attacks=[attack], input_range=found.input_range
    )
    left = num_macs(read(model)) / num_macs(read(found.model))
    yield {
        "accuracy": round(result.accuracy, 4),
        "pgd": round(result[attack], 4),
        "macs": round(left, 4),
        "seconds": round(seconds, 1),
    }


def summary(rows: list[Row], _: Path) -> str:
    """Medians over seeds."""
    lines = []
    for key in dict.fromkeys(tuple(str(row[name]) for name in KEY) for row in rows):
        runs = [row for row in rows if tuple(str(row[name]) for name in KEY) == key]
        medians = {
            name: statistics.median(float(run[name]) for run in runs)
            for name in ("accuracy", "pgd", "macs", "seconds")
        }
        lines.append({**dict(zip(KEY, key, strict=True)), "runs": len(runs), **medians})
    return "Medians over seeds:\n\n" + markdown(lines)


BENCHMARK = Benchmark(
    cases=cases,
    measure=measure,
    quick={"networks": ["features_transformer"], "kinds": ["dense", "norm"], "runs": ["0"]},
    chart=("accuracy", "pgd"),
    afterwards=summary,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
