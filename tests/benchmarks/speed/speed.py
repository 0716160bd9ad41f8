"""How long reading, finding channel groups and a whole `norm` prune of half the units take, and how much memory.

    python -m tests.benchmarks speed [--keras=tf_keras,keras] [--networks=ResNet50,ViT_S] [--target=0.5]

Random weights at 224 x 224. Wall seconds and CPU seconds; on a busy machine only the latter mean something.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from typing import Any

from absl import flags
from networks import randomise

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import Norm
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks.benchmark import Benchmark
from tests.tools.train_transformers import block

BACKENDS = flags.DEFINE_list("keras", ["tf_keras"], "Which Keras versions.")
NETWORKS = flags.DEFINE_list(
    "networks",
    ["ResNet50", "ViT_S"],
    "Members of keras.applications, or ViT_S, which is of Keras 3.",
)
TARGET = flags.DEFINE_float("target", 0.5, "Fraction of the units that goes.")


def vit_s(keras: Any) -> Any:
    """A vision transformer of 22 million parameters: 12 composite blocks of width 384 over patches of 16 pixels."""
    layers, inputs = keras.layers, keras.Input((224, 224, 3))
    x = layers.Reshape((196, 384))(layers.Conv2D(384, 16, 16, name="patches")(inputs))
    for number in range(12):
        attention = layers.MultiHeadAttention(6, 64, name="attention")
        x = block(keras, 384, attention, f"block_{number}", 4)(x)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(name="norm")(x))
    return keras.Model(inputs, layers.Dense(1000, name="head")(x), name="vit_s")


def measure(keras: str, network: str) -> Iterator[dict[str, Any]]:
    """A row for each part of the work."""

    def row(part: str, units: int) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
        begin[:] = time.perf_counter(), time.process_time()
        return {
            "part": part,
            "units": units,
            "seconds": wall,
            "cpu seconds": cpu,
            "gigabytes": peak,
        }

    begin = [time.perf_counter(), time.process_time()]
    module = backends.module(keras)
    if network == "ViT_S":
        model = randomise(vit_s(module))
    else:
        make = getattr(module.applications, network)
        model = randomise(make(weights=None, input_shape=(224, 224, 3)))
    yield row("Keras makes the model", 0)
    graph = read(model)
    yield row("read", 0)
    groups = find_groups(graph)
    yield row("groups", sum(groups.widths.values()))
    for state in Norm().steps(Problem(graph, groups, target=TARGET.value)):
        last = state
    yield row("plan", len(last.plan.removals))
    build(cut(graph, groups, last.plan))
    yield row("cut and built", len(last.plan.removals))
    del graph, groups, state, last
    result = krp.prune(model, TARGET.value, method="norm", verbose=0)
    yield row("krp.prune, norm", len(result.plan.removals))


BENCHMARK = Benchmark(
    cases=lambda: (
        {"keras": "keras" if network == "ViT_S" else keras, "network": network}
        for network in NETWORKS.value
        for keras in (BACKENDS.value if network != "ViT_S" else ["keras"])
    ),
    measure=measure,
    quick={"networks": ["MobileNetV2"]},
    chart=("seconds", "gigabytes"),
    isolated=True,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
