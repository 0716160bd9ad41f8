"""FGSM: one step along the gradient's sign."""

from __future__ import annotations

import numpy as np

from keras_robust_prune.evaluation.attacks.pgd import ascend
from keras_robust_prune.evaluation.attacks.registry import AttackKind
from keras_robust_prune.evaluation.attacks.threat import Threat
from keras_robust_prune.evaluation.classifier import Classifier


def fgsm(
    classifier: Classifier,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """One step of the whole radius from the input itself; nothing is drawn.

    Reference:
        [Goodfellow et al., 2015](https://arxiv.org/abs/1412.6572).
    """
    return ascend(classifier, x, x, labels, threat, steps=steps, step_size=threat.eps)


FGSM = AttackKind("fgsm", fgsm, steps=1)
