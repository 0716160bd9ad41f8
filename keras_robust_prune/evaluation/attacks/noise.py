"""Noise: the worst of some random points, what every attack has to beat."""

from __future__ import annotations

import numpy as np

from keras_robust_prune.evaluation.attacks.registry import AttackKind
from keras_robust_prune.evaluation.attacks.threat import Threat
from keras_robust_prune.evaluation.attacks.worst import Worst
from keras_robust_prune.evaluation.classifier import Classifier


def noise(
    classifier: Classifier,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """The worst of `steps` points of the ball, each as likely as the next."""
    worst = Worst(classifier, x, labels)
    for _ in range(steps):
        holding = worst.holding
        if not holding.size:
            break
        worst.offer(holding, threat.sample(x[holding], rng))
    return worst.points


NOISE = AttackKind("noise", noise, steps=20, needs_gradients=False)
