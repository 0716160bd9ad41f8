"""Are networks of keras.applications read and rebuilt exactly, and how fast?

    python tests/benchmarks/roundtrip.py [--keras=tf_keras,keras] [--networks=ResNet50,...]

Random weights, nothing is downloaded. For each network: seconds to read and to build, the greatest difference of its
outputs relative to the greatest output, and whether all weights and those that may be trained are the same.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from networks import outputs_of, randomise

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read

ALL = ("MobileNetV2", "ResNet50", "EfficientNetB0", "DenseNet121", "Xception", "NASNetMobile")
ALL += ("ConvNeXtTiny", "InceptionV3", "MobileNetV3Small", "RegNetX002", "ResNetRS50")
ALL += ("EfficientNetV2B0",)

KERASES = flags.DEFINE_list("keras", list(backends.NAMES), "Which Keras versions.")
NETWORKS = flags.DEFINE_list("networks", list(ALL), "Which members of keras.applications.")


def row(keras: str, name: str) -> str:
    """One network's line of the table."""
    make = getattr(backends.module(keras).applications, name, None)
    if make is None:
        return f"{keras:9} {name:17} is not there"
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
    same = "same" if described(model) == described(rebuilt) else "DIFFERENT"
    return (
        f"{keras:9} {name:17} {len(graph.layers):6} {middle - begin:6.2f} {end - middle:6.2f}"
        f" {difference:10.1e}  {same}"
    )


def described(model: Any) -> Any:
    """What must be the same: the shapes of the weights, and of those that may be trained."""
    return [
        sorted(tuple(weight.shape) for weight in weights)
        for weights in (model.weights, model.trainable_weights)
    ]


def main(_: list[str]) -> None:
    print(f"{'':9} {'network':17} {'layers':>6} {'read':>6} {'build':>6} {'difference':>10}  model")
    for name in NETWORKS.value:
        for keras in KERASES.value:
            print(row(keras, name), flush=True)


if __name__ == "__main__":
    app.run(main)
