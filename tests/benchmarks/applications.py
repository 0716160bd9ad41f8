"""All of keras.applications, cut by 30 % of the units: how exact, how small, how fast.

    python tests/benchmarks/applications.py --out=applications.csv [--keras=tf_keras,keras] [--networks=ResNet50,...]

Random weights, nothing is downloaded. Every network has a process of its own, so that its peak memory is its own; a
row that is in the file already is not measured again. With `--summary` only the table of what is there is printed.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]


from networks import randomise

from keras_robust_prune import backends
from keras_robust_prune.exporting.tflite import export_tflite
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import Norm
from keras_robust_prune.surgery.costs import num_macs, prunable_params
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups

# Every architecture; a family of many sizes is represented by its smallest two. RegNet and ResNetRS are not in Keras 3.
NAMES = "MobileNet MobileNetV2 MobileNetV3Small MobileNetV3Large EfficientNetB0 EfficientNetB1 EfficientNetV2B0 "
NAMES += "EfficientNetV2B1 EfficientNetV2S DenseNet121 DenseNet169 ResNet50 ResNet101 ResNet50V2 ResNet101V2 "
NAMES += "RegNetX002 RegNetX004 RegNetY002 RegNetY004 ResNetRS50 ResNetRS101 Xception InceptionV3 "
NAMES += "InceptionResNetV2 NASNetMobile NASNetLarge ConvNeXtTiny ConvNeXtSmall VGG16 VGG19"

OUT = flags.DEFINE_string("out", "applications.csv", "The table.")
KERASES = flags.DEFINE_list("keras", list(backends.NAMES), "Which Keras versions.")
NETWORKS = flags.DEFINE_list("networks", NAMES.split(), "Which members of keras.applications.")
SIZE = flags.DEFINE_integer("size", 96, "Height and width of the inputs.")
TARGET = flags.DEFINE_float("target", 0.3, "Fraction of the units that goes.")
TFLITE = flags.DEFINE_bool("tflite", True, "Whether the cut network is converted and compared.")
SUMMARY = flags.DEFINE_bool("summary", False, "Print what the table holds, measure nothing.")
ONE = flags.DEFINE_bool("one", False, "Measure one network in this process and print it as JSON.")


@dataclasses.dataclass(frozen=True)
class Row:
    """What is measured of one network; seconds are wall time, memory is the peak of the process in MB."""

    keras: str
    name: str
    size: int
    groups: int
    prunable: float
    params: int
    params_after: int
    macs: int
    macs_after: int
    difference: float
    tflite_difference: float
    read_seconds: float
    groups_seconds: float
    plan_seconds: float
    cut_seconds: float
    build_seconds: float
    tflite_seconds: float
    memory: int
    barriers: str


def measure(keras: str, name: str, size: int, target: float, tflite: bool) -> Row:
    """One network from its Keras model to the cut one."""
    make = getattr(backends.module(keras).applications, name)
    model = randomise(make(weights=None, input_shape=(size, size, 3), classifier_activation=None))
    clock = [time.perf_counter()]
    graph = read(model)
    del model
    clock.append(time.perf_counter())
    groups = find_groups(graph)
    clock.append(time.perf_counter())
    problem = Problem(graph, groups, target=target, step=target)
    state = list(Norm().steps(problem))[-1]
    clock.append(time.perf_counter())
    smaller = cut(graph, groups, state.plan)
    clock.append(time.perf_counter())
    built = build(smaller)
    clock.append(time.perf_counter())
    inputs = np.random.default_rng(0).uniform(0, 1, (1, size, size, 3)).astype("float32")
    wanted = np.array(build(mask(graph, groups, state.plan))(inputs))
    difference = np.abs(np.array(built(inputs)) - wanted).max() / np.abs(wanted).max()
    begin, parity = time.perf_counter(), float("nan")
    if tflite:
        with tempfile.TemporaryDirectory() as folder:
            parity = export_tflite(built, Path(folder) / "cut.tflite").max_difference or 0.0
    seconds = [round(b - a, 2) for a, b in itertools.pairwise(clock)]
    codes = sorted({item.code for item in groups.kept} - {"output"})
    return Row(
        keras,
        name,
        size,
        len(groups.groups),
        prunable_params(graph, groups) / graph.num_params,
        graph.num_params,
        smaller.num_params,
        num_macs(graph),
        num_macs(smaller),
        float(difference),
        float(parity),
        *seconds,
        round(time.perf_counter() - begin, 2),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        " ".join(codes),
    )


def in_its_own_process(keras: str, name: str) -> Row | None:
    """Measures one network in a new process; None if that failed."""
    command = [sys.executable, __file__, "--one", f"--keras={keras}", f"--networks={name}"]
    command += [f"--size={SIZE.value}", f"--target={TARGET.value}", f"--tflite={TFLITE.value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{keras} {name} failed:\n{done.stderr[-2000:]}", flush=True)
        return None
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def rows_in(path: Path) -> list[Row]:
    """The rows of a table that is there."""
    if not path.exists():
        return []
    kinds = {"str": str, "int": int, "float": float}
    types = {field.name: kinds[str(field.type)] for field in dataclasses.fields(Row)}
    with path.open(newline="") as file:
        return [
            Row(**{key: types[key](value) for key, value in row.items()})
            for row in csv.DictReader(file)
        ]


def append(path: Path, row: Row) -> None:
    """Writes a row behind the others."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Row)])
        if new:
            writer.writeheader()
        writer.writerow(dataclasses.asdict(row))


def line(row: Row) -> str:
    """A row as text."""
    seconds = row.read_seconds + row.groups_seconds + row.plan_seconds + row.cut_seconds
    return (
        f"{row.keras:9}{row.name:18}{row.groups:5}{row.prunable:9.1%}"
        f"{row.params_after / row.params - 1:9.1%}{row.macs_after / row.macs - 1:9.1%}"
        f"{row.difference:9.1e}{row.tflite_difference:9.1e}{seconds:8.1f}{row.memory:7} {row.barriers}"
    )


HEADER = f"{'':9}{'network':18}{'groups':>5}{'prunable':>9}{'params':>9}{'MACs':>9}{'cut-mask':>9}{'tflite':>9}"
HEADER += f"{'seconds':>8}{'MB':>7} barriers"


def summary(rows: list[Row]) -> str:
    """How many networks hold what is asked of them."""
    exact = sum(row.difference <= 1e-4 for row in rows)
    same = sum(row.tflite_difference <= 1e-3 for row in rows)
    less = [min(row.params_after / row.params, row.macs_after / row.macs) <= 0.7 for row in rows]
    return (
        f"{len(rows)} networks: cut equals mask in {exact}, the .tflite equals the model in {same},"
        f" {sum(less)} ({sum(less) / max(len(less), 1):.0%}) lose 30 % of parameters or MACs"
    )


def main(_: list[str]) -> None:
    if ONE.value:
        row = measure(KERASES.value[0], NETWORKS.value[0], SIZE.value, TARGET.value, TFLITE.value)
        print(json.dumps(dataclasses.asdict(row)))
        return
    path = Path(OUT.value)
    done = {(row.keras, row.name): row for row in rows_in(path)}
    print(HEADER)
    for name in NETWORKS.value:
        for keras in KERASES.value:
            known = done.get((keras, name))
            if known is None and not SUMMARY.value:
                if not hasattr(backends.module(keras).applications, name):
                    continue
                known = in_its_own_process(keras, name)
                if known is not None:
                    append(path, known)
            if known is not None:
                print(line(known), flush=True)
    print(summary(rows_in(path)))


if __name__ == "__main__":
    app.run(main)
