"""Do the gradients tell the truth? An attack that follows them is no evidence where they do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_robust_prune.evaluation.attacks import Attack
from keras_robust_prune.evaluation.attacks.threat import Threat
from keras_robust_prune.evaluation.classifier import Classifier

# A share of the inputs, and a number of them, above which something is no accident.
SHARE = 0.02
NUMBER = 3
# Gradient-free attacks that are tried on some inputs which gradient attacks did not break.
PROBES = ("noise-20", "square-100")
NUM_PROBED = 100


def flat_gradients(classifier: Classifier, x: np.ndarray, labels: np.ndarray) -> str:
    """A warning if gradients are 0 (or no numbers) at rightly classified inputs; else an empty text."""
    if not len(x):
        return ""
    sizes = np.abs(classifier.gradient(x, labels)).max(1)
    flat = int((~(np.isfinite(sizes) & (sizes > 0))).sum())
    if not _suspicious(flat, len(x)):
        return ""
    return (
        f"{classifier.head.name!r}: gradients are masked: the loss is flat at {flat:,} of {len(x):,}"
        " inputs, where its gradient is 0 or no number. Attacks that follow gradients prove nothing"
        " there; rely on 'square' and 'noise'."
    )


def weaker_than(
    classifier: Classifier,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    broken_by: Sequence[tuple[Attack, np.ndarray]],
    strong: Sequence[Attack],
    seed: int,
) -> str:
    """A warning if simpler attacks break what attacks of many gradient steps leave; else an empty text.

    Args:
        classifier: what was attacked.
        x: inputs that every one of `strong` left right, `(num_left, num_features)`.
        labels: their classes.
        threat: the ball.
        broken_by: simpler attacks that were run on the same ball, and which of `x` they broke.
        strong: the attacks of many gradient steps.
        seed: of the probes.
    """
    if not len(x):
        return ""
    names = " and ".join(map(str, strong))
    for attack, broken in broken_by:
        if _suspicious(int(broken.sum()), len(x)):
            return _weaker(classifier, names, str(attack), int(broken.sum()), len(x))
    chosen = np.random.default_rng(seed).permutation(len(x))[:NUM_PROBED]
    for probe in PROBES:
        if threat.norm != "linf" and probe.startswith("square"):
            continue
        attack = Attack.parse(f"{probe}@{threat.eps}:{threat.norm}")
        moved = attack.run(classifier, x[chosen], labels[chosen], threat, seed=seed)
        broken = classifier.predict(moved) != labels[chosen]
        if _suspicious(int(broken.sum()), len(chosen)):
            return _weaker(classifier, names, str(attack), int(broken.sum()), len(chosen))
    return ""


def _suspicious(count: int, total: int) -> bool:
    return count >= NUMBER and count > SHARE * total


def _weaker(classifier: Classifier, strong: str, simple: str, count: int, total: int) -> str:
    return (
        f"{classifier.head.name!r}: gradients are masked: {simple} breaks {count:,} of {total:,} inputs"
        f" that {strong} left. Attacks that follow gradients prove little here; rely on 'square'"
        " and 'noise'."
    )
