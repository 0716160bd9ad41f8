"""Our attacks beside those of the adversarial-robustness-toolbox, on real networks at mid-range radii.

    pip install -e '.[test]'
    python -m tests.benchmarks attacks_vs_art [--networks=mnist_mlp,...] [--num=200]

Robust accuracy (an input counts if it is right, and right after the attack), the same inputs and settings for both.
Ours keep the worst point on the way, ART's PGD the last one; and where a network is so sure of itself that the gradient
of its cross-entropy is 0 in float32, ART's FGSM stands still and ours does not. So ours may be lower. The table ends
with where ours are more than two points weaker, or noise is stronger than PGD.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# ART asks for the losses of Keras 2.
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
from absl import flags

from keras_robust_prune import backends
from keras_robust_prune.evaluation.attacks import Attack
from keras_robust_prune.evaluation.evaluate import evaluate
from tests.benchmarks.benchmark import Benchmark, Row
from tests.benchmarks.zoo import NETWORKS, load_data, load_model

CHOSEN = flags.DEFINE_list("networks", list(NETWORKS), "Which networks.")
NUM = flags.DEFINE_integer("num", 200, "How many inputs.")
ATTACKS = flags.DEFINE_list(
    "attacks", ["fgsm", "pgd", "apgd", "apgd-dlr", "square"], "Which; ART's Auto-PGD takes minutes."
)
QUERIES = flags.DEFINE_integer("queries", 200, "Queries of the Square attack.")
TOLERANCE = 0.02


def classifier(name: str, num_classes: int) -> Any:
    """ART's view of a network: its logits, found by taking the last activation away by hand."""
    from art.estimators.classification import TensorFlowV2Classifier

    keras, tf = backends.tf_keras(), backends.tensorflow()
    model = load_model(name)
    if isinstance(model.layers[-1], keras.layers.Softmax):
        model = keras.Model(model.input, model.layers[-2].output)
    else:
        model.layers[-1].activation = keras.activations.linear

    def logits(x: Any, training: bool = False) -> Any:
        value = model(x, training=training)
        return value if value.shape[1] > 1 else tf.concat([-value / 2, value / 2], 1)

    return TensorFlowV2Classifier(
        model=logits,
        nb_classes=num_classes,
        input_shape=model.input_shape[1:],
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=NETWORKS[name].input_range,
    )


def twins(eps: float, shape: tuple[int, ...], num_classes: int) -> dict[str, Callable[..., Any]]:
    """For each of our attacks ART's with the same settings."""
    from art.attacks import evasion

    common: dict[str, Any] = {"eps": eps, "batch_size": 100}
    quiet = {**common, "verbose": False}
    found: dict[str, Callable[..., Any]] = {
        f"fgsm@{eps}": lambda net: evasion.FastGradientMethod(net, **common),
        f"pgd@{eps}": lambda net: evasion.ProjectedGradientDescent(
            net, eps_step=2.5 * eps / 20, max_iter=20, num_random_init=1, **quiet
        ),
        f"apgd-50@{eps}": lambda net: evasion.AutoProjectedGradientDescent(
            net, eps_step=2 * eps, max_iter=50, nb_random_init=1, loss_type=None, **quiet
        ),
    }
    if num_classes > 2:
        found[f"apgd-dlr-50@{eps}"] = lambda net: evasion.AutoProjectedGradientDescent(
            net, eps_step=2 * eps, max_iter=50, nb_random_init=1,
            loss_type="difference_logits_ratio", **quiet,
        )  # fmt: skip
    if len(shape) == 3:
        found[f"square-{QUERIES.value}@{eps}"] = lambda net: evasion.SquareAttack(
            net, max_iter=QUERIES.value, nb_restarts=1, p_init=0.8, **quiet
        )
    wanted = {Attack.parse(text).name: text for text in found}
    return {wanted[name]: found[wanted[name]] for name in ATTACKS.value if name in wanted}


def measure(network: str) -> Iterator[dict[str, Any]]:
    """One row for each attack on one network."""
    x, y = load_data(network, NUM.value)
    num_classes = (
        2 if load_model(network).output_shape[1] == 1 else load_model(network).output_shape[1]
    )
    settings = NETWORKS[network]
    pairs = twins(settings.eps, x.shape[1:], num_classes)
    noise = f"noise@{settings.eps:.6g}"
    ours = evaluate(
        load_model(network), x, y, attacks=[*pairs, noise], input_range=settings.input_range
    )
    art = classifier(network, num_classes)
    one_hot = np.eye(num_classes, dtype=np.float32)[y]
    right = ours.find("clean").holds
    for text, make in pairs.items():
        np.random.seed(0)  # noqa: NPY002 (ART draws from the global generator)
        begin = time.perf_counter()
        moved = make(art).generate(x[right], one_hot[right])
        seconds = time.perf_counter() - begin
        robust = float((art.predict(moved).argmax(1) == y[right]).sum() / len(y))
        mine = ours.find(text)
        yield {
            "attack": text,
            "clean": ours.accuracy,
            "ours": mine.value,
            "ART": robust,
            "difference": mine.value - robust,
            "seconds": mine.seconds,
            "ART's seconds": seconds,
        }
    yield {"attack": noise, "clean": ours.accuracy, "ours": ours[noise]}
    for warning in ours.warnings:
        print(network, warning)


def faults(rows: list[Row], _: Path) -> str:
    """Where ours are weaker than they should be."""
    found = [
        f"{row['network']}: {row['attack']} is {float(row['difference']):.3f} weaker than ART's"
        for row in rows
        if float(row.get("difference") or 0) > TOLERANCE
    ]
    for name in dict.fromkeys(row["network"] for row in rows):
        shares = {
            row["attack"].split("@")[0]: float(row["ours"])
            for row in rows
            if row["network"] == name
        }
        if shares.get("pgd", 0.0) > shares["noise"]:
            found.append(f"{name}: noise breaks more than PGD")
    return "\n".join(found) or "Nowhere are ours more than two points weaker."


BENCHMARK = Benchmark(
    cases=lambda: ({"network": name} for name in CHOSEN.value),
    measure=measure,
    quick={"networks": ["credit_mlp"], "num": 40, "attacks": ["fgsm", "pgd"]},
    chart=("ours", "ART"),
    afterwards=faults,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
