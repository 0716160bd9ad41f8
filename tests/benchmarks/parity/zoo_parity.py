"""Cut equals mask, and the `.tflite` file equals the model, on every network of the zoo in both Keras versions.

Half of the units of every layer go by `norm`. The zoo is tf_keras; its networks are made again in Keras 3 with the same
weights first. The largest difference counts in the largest output.

    python -m tests.benchmarks zoo_parity --shared=../shared
"""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from keras_robust_prune import backends
from keras_robust_prune.exporting.tflite import export_tflite
from keras_robust_prune.graph.graph import Graph, Layer
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import METHODS
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark

CHOSEN = flags.DEFINE_list("networks", list(zoo.NETWORKS), "Which networks.")


def in_keras3(graph: Graph) -> Graph:
    """The same network for Keras 3: configurations with what its layers know."""
    layers = [_for_keras3(layer) for layer in graph.layers.values()]
    return dataclasses.replace(graph.with_layers(layers), keras="keras")


def _for_keras3(layer: Layer) -> Layer:
    kind = getattr(backends.keras().layers, layer.kind)
    known = {name for base in kind.__mro__ for name in inspect.signature(base.__init__).parameters}
    config: Mapping[str, Any] = {
        key: value
        for key, value in layer.config.items()
        if key in known and not key.endswith(("initializer", "regularizer", "constraint"))
    }
    if layer.kind == "InputLayer":
        config = {"name": layer.name, "batch_shape": tuple(layer.config["batch_input_shape"])}
    if "axis" in config and np.size(config["axis"]) == 1:
        config = {**config, "axis": int(np.ravel(config["axis"])[0])}
    return dataclasses.replace(layer, config={**config, "name": layer.name}, origin=None)


def largest(first: Any, second: Any, x: np.ndarray) -> float:
    """Largest difference of two models' outputs, in the largest output."""
    one, two = first.predict(x, verbose=0), second.predict(x, verbose=0)
    return float(np.abs(one - two).max() / np.abs(two).max())


def measure(network: str, keras: str) -> Iterator[dict[str, float]]:
    """Differences of the rebuilt from the given, the cut from the masked, the file from the cut."""
    given = zoo.load_model(network)
    graph = read(given)
    if keras == "keras":
        graph = in_keras3(graph)
    x = zoo.load_data(network, 200)[0]
    groups = find_groups(graph)
    *_, state = METHODS["norm"].steps(Problem(graph, groups, target=0.5, step=0.5))
    small = build(cut(state.graph, groups, state.plan))
    masked = build(mask(state.graph, groups, state.plan))
    with tempfile.TemporaryDirectory() as folder:
        report = export_tflite(
            small, Path(folder) / "small.tflite", input_range=zoo.NETWORKS[network].input_range
        )
    yield {
        "rebuilt": largest(build(graph), given, x),
        "cut - masked": largest(small, masked, x),
        ".tflite - cut": float(report.max_difference or 0.0),
    }


BENCHMARK = Benchmark(
    cases=lambda: ({"network": n, "keras": k} for n in CHOSEN.value for k in backends.NAMES),
    measure=measure,
    quick={"networks": ["mnist_mlp", "credit_mlp"]},
    chart=("rebuilt", "cut - masked", ".tflite - cut"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
