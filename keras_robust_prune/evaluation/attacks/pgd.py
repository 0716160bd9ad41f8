"""PGD: projected gradient ascent from a random point of the ball."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.attacks.ascent import Ascent, Extra, search
from keras_robust_prune.evaluation.attacks.registry import AttackKind
from keras_robust_prune.evaluation.attacks.threat import Threat
from keras_robust_prune.evaluation.classifier import Classifier


def pgd(
    classifier: Classifier,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Steps of 2.5 radii in all, from a random point.

    Reference:
        [Madry et al., 2018](https://arxiv.org/abs/1706.06083). They keep the last point; here the worst is kept.
    """
    start, size = threat.sample(x, rng), 2.5 * threat.eps / steps
    return ascend(classifier, x, start, labels, threat, steps=steps, step_size=size)


PGD = AttackKind("pgd", pgd, steps=20)


def ascend(
    classifier: Classifier,
    x: np.ndarray,
    start: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    step_size: float,
) -> np.ndarray:
    """Projected gradient ascent from `start`; of the points on the way the one with the largest margin.

    Args:
        classifier: what is attacked.
        x: inputs, `(num_inputs, num_features)`.
        start: where to start, in the ball around `x`, same shape.
        labels: right classes, `(num_inputs,)`.
        threat: the ball.
        steps: how many steps, each with one gradient.
        step_size: length of a step in units of the threat.

    Returns:
        Points of the ball, same shape as `x`.
    """
    extra: dict[str, Extra] = {
        "steps": ([], "int32", np.int32(steps)),
        "step_size": ([], "float32", np.float32(step_size)),
    }
    return search(classifier, "ce", _body, x, start, labels, threat, extra)


def _body(ascent: Ascent) -> Callable[..., Any]:
    tf = backends.tensorflow()

    def run(x: Any, start: Any, ball: Any, steps: Any, step_size: Any) -> Any:
        def step(k: Any, point: Any, best: Any, largest: Any) -> tuple[Any, ...]:
            _, margin, gradient = ascent.loss_and_gradient(point, ball)
            best = tf.where((margin > largest)[:, tf.newaxis], point, best)
            moved = point + step_size * ascent.direction(gradient)
            return k + 1, ascent.project(x, moved, ball), best, tf.maximum(margin, largest)

        largest = tf.fill([tf.shape(x)[0]], tf.constant(-np.inf, tf.float32))
        first = (tf.constant(0), start, start, largest)
        _, point, best, largest = tf.while_loop(lambda k, *_: k < steps, step, first)
        margin = ascent.margin(point, ball)
        return tf.where((margin > largest)[:, tf.newaxis], point, best)

    return run
