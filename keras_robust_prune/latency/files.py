"""Probes in a folder: written for a network, timed here or on a phone, read back into a table."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import math
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io import reading
from keras_robust_prune.latency.kernels import Kernel, kernels_of
from keras_robust_prune.latency.table import LatencyTable
from keras_robust_prune.latency.writing import DTYPES, copies_of, probe
from keras_robust_prune.surgery.costs import num_values
from keras_robust_prune.surgery.folding import folded
from keras_robust_prune.surgery.groups import find_groups

LIST = "probes.csv"
WHOLE = "whole_network.tflite"
RUN = "run.sh"
RESULTS = "results"
_FIELDS = tuple(field.name for field in dataclasses.fields(Kernel))
# Widths are probed in so many steps, each a multiple of the narrowest tile that any kernel has.
STEPS, TILE = 8, 4
# All times are compared with the whole network's, whose runs are long and few: its turn is so many times as long.
WHOLE_TURN = 50

_SCRIPT = """#!/bin/sh
# Times every probe of this folder on an Android phone: one thread, round robin, with a pause between rounds.
#   benchmark_model: https://ai.google.dev/edge/litert/models/measurement (android_aarch64)
#   usage: ./run.sh path/to/benchmark_model [rounds] [seconds of pause]
set -e
cd "$(dirname "$0")"
binary=${1:?give the path of benchmark_model}; rounds=${2:-5}; pause=${3:-10}
there=/data/local/tmp/latency_probes
mkdir -p results
adb shell mkdir -p $there
adb push "$binary" $there/benchmark_model > /dev/null
adb shell chmod +x $there/benchmark_model
for file in *.tflite; do adb push "$file" $there/ > /dev/null; done
{ adb shell getprop ro.product.model; adb shell getprop ro.soc.model; } > results/device.txt
for round in $(seq 1 "$rounds"); do
  for file in *.tflite; do
    adb shell $there/benchmark_model --graph=$there/"$file" --num_threads=1 --num_runs=20 \\
      --min_secs=0.1 --warmup_runs=3 --warmup_min_secs=0.02 < /dev/null >> results/"$file".log 2>&1
  done
  sleep "$pause"
done
adb shell rm -r $there
echo "done: krp.latency.read_phone('$PWD').save('phone.csv')"
"""
_TIMING = re.compile(r"Inference \(avg\): ([0-9.e+]+)")


def probes(
    model: Any, folder: str | Path, dtype: str = "float32", *, steps: int = STEPS
) -> tuple[Kernel, ...]:
    """Writes a `.tflite` file for every kernel of a network at a grid of widths, and `run.sh` for a phone.

    Args:
        model: a tf_keras or Keras 3 model, the path of one, or a `Graph`: the network that is to be pruned.
        folder: where they go; it is made and has to be new or empty.
        dtype: `"float32"` or `"int8"`.
        steps: how many widths a layer is probed at, from an eighth (with 8) to the whole.

    Returns:
        The kernels, in the order of the files.

    Raises:
        FileExistsError: the folder holds something.
        ValueError: the type is unknown, or the network multiplies in a way that no probe has.

    Example:
        >>> import tempfile, tf_keras
        >>> layers = [tf_keras.Input((8,)), tf_keras.layers.Dense(16), tf_keras.layers.Dense(2)]
        >>> folder = Path(tempfile.mkdtemp()) / "probes"
        >>> for kernel in probes(tf_keras.Sequential(layers), folder, steps=2):
        ...     print(kernel)
        FULLY_CONNECTED 1x1/1 1x1 8-8
        FULLY_CONNECTED 1x1/1 1x1 8-16
        FULLY_CONNECTED 1x1/1 1x1 8-2
        FULLY_CONNECTED 1x1/1 1x1 16-2
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, but probes are of {DTYPES}.")
    graph = model if isinstance(model, Graph) else reading.read(model)
    place = Path(folder)
    if place.is_dir() and any(place.iterdir()):
        raise FileExistsError(f"'{place}' holds something. Choose another name, or empty it.")
    uses = kernels_of(graph)
    grid = _grid(graph, steps)
    place.mkdir(parents=True, exist_ok=True)
    with open(place / LIST, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "dtype", "copies", "uses", "values", *_FIELDS])
        for number, kernel in enumerate(grid):
            name = f"probe_{number:04d}.tflite"
            copies = copies_of(kernel, dtype)
            (place / name).write_bytes(probe(kernel, dtype, copies))
            count = sum(use.kernel == kernel for use in uses)
            writer.writerow([name, dtype, copies, count, "", *dataclasses.astuple(kernel)])
        writer.writerow([WHOLE, dtype, 1, 1, num_values(graph), *[""] * len(_FIELDS)])
    (place / WHOLE).write_bytes(whole_file(graph, dtype))
    script = place / RUN
    script.write_text(_SCRIPT, encoding="utf-8")
    script.chmod(0o755)
    return grid


