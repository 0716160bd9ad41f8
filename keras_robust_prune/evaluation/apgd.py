"""Auto-PGD: gradient ascent with momentum that halves its own step when it stops climbing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.ascent import Climb, compiled, search
from keras_robust_prune.evaluation.subjects import Scorer
from keras_robust_prune.evaluation.threat import Threat

MOMENTUM = 0.75
RHO = 0.75


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
    scorer: Scorer,
    x: np.ndarray,
    start: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    loss: str,
) -> np.ndarray:
    """Auto-PGD from `start`; of the points on the way the one with the largest margin.

    Args:
        scorer: the function that is attacked.
        x: inputs, `(num_inputs, num_features)`.
        start: where to start, in the ball around `x`, same shape.
        labels: right classes, `(num_inputs,)`.
        threat: the ball.
        steps: how many steps, each with one gradient.
        loss: `"ce"` or `"dlr"`.

    Returns:
        Points of the ball, same shape as `x`.

    Reference:
        [Croce & Hein, 2020](https://arxiv.org/abs/2003.01690). Their cross-entropy is our log-odds, which climbs in the
        same direction but does not saturate.
    """
    points = checkpoints(steps)
    spans = np.zeros(steps + 1, np.int32)
    spans[points] = np.diff(np.concatenate([[0], points]))
    run = compiled(scorer, loss, threat.norm, _apgd_body, {"spans": ([None], "int32")})
    return search(scorer, run, x, start, labels, threat, spans)


class _State(NamedTuple):
    """Where every input stands; tensors whose first axis is the inputs'."""

    point: Any
    before: Any
    loss: Any
    gradient: Any
    best: Any
    best_loss: Any
    best_gradient: Any
    found: Any
    highest: Any
    size: Any
    rises: Any
    was_halved: Any
    loss_then: Any


def _apgd_body(climb: Climb) -> Callable[..., Any]:
    tf = backends.tensorflow()

    def run(
        x: Any, start: Any, labels: Any, lower: Any, upper: Any, scale: Any, eps: Any, spans: Any
    ) -> Any:
        def step(k: Any, now: _State) -> tuple[Any, _State]:
            ahead = now.point + now.size[:, tf.newaxis] * climb.direction(now.gradient)
            ahead = climb.project(x, ahead, eps, lower, upper)
            share = tf.where(k > 1, MOMENTUM, 1.0)
            ahead = (
                now.point + share * (ahead - now.point) + (1.0 - share) * (now.point - now.before)
            )
            point = climb.project(x, ahead, eps, lower, upper)
            loss, height, gradient = climb.look(point, labels, scale)
            return k + 1, _halved(_moved(now, point, loss, height, gradient), spans[k])

        loss, height, gradient = climb.look(start, labels, scale)
        size = tf.fill(tf.shape(loss), 2.0 * eps)
        halved = tf.ones_like(loss, tf.bool)
        first = _State(
            start,
            start,
            loss,
            gradient,
            start,
            loss,
            gradient,
            start,
            height,
            size,
            tf.zeros_like(loss),
            halved,
            loss,
        )
        _, last = tf.while_loop(lambda k, _: k < tf.shape(spans)[0], step, (tf.constant(1), first))
        return last.found

    return run


def _moved(now: _State, point: Any, loss: Any, height: Any, gradient: Any) -> _State:
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
        found=_pick(height > now.highest, point, now.found),
        highest=tf.maximum(height, now.highest),
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
