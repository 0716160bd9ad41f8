"""The ensemble: Auto-PGD on cross-entropy, Auto-PGD towards other classes, and Square, one after the other."""

from __future__ import annotations

import numpy as np

from keras_robust_prune.evaluation.attacks.apgd import APGD, APGD_DLR, APGD_TARGETED
from keras_robust_prune.evaluation.attacks.registry import AttackKind
from keras_robust_prune.evaluation.attacks.square import SQUARE
from keras_robust_prune.evaluation.attacks.threat import Threat
from keras_robust_prune.evaluation.attacks.worst import Worst
from keras_robust_prune.evaluation.classifier import Classifier

# AutoAttack gives Auto-PGD 100 steps and Square 5,000 queries.
QUERIES_PER_STEP = 50


def ensemble(
    classifier: Classifier,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Each member on what those before it left: an input holds only if it holds against all.

    With three classes the logits' ratio is untargeted, with two it is left out. Square takes `50 * steps` queries, and
    part in the l-inf ball alone.

    Reference:
        AutoAttack, [Croce & Hein, 2020](https://arxiv.org/abs/2003.01690), without its FAB, the attack that finds least
        perturbations: figures are not AutoAttack's, and may lie above them.
    """
    members = members_for(classifier.head.num_classes, threat.norm)
    worst = Worst(classifier, x, labels)
    for kind in members:
        holding = worst.holding
        if not holding.size:
            break
        budget = steps if kind.needs_gradients else QUERIES_PER_STEP * steps
        moved = kind.function(
            classifier, x[holding], labels[holding], threat, steps=budget, rng=rng
        )
        worst.offer(holding, moved)
    return worst.points


def members_for(num_classes: int, norm: str) -> tuple[AttackKind, ...]:
    """The attacks of the ensemble against so many classes in a ball of that norm, in order.

    Example:
        >>> [kind.name for kind in members_for(10, "linf")]
        ['apgd', 'apgd-t', 'square']
    """
    ratio = APGD_TARGETED if num_classes >= APGD_TARGETED.min_classes else APGD_DLR
    chosen = (APGD, ratio, SQUARE)
    return tuple(k for k in chosen if num_classes >= k.min_classes and norm in k.norms)


ENSEMBLE = AttackKind("ensemble", ensemble, steps=100)
