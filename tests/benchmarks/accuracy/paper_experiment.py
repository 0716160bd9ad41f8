"""The paper's experiment again: six networks, five methods, five seeds, to 80 % of the dense units.

Convolutions are kept, as published. Alpha, steps and radii are the published ones. A robust
instance is an item that is classified correctly and keeps its label under one FGSM step on the
logits of the *current* network; a network with one output decides at logit 0. Beside the table are
written `paper_tables.md`, median, worst and best at 25, 50 and 75 % and the gain of `paper` over `baseline`, and curves
of every network beside the published ones where they carry information.

    python -m tests.benchmarks paper_experiment --shared=../shared

`published` is the paper's method with its saturating energy, its bias term and its temperatures.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from keras_robust_prune import backends
from keras_robust_prune.evaluation.logits import logits
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.problem import Method, Problem
from keras_robust_prune.methods.reference.energy import PublishedEnergy, RelativeEnergy
from keras_robust_prune.methods.reference.guided import Greedy, Paper
from keras_robust_prune.methods.reference.strategies import METHODS
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks import zoo
from tests.benchmarks.accuracy.paper_tables import draw, tables
from tests.benchmarks.benchmark import SHARED, Benchmark, Row

NUM_ROBUST = 1000
DRAWN = ("paper", "published", "random")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One network of the paper.

    Attributes:
        number: in the paper.
        network: file in `zoo/`.
        data: file in `data/`.
        alpha: weight of the L1 width in the energy.
        step: fraction removed by one step.
        radii: of FGSM, in the inputs' own units.
        divide: what the stored inputs are divided by.
        input_range: valid inputs.
    """

    number: int
    network: str
    data: str
    alpha: float = 0.75
    step: float = 1 / 64
    radii: tuple[float, ...] = (0.01, 0.05)
    divide: float = 255.0
    input_range: tuple[float, float] = (0.0, 1.0)


SETTINGS = (
    Setting(1, "credit_mlp", "creditcard", 0.75, 2 / 64, (0.5,), 1.0, (-5.0, 5.0)),
    Setting(2, "xray_cnn", "pneumonia", 0.75, 8 / 128, (0.5,)),
    Setting(3, "mnist_mlp", "mnist"),
    Setting(4, "mnist_mlp_sigmoid", "mnist", 0.05),
    Setting(5, "cifar_paper_relu", "cifar10"),
    Setting(6, "cifar_paper_sigmoid", "cifar10", 0.05),
)

CHOSEN = flags.DEFINE_list("networks", [item.network for item in SETTINGS], "Which networks.")
SEEDS = flags.DEFINE_integer("seeds", 5, "Runs of every method that draws.", 1)
TARGET = flags.DEFINE_float("target", 0.8, "Fraction of the dense units to remove.", 0.0, 0.99)


class Examination:
    """Accuracy and robust instances of one network with exchanged weights."""

    def __init__(self, graph: Graph, setting: Setting, images: np.ndarray, labels: np.ndarray):
        self.setting = setting
        self.images, self.labels = images, labels.astype("int64")
        self.graph = graph
        scores, _ = logits(graph)
        self.model = build(scores)
        self._known: dict[Any, dict[str, float]] = {}
        tf = backends.tensorflow()
        self._score = tf.function(lambda x: self.model(x, training=False)[-1], autograph=False)
        self._attack = tf.function(self._gradient_sign, autograph=False)

    def __call__(self, graph: Graph, removals: tuple[Any, ...]) -> dict[str, float]:
        """Accuracy, and robust instances per 1,000 at every radius."""
        key = frozenset(removals)
        if key not in self._known:
            for name, layer in graph.layers.items():
                if layer is not self.graph.layers[name]:
                    self.model.get_layer(name).set_weights(list(layer.weights.values()))
            self.graph = graph
            self._known[key] = self._measure()
        return self._known[key]

    def _measure(self) -> dict[str, float]:
        right = self._right(self.images, self.labels)
        found = {"accuracy": float(right.mean())}
        x, y = self.images[:NUM_ROBUST], self.labels[:NUM_ROBUST]
        signs = np.concatenate([self._attack(*part).numpy() for part in batches(x, y)])
        for radius in self.setting.radii:
            attacked = np.clip(x + np.float32(radius) * signs, *self.setting.input_range)
            robust = right[:NUM_ROBUST] & self._right(attacked, y)
            found[f"robust@{radius:g}"] = float(robust.mean() * 1000)
        return found

    def _right(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        scores = np.concatenate([self._score(part).numpy() for part, _ in batches(x, y)])
        chosen = scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1)
        return np.asarray(chosen == y)

    def _gradient_sign(self, x: Any, y: Any) -> Any:
        tf = backends.tensorflow()
        with tf.GradientTape() as tape:
            tape.watch(x)
            scores = self.model(x, training=False)[-1]
            if scores.shape[1] == 1:
                wanted = tf.cast(y[:, None], scores.dtype)
                loss = tf.nn.sigmoid_cross_entropy_with_logits(wanted, scores)
            else:
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, scores)
        return tf.sign(tape.gradient(loss, x))


