"""Auto-PGD: gradient ascent with momentum that halves its own step when it stops ascending."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.attacks.ascent import Ascent, Extra, search
from keras_robust_prune.evaluation.attacks.registry import AttackKind
from keras_robust_prune.evaluation.attacks.threat import Threat
from keras_robust_prune.evaluation.attacks.worst import Worst
from keras_robust_prune.evaluation.classifier import Classifier

MOMENTUM = 0.75
RHO = 0.75
NUM_TARGETS = 9


def checkpoints(steps: int) -> np.ndarray:
    """After which steps the step size is reconsidered, ascending.

    Example:
        >>> checkpoints(100).tolist()
        [22, 41, 57, 70, 80, 87, 93, 99]
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1.0:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return np.unique([math.ceil(round(share * steps, 9)) for share in shares[1:] if share < 1.0])


def apgd(
    classifier: Classifier,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Auto-PGD on cross-entropy from a random point."""
    return auto_ascend(classifier, x, threat.sample(x, rng), labels, threat, steps=steps, loss="ce")


def apgd_dlr(
    classifier: Classifier,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Auto-PGD on the difference-of-logits ratio from a random point."""
    return auto_ascend(
        classifier, x, threat.sample(x, rng), labels, threat, steps=steps, loss="dlr"
    )


def apgd_targeted(
    classifier: Classifier,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Auto-PGD on the targeted ratio, towards each of the nine likeliest wrong classes in turn while an input holds."""
    logits = classifier.logits(x)
    logits[np.arange(len(x)), labels] = -np.inf
    ranked = np.argsort(-logits, axis=1, kind="stable")
    worst = Worst(classifier, x, labels)
    for rank in range(min(NUM_TARGETS, logits.shape[1] - 1)):
        holding = worst.holding
        if not holding.size:
            break
        part, classes, targets = x[holding], labels[holding], ranked[holding, rank]
        start = threat.sample(part, rng)
        moved = auto_ascend(
            classifier, part, start, classes, threat,
            steps=steps, loss="dlr-targeted", targets=targets,
        )  # fmt: skip
        worst.offer(holding, moved)
    return worst.points


APGD = AttackKind("apgd", apgd, steps=100)
APGD_DLR = AttackKind("apgd-dlr", apgd_dlr, steps=100, min_classes=3)
APGD_TARGETED = AttackKind("apgd-t", apgd_targeted, steps=100, min_classes=4)


def auto_ascend(
    classifier: Classifier,
    x: np.ndarray,
    start: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    loss: str,
    targets: np.ndarray | None = None,
) -> np.ndarray:
    """Auto-PGD from `start`; of the points on the way the one with the largest margin.

    Args:
        classifier: what is attacked.
        x: inputs, `(num_inputs, num_features)`.
        start: where to start, in the ball around `x`, same shape.
        labels: right classes, `(num_inputs,)`.
        threat: the ball.
        steps: how many steps, each with one gradient.
        loss: `"ce"`, `"dlr"` or `"dlr-targeted"`.
        targets: classes that `"dlr-targeted"` leads to, `(num_inputs,)`.

    Returns:
        Points of the ball, same shape as `x`.

    Reference:
        [Croce & Hein, 2020](https://arxiv.org/abs/2003.01690). Their cross-entropy is our log-odds, which ascends in
        the same direction but does not saturate.
    """
    points = checkpoints(steps)
    spans = np.zeros(steps + 1, np.int32)
    spans[points] = np.diff(np.concatenate([[0], points]))
    extra: dict[str, Extra] = {"spans": ([None], "int32", spans)}
    return search(classifier, loss, _body, x, start, labels, threat, extra, targets)


class _State(NamedTuple):
    """Where every input stands; tensors whose first axis is the inputs'."""

    point: Any
    before: Any
    loss: Any
    gradient: Any
    best: Any
    best_loss: Any
    best_gradient: Any
    worst: Any
    largest: Any
    size: Any
    rises: Any
    was_halved: Any
    loss_then: Any


def _body(ascent: Ascent) -> Callable[..., Any]:
    tf = backends.tensorflow()

    def run(x: Any, start: Any, ball: Any, spans: Any) -> Any:
        def step(k: Any, now: _State) -> tuple[Any, _State]:
            ahead = now.point + now.size[:, tf.newaxis] * ascent.direction(now.gradient)
            ahead = ascent.project(x, ahead, ball)
            share = tf.where(k > 1, MOMENTUM, 1.0)
            ahead = (
                now.point + share * (ahead - now.point) + (1.0 - share) * (now.point - now.before)
            )
            point = ascent.project(x, ahead, ball)
            loss, margin, gradient = ascent.loss_and_gradient(point, ball)
            return k + 1, _halved(_moved(now, point, loss, margin, gradient), spans[k])

        loss, margin, gradient = ascent.loss_and_gradient(start, ball)
        first = _State(
            point=start, before=start, loss=loss, gradient=gradient,
            best=start, best_loss=loss, best_gradient=gradient,
            worst=start, largest=margin,
            size=tf.fill(tf.shape(loss), 2.0 * ball.eps),
            rises=tf.zeros_like(loss), was_halved=tf.ones_like(loss, tf.bool), loss_then=loss,
        )  # fmt: skip
        _, last = tf.while_loop(lambda k, _: k < tf.shape(spans)[0], step, (tf.constant(1), first))
        return last.worst

    return run


def _moved(now: _State, point: Any, loss: Any, margin: Any, gradient: Any) -> _State:
    """The state after a step to `point`."""
    tf = backends.tensorflow()
    better = loss > now.best_loss
    return now._replace(
        point=point,
        before=now.point,
        loss=loss,
        gradient=gradient,
        best=_pick(better, point, now.best),
        best_loss=tf.maximum(loss, now.best_loss),
        best_gradient=_pick(better, gradient, now.best_gradient),
        worst=_pick(margin > now.largest, point, now.worst),
        largest=tf.maximum(margin, now.largest),
        rises=now.rises + tf.cast(loss > now.loss, tf.float32),
    )


def _halved(now: _State, span: Any) -> _State:
    """At a checkpoint (`span` steps after the last, else 0): half the step, from the best point, if it has stalled."""
    tf = backends.tensorflow()
    due = span > 0
    oscillates = now.rises < RHO * tf.cast(span, tf.float32)
    stands = ~now.was_halved & (now.best_loss <= now.loss_then)
    halve = due & (oscillates | stands)
    return now._replace(
        point=_pick(halve, now.best, now.point),
        before=_pick(halve, now.best, now.before),
        loss=tf.where(halve, now.best_loss, now.loss),
        gradient=_pick(halve, now.best_gradient, now.gradient),
        size=tf.where(halve, now.size / 2.0, now.size),
        rises=tf.where(due, tf.zeros_like(now.rises), now.rises),
        was_halved=tf.where(due, halve, now.was_halved),
        loss_then=tf.where(due, now.best_loss, now.loss_then),
    )


def _pick(chosen: Any, new: Any, old: Any) -> Any:
    return backends.tensorflow().where(chosen[:, np.newaxis], new, old)
