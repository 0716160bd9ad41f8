"""What the accuracy benchmarks measure, on the networks of `zoo`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zoo

from keras_robust_prune.evaluation.evaluate import evaluate
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build

DEFAULT = Path(__file__).resolve().parents[3] / "shared"
ZOO = zoo.NETWORKS
# The tables of `robust` hold this network at the radius it was trained for.
RADII = {**{name: network.eps for name, network in ZOO.items()}, "mnist_robust_cnn": 0.1}


def load_data(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real training inputs, test inputs and test labels, as the network takes them."""
    train, _ = zoo.load_data(name, None, "train", folder)
    return train, *zoo.load_data(name, None, "test", folder)


def measured(
    graph: Graph, name: str, x: np.ndarray, y: np.ndarray, attacked: int = 500
) -> tuple[float, float]:
    """Accuracy on all inputs and under PGD-20 on the logits for the first `attacked` of them."""
    model, input_range = build(graph), ZOO[name].input_range
    attack = f"pgd@{RADII[name]}"
    found = evaluate(model, x[:attacked], y[:attacked], attacks=[attack], input_range=input_range)
    return evaluate(model, x, y, input_range=input_range).accuracy, found[attack]
