"""All of keras.applications, cut by 30 % of the units: how exact, how small, how fast.

    python -m tests.benchmarks applications [--keras=tf_keras,keras] [--networks=ResNet50,...]

Random weights, nothing is downloaded. Seconds are wall time, memory is the peak of the network's own process in MB.
"""

from __future__ import annotations

import itertools
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from networks import randomise

from keras_robust_prune import backends
from keras_robust_prune.exporting.tflite import export_tflite
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import Norm
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks.benchmark import Benchmark, Row
from tests.benchmarks.zoo import prunable_params

# Every architecture; a family of many sizes is represented by its smallest two. RegNet and ResNetRS are not in Keras 3.
NAMES = "MobileNet MobileNetV2 MobileNetV3Small MobileNetV3Large EfficientNetB0 EfficientNetB1 EfficientNetV2B0 "
NAMES += "EfficientNetV2B1 EfficientNetV2S DenseNet121 DenseNet169 ResNet50 ResNet101 ResNet50V2 ResNet101V2 "
NAMES += "RegNetX002 RegNetX004 RegNetY002 RegNetY004 ResNetRS50 ResNetRS101 Xception InceptionV3 "
NAMES += "InceptionResNetV2 NASNetMobile NASNetLarge ConvNeXtTiny ConvNeXtSmall VGG16 VGG19"

BACKENDS = flags.DEFINE_list("keras", list(backends.NAMES), "Which Keras versions.")
NETWORKS = flags.DEFINE_list("networks", NAMES.split(), "Which members of keras.applications.")
SIZE = flags.DEFINE_integer("size", 96, "Height and width of the inputs.")
TARGET = flags.DEFINE_float("target", 0.3, "Fraction of the units that goes.")
TFLITE = flags.DEFINE_bool("tflite", True, "Whether the cut network is converted and compared.")


def cases() -> Iterator[dict[str, str]]:
    """Every network in every Keras that has it."""
    for name in NETWORKS.value:
        for keras in BACKENDS.value:
            if hasattr(backends.module(keras).applications, name):
                yield {"keras": keras, "name": name}


def measure(keras: str, name: str) -> Iterator[dict[str, Any]]:
    """One network from its Keras model to the cut one."""
    size, target = SIZE.value, TARGET.value
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
    if TFLITE.value:
        with tempfile.TemporaryDirectory() as folder:
            parity = export_tflite(built, Path(folder) / "cut.tflite").max_difference or 0.0
    seconds = [round(b - a, 2) for a, b in itertools.pairwise(clock)]
    codes = sorted({item.code for item in groups.kept} - {"output"})
    yield {
        "size": size,
        "groups": len(groups.groups),
        "prunable": prunable_params(graph, groups) / graph.num_params,
        "params": graph.num_params,
        "params_after": smaller.num_params,
        "macs": num_macs(graph),
        "macs_after": num_macs(smaller),
        "difference": float(difference),
        "tflite_difference": float(parity),
        **dict(zip(CLOCKS, seconds, strict=True)),
        "tflite_seconds": round(time.perf_counter() - begin, 2),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "unsupported": " ".join(codes),
    }


CLOCKS = ("read_seconds", "groups_seconds", "plan_seconds", "cut_seconds", "build_seconds")


def summary(rows: list[Row], _: Path) -> str:
    """How many networks hold what is asked of them."""
    exact = sum(float(row["difference"]) <= 1e-4 for row in rows)
    same = sum(float(row["tflite_difference"]) <= 1e-3 for row in rows)
    shares = [
        min(float(row[f"{what}_after"]) / float(row[what]) for what in ("params", "macs"))
        for row in rows
    ]
    less = sum(share <= 0.7 for share in shares)
    return (
        f"{len(rows)} networks: cut equals mask in {exact}, the .tflite equals the model in {same},"
        f" {less} ({less / max(len(rows), 1):.0%}) lose 30 % of parameters or MACs"
    )


BENCHMARK = Benchmark(
    cases=cases,
    measure=measure,
    quick={"networks": ["MobileNetV3Small"], "tflite": False},
    chart=("difference", "tflite_difference"),
    isolated=True,
    afterwards=summary,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