def measure(
    folder: str | Path, *, rounds: int = 5, seconds: float = 0.01, num_threads: int = 1
) -> LatencyTable:
    """Times the probes of a folder on this machine, with LiteRT where it is installed.

    Round robin: every round runs every probe for a moment, and its fastest run of all rounds counts, so that whatever
    else the machine does in between disturbs no probe in particular. One thread is timed by its own clock, which stands
    while it waits for a busy machine.

    Args:
        folder: that `probes` wrote.
        rounds: how often every probe has its turn.
        seconds: how long a turn is at least; that of the whole network is 50 times as long.
        num_threads: how many threads compute.

    Raises:
        ValueError: the folder holds no probes.
    """
    listed = _listed(Path(folder))
    times: dict[str, list[float]] = {row["file"]: [] for row in listed}
    for _ in range(rounds):
        for row in listed:
            turn = seconds * (WHOLE_TURN if row["file"] == WHOLE else 1)
            times[row["file"]].append(_turn(Path(folder) / row["file"], turn, num_threads))
    about = {
        "device": platform.node() or "host",
        "soc": _processor(),
        "runtime": _runtime(),
        "threads": str(num_threads),
    }
    return _table(listed, times, about)


def read_phone(folder: str | Path) -> LatencyTable:
    """The table of a phone: what `run.sh` left in the folder's `results`.

    Raises:
        ValueError: a probe has no result.
    """
    place = Path(folder) / RESULTS
    listed = _listed(Path(folder))
    times: dict[str, list[float]] = {}
    for row in listed:
        log = place / f"{row['file']}.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        times[row["file"]] = [float(found) / 1000 for found in _TIMING.findall(text)]
    missing = [name for name, found in times.items() if not found]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(listed)} probes have no result in '{place}', {missing[0]} among"
            f" them. Run {RUN} to its end."
        )
    device = (place / "device.txt").read_text(encoding="utf-8").splitlines()
    about = {"device": device[0], "soc": device[1] if len(device) > 1 else "", "threads": "1"}
    return _table(listed, times, {**about, "runtime": "benchmark_model"})


def _grid(graph: Graph, steps: int) -> tuple[Kernel, ...]:
    """Every kernel at every pair of widths that pruning may come to."""
    varies = {
        (slot.layer, slot.weight, slot.axis)
        for group in find_groups(graph).groups
        for slot in group.slots
        if slot.goes
    }
    found: dict[Kernel, None] = {}
    for use in kernels_of(graph):
        ends = [
            _widths(width, steps) if (use.layer, use.weight, axis) in varies else [width]
            for width, axis in zip(
                (use.kernel.channels_in, use.kernel.channels_out), use.axes, strict=True
            )
        ]
        if use.axes[0] == use.axes[1]:  # depthwise: both are the same channels
            times = use.kernel.channels_out // use.kernel.channels_in
            pairs = [(width, width * times) for width in ends[0]]
        else:
            pairs = [(before, after) for before in ends[0] for after in ends[1]]
        found.update(dict.fromkeys(use.kernel.of_widths(*pair) for pair in pairs))
    return tuple(found)


def _widths(width: int, steps: int) -> list[int]:
    """A grid of widths up to a width."""
    wanted = (math.ceil(width * step / steps / TILE) * TILE for step in range(1, steps + 1))
    return sorted({min(width, item) for item in wanted})


def whole_file(graph: Graph, dtype: str) -> bytes:
    """The network as a `.tflite` file as it is exported, calibrated on noise: only its time and its size count.

    Args:
        graph: the network.
        dtype: `"float32"`, `"float16"`, `"dynamic"` or `"int8"`.
    """
    tf = backends.tensorflow()
    converter = tf.lite.TFLiteConverter.from_keras_model(reading.build(folded(graph)[0]))
    if dtype != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if dtype == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if dtype == "int8":
        rng = np.random.default_rng(0)
        shapes = [(1, *(length or 1 for length in graph.shape(ref))) for ref in graph.inputs]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        converter.representative_dataset = lambda: iter(
            [[rng.uniform(size=shape).astype(np.float32) for shape in shapes] for _ in range(4)]
        )
    with backends.quietly():
        return bytes(converter.convert())


def _listed(folder: Path) -> list[dict[str, str]]:
    if not (folder / LIST).is_file():
        raise ValueError(f"'{folder}' holds no probes. Write them with krp.latency.probes.")
    with open(folder / LIST, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _turn(path: Path, seconds: float, num_threads: int) -> float:
    """Milliseconds of the fastest run of a probe within a moment."""
    interpreter = backends.interpreter(path, num_threads)
    for _ in range(2):
        interpreter.invoke()
    times: list[float] = []
    # One thread's own time leaves out what else a busy machine runs in between.
    clock = time.thread_time if num_threads == 1 else time.perf_counter
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begin = clock()
        interpreter.invoke()
        times.append(clock() - begin)
    return 1000 * min(times)


def _table(
    listed: Sequence[Mapping[str, str]], times: Mapping[str, list[float]], about: dict[str, str]
) -> LatencyTable:
    """Milliseconds of one kernel each, and what the whole network takes beside its kernels."""
    found = {}
    spent = 0.0
    for row in listed:
        if row["file"] == WHOLE:
            continue
        kernel = Kernel(row["operator"], *(int(row[name]) for name in _FIELDS[1:]))
        found[kernel] = min(times[row["file"]]) / int(row["copies"])
        spent += found[kernel] * int(row["uses"])
    whole = min(times[WHOLE])
    # Where the parts sum to more than the whole, copies fit the caches less well than the network does.
    share = min(1.0, whole / spent)
    (last,) = (row for row in listed if row["file"] == WHOLE)
    return LatencyTable(
        {kernel: value * share for kernel, value in found.items()},
        whole - spent * share,
        int(last["values"]),
        {**about, "dtype": last["dtype"]},
    )


def _processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines: Iterator[str] = iter(info.read_text().splitlines() if info.is_file() else ())
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _runtime() -> str:
    for package in ("ai-edge-litert", "tensorflow"):
        try:
            return f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
