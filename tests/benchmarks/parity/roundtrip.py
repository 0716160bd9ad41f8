"""Are networks of keras.applications read and rebuilt exactly, and how fast?

    python -m tests.benchmarks roundtrip [--keras=tf_keras,keras] [--networks=ResNet50,...]

Random weights, nothing is downloaded. For each network: seconds to read and to build, the greatest difference of its
outputs relative to the greatest output, and whether all weights and those that may be trained are the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import flags
from networks import outputs_of, randomise

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from tests.benchmarks.benchmark import Benchmark

ALL = ("MobileNetV2", "ResNet50", "EfficientNetB0", "DenseNet121", "Xception", "NASNetMobile")
ALL += ("ConvNeXtTiny", "InceptionV3", "MobileNetV3Small", "RegNetX002", "ResNetRS50")
ALL += ("EfficientNetV2B0",)

BACKENDS = flags.DEFINE_list("keras", list(backends.NAMES), "Which Keras versions.")
NETWORKS = flags.DEFINE_list("networks", list(ALL), "Which members of keras.applications.")


def measure(network: str, keras: str) -> Iterator[dict[str, Any]]:
    """One network's row of the table."""
    make = getattr(backends.module(keras).applications, network, None)
    if make is None:
        return
    model = randomise(make(weights=None))
    begin = time.perf_counter()
    graph = read(model)
    middle = time.perf_counter()
    rebuilt = build(graph)
    end = time.perf_counter()
    shape = [size or 96 for size in (2, *model.input_shape[1:])]
    inputs = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    (before,), (after,) = outputs_of(model, inputs), outputs_of(rebuilt, inputs)
    difference = np.abs(before - after).max() / np.abs(before).max()
    yield {
        "layers": len(graph.layers),
        "read seconds": middle - begin,
        "build seconds": end - middle,
        "difference": float(difference),
        "model": "same" if described(model) == described(rebuilt) else "DIFFERENT",
    }


def described(model: Any) -> Any:
    """What must be the same: the shapes of the weights, and of those that may be trained."""
    return [
        sorted(tuple(weight.shape) for weight in weights)
        for weights in (model.weights, model.trainable_weights)
    ]


BENCHMARK = Benchmark(
    cases=lambda: ({"network": n, "keras": k} for n in NETWORKS.value for k in BACKENDS.value),
    measure=measure,
    quick={"networks": ["MobileNetV2"]},
    chart=("read seconds", "build seconds", "difference"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
