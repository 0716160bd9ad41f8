"""The authors' toolkit and our `method="paper"` on one network, one after the other.

Installs paoding-dl in an environment of its own, prunes with it and with ours in turns, seed by seed. What is timed is
pruning alone, without loading and evaluating.

    python -m tests.benchmarks paoding --shared=../shared
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import METHODS
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import SHARED, Benchmark, Row

PACKAGES = ["paoding-dl==1.0.0.post3", "importlib_metadata", "pandas", "opencv-python-headless"]
PACKAGES += ["scikit-learn", "tabulate", "pydot", "tf-keras"]
RUN = Path(__file__).with_name("paoding_run.py")

ENVIRONMENT = flags.DEFINE_string(
    "environment", None, "Where paoding-dl is (or gets) installed; a new folder if not given."
)
TARGET = flags.DEFINE_float("target", 0.5, "Fraction of the units to remove.", 0.0, 0.99)
STEP = flags.DEFINE_float("step", 1 / 64, "Fraction removed by one step.", 1e-3, 1.0)
SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each.", 1)
THEIRS = flags.DEFINE_bool("theirs", True, "Whether theirs is run, too.")


def python_with_paoding(environment: Path) -> Path:
    """The interpreter of an environment that has paoding-dl; made if it is not there."""
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"Installing {PACKAGES[0]} into {environment} ...", flush=True)
        venv.create(environment, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", *PACKAGES], check=True)
    return python


def run_theirs(python: Path, network: Path, data: Path, seed: int) -> dict[str, Any]:
    """Seconds, accuracy and kept units of one run of paoding-dl."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        arguments = [network, data, TARGET.value, STEP.value, seed, result]
        done = subprocess.run(
            [python, "-", *map(str, arguments)],
            input=RUN.read_text(),  # not by its path: this file would hide the package paoding
            cwd=folder,
            env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"paoding-dl failed:\n{done.stderr[-4000:]}")
        return dict(json.loads(result.read_text()))


def run_ours(graph: Graph, images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
    """The same of one run of ours, evaluated on the network that is physically cut."""
    begin = time.perf_counter()
    groups = find_groups(graph)
    problem = Problem(graph, groups, target=TARGET.value, step=STEP.value, seed=seed)
    *_, state = METHODS["paper"].steps(problem)
    small = cut(state.graph, groups, state.plan)
    seconds = time.perf_counter() - begin
    kept = [len(state.plan.kept(group.name)) for group in groups.groups]
    return {"seconds": seconds, "after": accuracy(small, images, labels), "kept": kept}


def accuracy(graph: Graph, images: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of the images that get their label."""
    (scores,) = lower(graph, np.float32)(images)
    return float(np.mean(scores.argmax(axis=-1) == labels))


def measure(seed: str) -> Iterator[dict[str, Any]]:
    """Theirs, then ours."""
    network, data = zoo.file_of("mnist_mlp"), Path(SHARED.value) / "data" / "mnist.npz"
    images, labels = zoo.load_data("mnist_mlp", None)
    graph = read(network)
    dense = accuracy(graph, images, labels)
    if THEIRS.value:
        folder = ENVIRONMENT.value or str(Path(tempfile.gettempdir()) / "paoding")
        python = python_with_paoding(Path(folder).resolve())
        yield row(
            "paoding-dl 1.0.0.post3",
            dense,
            run_theirs(python, network.resolve(), data.resolve(), int(seed)),
        )
    yield row("paper, here", dense, run_ours(graph, images, labels, int(seed)))


def row(toolkit: str, dense: float, run: dict[str, Any]) -> dict[str, Any]:
    """A run as a row."""
    kept = " ".join(map(str, run["kept"]))
    return {
        "toolkit": toolkit,
        "dense": dense,
        "accuracy": run["after"],
        "kept": kept,
        "seconds": run["seconds"],
    }


def medians(rows: list[Row], _: Path) -> str:
    """Median accuracy of both, and the ratio of their seconds turn by turn."""
    lines = []
    by_name = {
        name: [row for row in rows if row["toolkit"] == name]
        for name in dict.fromkeys(r["toolkit"] for r in rows)
    }
    for name, runs in by_name.items():
        middle = np.median([float(run["accuracy"]) for run in runs])
        lines.append(f"{name}: median accuracy {middle:.4f} of {len(runs)} runs")
    if len(by_name) == 2:
        pairs = zip(*by_name.values(), strict=True)
        ratio = np.median([float(one["seconds"]) / float(two["seconds"]) for one, two in pairs])
        lines.append(f"seconds, theirs / ours, median of the turns: {ratio:.0f}")
    return "\n".join(lines)


BENCHMARK = Benchmark(
    cases=lambda: ({"seed": str(seed)} for seed in range(SEEDS.value)),
    measure=measure,
    quick={"seeds": 1, "step": 1 / 8, "theirs": False},
    chart=("accuracy", "seconds"),
    afterwards=medians,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
