"""What a long-lived process and a wide network bear: threads that write at once, many runs in a row, 4,096 units.

python -m tests.benchmarks endurance
"""

from __future__ import annotations

import gc
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import keras_robust_prune as krp
from keras_robust_prune import backends, demo
from keras_robust_prune.keras_io.writing import save
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.synthesis.kinds import Synthesis
from tests.benchmarks.benchmark import Benchmark

THREADS = flags.DEFINE_integer("threads", 24, "Threads that prune and write at once.")
RUNS = flags.DEFINE_integer("runs", 40, "Runs of robust in one process.")
WIDTH = flags.DEFINE_integer("width", 4096, "Units of each of two hidden layers.")
SOURCE = demo.FOLDER / "digits.h5"


def gigabytes() -> float:
    """The greatest that this process has taken so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def megabytes_now() -> float:
    """What this process takes now; of Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def few(num_inputs: int, num_steps: int) -> krp.Robust:
    """`robust` with all its parts, each of them short."""
    repair = (LeastSquares(), Distillation(num_steps=num_steps))
    return krp.Robust(repair=repair, synthesis=Synthesis(num_inputs=num_inputs))


def threads(one_path: bool) -> Iterator[dict[str, Any]]:
    """Many threads, each of which prunes a file by another target and writes the result."""
    with tempfile.TemporaryDirectory() as text:
        targets = np.linspace(0.1, 0.7, THREADS.value)
        paths = [Path(text) / f"{0 if one_path else k}.keras" for k in range(len(targets))]

        def work(number: int) -> int:
            found = krp.prune(SOURCE, float(targets[number]), method="norm", verbose=0).model
            save(found, paths[number], overwrite=True)
            return int(found.count_params())

        began = time.perf_counter()
        with ThreadPoolExecutor(len(paths)) as pool:
            wanted = list(pool.map(work, range(len(paths))))
        seconds = time.perf_counter() - began
        found = [krp.load(path).count_params() for path in dict.fromkeys(paths)]
        whole = (
            [n in wanted for n in found]
            if one_path
            else [a == b for a, b in zip(found, wanted, strict=True)]
        )
        yield {
            "result": f"{sum(whole)} of {len(whole)} whole",
            "seconds": seconds,
            "left over": len(list(Path(text).iterdir())) - len(set(paths)),
            "gigabytes": gigabytes(),
        }


def many_runs() -> Iterator[dict[str, Any]]:
    """Memory after every run: what each further one adds, by a line through the second half."""
    model, _, _ = demo.load()
    method, taken, began = few(64, 20), [], time.perf_counter()
    for seed in range(RUNS.value):
        krp.prune(model, 0.5, method=method, seed=seed, verbose=0)
        gc.collect()
        taken.append(megabytes_now())
    half = taken[len(taken) // 2 :]
    slope = np.polyfit(range(len(half)), half, 1)[0] if len(half) > 1 else 0.0
    yield {
        "result": f"{taken[0]:.0f} MB after the first, {taken[-1]:.0f} after {len(taken)}; {slope:+.1f} a run",
        "seconds": time.perf_counter() - began,
        "gigabytes": gigabytes(),
    }


def wide() -> Iterator[dict[str, Any]]:
    """A dense network with two wide layers, half of their units, by `robust` with its own settings."""
    layers = backends.tf_keras().layers
    stack = [layers.Input((784,)), *(layers.Dense(WIDTH.value, "relu") for _ in range(2))]
    model = backends.tf_keras().Sequential([*stack, layers.Dense(10)])
    began = time.perf_counter()
    used = time.process_time()
    result = krp.prune(model, 0.5, verbose=0)
    yield {
        "result": f"{model.count_params():,} to {result.model.count_params():,} parameters",
        "seconds": time.perf_counter() - began,
        "cpu seconds": time.process_time() - used,
        "gigabytes": gigabytes(),
    }


WHAT = {
    "threads, a path each": lambda: threads(False),
    "threads, one path": lambda: threads(True),
    "runs in a row": many_runs,
    "wide": wide,
}

BENCHMARK = Benchmark(
    cases=lambda: [{"what": what} for what in WHAT],
    measure=lambda what: WHAT[what](),
    quick={"threads": 6, "runs": 4, "width": 256},
    chart=("seconds", "gigabytes"),
    isolated=True,
)

if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
