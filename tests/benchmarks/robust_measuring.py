"""The networks and data sets that the accuracy benchmarks run on, in a folder given by a flag."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune.analysis.tapping import Taps, logit_refs, scores
from keras_robust_prune.network import kerases
from keras_robust_prune.network.graph import Graph, split_activations

DEFAULT = Path(__file__).resolve().parents[3] / "shared"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network of the zoo: its data, the range of its inputs, and a radius for PGD."""

    data: str
    input_range: tuple[float, float]
    radius: float


ZOO = {
    "mnist_mlp": Entry("mnist", (0.0, 1.0), 0.05),
    "mnist_mlp_sigmoid": Entry("mnist", (0.0, 1.0), 0.05),
    "mnist_cnn": Entry("mnist", (0.0, 1.0), 0.1),
    "mnist_robust_cnn": Entry("mnist", (0.0, 1.0), 0.1),
    "credit_mlp": Entry("creditcard", (-5.0, 5.0), 0.2),
    "xray_cnn": Entry("pneumonia", (0.0, 1.0), 0.01),
    "cifar_paper_relu": Entry("cifar10", (0.0, 1.0), 0.004),
    "cifar_paper_sigmoid": Entry("cifar10", (0.0, 1.0), 0.004),
    "cifar_cnn": Entry("cifar10", (0.0, 255.0), 0.5),
    "resnet20": Entry("cifar10", (0.0, 1.0), 0.002),
}


def load_data(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real training inputs, test inputs and test labels, in the range the network expects."""
    entry = ZOO[name]
    with np.load(folder / "data" / f"{entry.data}.npz") as stored:
        train, test, labels = stored["x_train"], stored["x_test"], stored["y_test"].ravel()
    if train.dtype == np.uint8:
        scale = entry.input_range[1] / 255.0
        train, test = (x.astype("float32") * scale for x in (train, test))
        train, test = (x if x.ndim == 4 else x[..., None] for x in (train, test))
    return train.astype("float32"), test.astype("float32"), labels.astype("int32")


def measured(
    graph: Graph, name: str, x: np.ndarray, y: np.ndarray, attacked: int = 500
) -> tuple[float, float]:
    """Accuracy on all inputs and under PGD-20 on the logits for the first `attacked` of them."""
    tf = kerases.tensorflow()
    entry = ZOO[name]
    split = split_activations(graph)
    taps = Taps(split, logit_refs(split))
    predicted = scores(tf.constant(taps.run([x])[0])).numpy().argmax(-1)

    @tf.function(autograph=False)
    def step(moved: Any, start: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(moved)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, scores(taps([moved])[0])
            )
            loss = tf.reduce_sum(losses)
        moved += entry.radius / 8 * tf.sign(tape.gradient(loss, moved))
        moved = tf.clip_by_value(moved, start - entry.radius, start + entry.radius)
        return tf.clip_by_value(moved, *entry.input_range)

    held = []
    for k in range(0, min(attacked, len(x)), 250):
        start, labels = tf.constant(x[k : k + 250]), tf.constant(y[k : k + 250])
        noise = tf.random.stateless_uniform(start.shape, [1, k], -entry.radius, entry.radius)
        moved = tf.clip_by_value(start + noise, *entry.input_range)
        for _ in range(20):
            moved = step(moved, start, labels)
        held.append(scores(taps([moved])[0]).numpy().argmax(-1) == y[k : k + 250])
    return float((predicted == y).mean()), float(np.concatenate(held).mean())