def batches(x: np.ndarray, y: np.ndarray, size: int = 500) -> Iterator[tuple[Any, Any]]:
    """Parts of both as tensors."""
    tf = backends.tensorflow()
    for k in range(0, len(x), size):
        yield tf.convert_to_tensor(x[k : k + size]), tf.convert_to_tensor(y[k : k + size])


def methods(setting: Setting) -> dict[str, Method]:
    """The five methods, and the paper's with everything as published."""
    published = Paper(PublishedEnergy(setting.alpha), bias="relative", published_heat=True)
    return {
        "paper": Paper(RelativeEnergy(setting.alpha)),
        "published": published,
        "greedy": Greedy(RelativeEnergy(setting.alpha)),
        **{name: METHODS[name] for name in ("baseline", "norm", "random")},
    }


def examine(network: str) -> Iterator[dict[str, Any]]:
    """One row per measurement of one network, all methods and seeds."""
    setting = next(item for item in SETTINGS if item.network == network)
    graph = read(zoo.file_of(network))
    with np.load(Path(SHARED.value) / "data" / f"{setting.data}.npz") as arrays:
        images = (arrays["x_test"] / setting.divide).astype("float32")
        images = images.reshape(len(images), *graph.shape(graph.inputs[0]))
        labels = arrays["y_test"].ravel()
    keep = [layer.name for layer in graph.layers.values() if layer.kind.startswith("Conv")]
    groups = find_groups(graph, keep)
    measure = Examination(graph, setting, images, labels)
    for name, method in methods(setting).items():
        for seed in range(SEEDS.value if name in DRAWN else 1):
            target = min(TARGET.value, 0.5) if name == "baseline" else TARGET.value
            problem = Problem(
                graph, groups, target, "units", setting.step, None, setting.input_range, seed=seed
            )
            row = {"method": name, "seed": seed}
            yield {**row, "fraction": 0.0, "seconds": 0.0, **measure(graph, ())}
            seconds, begin = 0.0, time.perf_counter()
            for state in method.steps(problem):
                seconds += time.perf_counter() - begin
                fraction = min(state.step * setting.step, target)
                if fraction == target or abs(fraction * 16 - round(fraction * 16)) < 1e-6:
                    found = measure(state.graph, state.plan.removals)
                    yield {**row, "fraction": round(fraction, 4), "seconds": seconds, **found}
                begin = time.perf_counter()


def publish(rows: list[Row], folder: Path) -> str:
    """The tables and curves."""
    numbers = [
        {
            key: value if key in ("network", "method") else float(value)
            for key, value in row.items()
            if value not in ("", None)
        }
        for row in rows
    ]
    (folder / "paper_tables.md").write_text(tables(numbers, SETTINGS), encoding="utf-8")
    return "\n".join(path.name for path in draw(numbers, SETTINGS, folder))


BENCHMARK = Benchmark(
    cases=lambda: ({"network": name} for name in CHOSEN.value),
    measure=examine,
    quick={"networks": ["credit_mlp"], "seeds": 1, "target": 0.5},
    afterwards=publish,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
