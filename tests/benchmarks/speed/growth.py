"""How seconds and memory of `robust` grow with width, depth and pixels, with fitted exponents.

    python -m tests.benchmarks growth [--dimensions=width,depth,pixels] [--widths=64,...] [--num_inputs=256]

Half of the multiplications go from random networks, without distillation, whose steps a network's size decides:
two dense layers of so many units; residual blocks of 16 channels at 16 x 16 pixels, two convolutions each; five
convolutions that halve so many pixels. As many inputs for every size. Each size has a process of its own. Seconds are
the processor's; those of the smallest size, mostly TensorFlow's compiling, are taken off before an exponent is fitted.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from networks import randomise

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.synthesis.kinds import Synthesis
from tests.benchmarks.benchmark import Benchmark, Row

SIZES = {
    "width": flags.DEFINE_list(
        "widths", ["64", "256", "1024", "2048", "4096", "8192"], "Units of dense layers."
    ),
    "depth": flags.DEFINE_list("depths", ["16", "32", "64", "104", "152"], "Convolutions."),
    "pixels": flags.DEFINE_list("pixels", ["32", "64", "128", "224", "384"], "Of a side."),
}
DIMENSIONS = flags.DEFINE_list("dimensions", list(SIZES), "Of which.")
NUM = flags.DEFINE_integer("num_inputs", 256, "Synthetic inputs; where pixels grow, a quarter.")


def wide(size: int) -> Any:
    """Two dense layers of so many units."""
    layers = backends.tf_keras().layers
    hidden = [layers.Dense(size, "relu"), layers.Dense(size, "relu")]
    return backends.tf_keras().Sequential([layers.Input((64,)), *hidden, layers.Dense(10)])


def deep(size: int) -> Any:
    """Residual blocks with so many convolutions in all."""
    keras = backends.tf_keras()
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(16, 3, padding="same")(inputs)
    for _ in range(size // 2):
        y = x
        for activation in ("relu", None):
            y = keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(y)
            y = keras.layers.BatchNormalization()(y)
            y = keras.layers.Activation(activation)(y) if activation else y
        x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def large(size: int) -> Any:
    """Five convolutions, each of which halves the picture."""
    keras = backends.tf_keras()
    x = inputs = keras.Input((size, size, 3))
    for channels in (16, 32, 64, 128, 256):
        x = keras.layers.Conv2D(channels, 3, 2, padding="same", use_bias=False)(x)
        x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


MAKE = {"width": wide, "depth": deep, "pixels": large}


def measure(dimension: str, size: str) -> Iterator[Row]:
    """One network pruned."""
    model = randomise(MAKE[dimension](int(size)))
    count = NUM.value // 4 if dimension == "pixels" else NUM.value
    method = krp.Robust(repair="reconstruct", synthesis=Synthesis(num_inputs=count))
    wall, cpu = time.perf_counter(), time.process_time()
    result = krp.prune(model, 0.5, measure="macs", method=method, input_range=(0, 1), verbose=0)
    yield {
        "units": sum(result.plan.widths.values()),
        "seconds": time.perf_counter() - wall,
        "cpu seconds": time.process_time() - cpu,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def exponents(rows: list[Row], _: Path) -> str:
    """By dimension the slope of the logarithms, over the smallest size."""
    found = []
    for dimension in dict.fromkeys(str(row["dimension"]) for row in rows):
        mine = sorted((float(r["size"]), r) for r in rows if r["dimension"] == dimension)
        sizes = np.log([size for size, _ in mine[1:]])
        for what in ("cpu seconds", "gigabytes"):
            values = np.array([float(row[what]) for _, row in mine])
            grown = np.maximum(values[1:] - values[0], 1e-3)
            if len(sizes) > 1:
                slope = np.polyfit(sizes, np.log(grown), 1)[0]
                last = np.diff(np.log(grown[-2:]))[0] / np.diff(sizes[-2:])[0]
                found.append(f"| {dimension} | {what} | {slope:.2f} | {last:.2f} |")
    return "\n".join(["| | | exponent | of the last two |", "|---|---|---|---|", *found])


BENCHMARK = Benchmark(
    cases=lambda: (
        {"dimension": dimension, "size": size}
        for dimension in DIMENSIONS.value
        for size in SIZES[dimension].value
    ),
    measure=measure,
    quick={"dimensions": ["width"], "widths": ["16", "32", "64"], "num_inputs": 64},
    chart=("cpu seconds", "gigabytes"),
    isolated=True,
    afterwards=exponents,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
