"""On int8 files: `robust` beside tfmot's magnitude pruning and beside int8 alone. Bytes, time, accuracy, attacks.

    python -m tests.benchmarks robust_int8 --shared=../shared [--networks=mnist_cnn,...] [--target=0.5]

`robust` removes units until so much of the MACs is gone; magnitude pruning zeroes as large a share of every kernel,
at a learning rate of 0, as there is no data. All are calibrated without data. PGD follows the gradients of the
Keras model that a file was made of, Square asks the file itself. The files run in turns; zip says what a compressed
package holds of a file, where zeros are worth something. With `--models=FOLDER` pruned networks are kept there.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import keras_robust_prune as krp
from keras_robust_prune import backends
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark, Row, in_turns, ready

CHOSEN = flags.DEFINE_list("networks", ["mnist_cnn", "cifar_cnn", "resnet20"], "Which networks.")
TARGET = flags.DEFINE_float("target", 0.5, "Fraction of the MACs, or of the weights, that goes.")
NUM = flags.DEFINE_integer("num", 500, "How many test inputs.")
ATTACKED = flags.DEFINE_integer("attacked", 100, "How many of them are attacked.")
METHOD = flags.DEFINE_string("method", "robust", "What it is compared with.")


def sparse(network: str, dense: Any) -> Any:
    """The network without the smallest weights of every kernel, by tfmot, which sets them to zero in training."""
    api, tf_keras = backends.tfmot().sparsity.keras, backends.tf_keras()
    schedule = api.ConstantSparsity(TARGET.value, 0, frequency=1)
    kernels = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)

    def wrapped(layer: Any) -> Any:
        """What tfmot can prune; it refuses a whole model for one layer that it does not know."""
        return api.prune_low_magnitude(layer, schedule) if isinstance(layer, kernels) else layer

    model = tf_keras.models.clone_model(zoo.load_model(network), clone_function=wrapped)
    model.compile(tf_keras.optimizers.SGD(0.0), lambda labels, outputs: 0.0 * outputs)
    nothing = np.zeros((1, *dense.input_shape[1:]), np.float32)
    model.fit(nothing, np.zeros(1), callbacks=[api.UpdatePruningStep()], epochs=2, verbose=0)
    small = api.strip_pruning(model)
    pairs = zip(small.get_weights(), dense.get_weights(), strict=True)
    # Training also moves the statistics of BatchNormalization.
    small.set_weights([after if after.ndim > 1 else before for after, before in pairs])
    return small


def measure(network: str) -> Iterator[Row]:
    """Three files, and the dense float32 one."""
    chosen = zoo.NETWORKS[network]
    dense = zoo.load_model(network)
    models = {"float32": dense, "int8 alone": dense, "tfmot + int8": sparse(network, dense)}
    method = METHOD.value
    models[f"{method} + int8"] = zoo.pruned(
        network, dense, method, TARGET.value, "macs", measure="macs"
    )
    x, y = zoo.load_data(network, NUM.value)
    attacks = [f"square@{chosen.eps}", f"pgd@{chosen.eps}"]
    given: dict[str, Any] = {"input_range": chosen.input_range, "min_agreement": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, model in models.items():
            paths.append(Path(folder) / f"{len(paths)}.tflite")
            krp.export_tflite(model, paths[-1], "float32" if name == "float32" else "int8", **given)
        times = np.median(in_turns([ready(path) for path in paths], 300), 1)
        for (name, model), path, seconds in zip(models.items(), paths, times, strict=True):
            few = slice(None, ATTACKED.value)
            options = {"input_range": chosen.input_range, "surrogate": model}
            found = krp.evaluate(path, x[few], y[few], attacks=attacks, **options)
            yield {
                "file": name,
                "bytes": path.stat().st_size,
                "zip": len(zlib.compress(path.read_bytes(), 9)),
                "ms": 1000 * seconds,
                "accuracy": krp.evaluate(path, x, y, input_range=chosen.input_range).accuracy,
                **{m.name.partition("@")[0]: m.value for m in found.measures if "@" in m.name},
            }


BENCHMARK = Benchmark(
    cases=lambda: ({"network": name} for name in CHOSEN.value),
    measure=measure,
    quick={"networks": ["mnist_cnn"], "num": 100, "attacked": 10, "method": "norm"},
    chart=("bytes", "ms", "accuracy", "square"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
