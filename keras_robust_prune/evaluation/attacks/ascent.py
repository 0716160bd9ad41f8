"""Gradient ascent within a ball, compiled: what FGSM, PGD and Auto-PGD share.

Points are kept in units of the threat's `scale`, so steps and projections know only a radius.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.attacks.threat import Threat
from keras_robust_prune.evaluation.classifier import Classifier
from keras_robust_prune.evaluation.losses import LOSSES, margin
from keras_robust_prune.keras_io.compiling import gradients
from keras_robust_prune.reporting.progress import Progress

# Shape, type and value of a further argument of a compiled attack.
Extra = tuple[list[int | None], str, Any]


class Ball(NamedTuple):
    """What holds for a batch while it is attacked, as tensors.

    Attributes:
        labels: right classes, `(num_inputs,)`.
        targets: classes that a targeted loss leads to, `(num_inputs,)`.
        lower: least valid value of each feature, in units of `scale`.
        upper: greatest.
        scale: the unit of distance of each feature.
        eps: the radius.
    """

    labels: Any
    targets: Any
    lower: Any
    upper: Any
    scale: Any
    eps: Any


class Ascent:
    """Loss, margin, gradient, steps and projections in units of a threat's scale, as tensors.

    Args:
        classifier: what is attacked.
        loss: a key of `LOSSES`.
        norm: a norm of `NORMS`.
    """

    def __init__(self, classifier: Classifier, loss: str, norm: str) -> None:
        self._classifier, self._loss, self._norm = classifier, LOSSES[loss], norm

    def loss_and_gradient(self, point: Any, ball: Ball) -> tuple[Any, Any, Any]:
        """Loss and margin `(num_inputs,)` and the loss's gradient at `point`."""
        logits = self._classifier.tensor(point * ball.scale)
        loss = self._loss(logits, ball.labels, ball.targets)
        return loss, margin(logits, ball.labels), gradients(loss, [point])[0]

    def margin(self, point: Any, ball: Ball) -> Any:
        """Margin `(num_inputs,)` at `point`."""
        return margin(self._classifier.tensor(point * ball.scale), ball.labels)

    def direction(self, gradient: Any) -> Any:
        """The longest way up within radius 1."""
        tf = backends.tensorflow()
        if self._norm == "linf":
            return tf.sign(gradient)
        # Divided by the largest entry first: squares of tiny gradients are 0 in float32.
        gradient = gradient / (tf.reduce_max(tf.abs(gradient), 1, keepdims=True) + 1e-37)
        return gradient / (tf.norm(gradient, axis=1, keepdims=True) + 1e-12)

    def project(self, x: Any, point: Any, ball: Ball) -> Any:
        """`point` brought back into the ball around `x` and the range."""
        tf = backends.tensorflow()
        shift = point - x
        if self._norm == "linf":
            shift = tf.clip_by_value(shift, -ball.eps, ball.eps)
        else:
            length = tf.norm(shift, axis=1, keepdims=True)
            shift *= tf.minimum(1.0, ball.eps / tf.maximum(length, 1e-30))
        return tf.clip_by_value(x + shift, ball.lower, ball.upper)


def search(
    classifier: Classifier,
    loss: str,
    body: Callable[[Ascent], Callable[..., Any]],
    x: np.ndarray,
    start: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    extra: Mapping[str, Extra],
    targets: np.ndarray | None = None,
) -> np.ndarray:
    """The points that a compiled attack finds batch by batch, in the inputs' own unit and within the ball.

    Args:
        classifier: what is attacked.
        loss: a key of `LOSSES`.
        body: makes the function from an `Ascent`; it takes `x`, `start`, a `Ball` and then `extra`.
        x: inputs, `(num_inputs, num_features)`.
        start: where to start, in the ball around `x`, same shape.
        labels: right classes, `(num_inputs,)`.
        threat: the ball.
        extra: further arguments by name.
        targets: classes that a targeted loss leads to, `(num_inputs,)`.
    """
    if not len(x):
        return x.copy()
    tf = backends.tensorflow()
    run = _compiled(classifier, loss, threat.norm, body, extra)
    scale = threat.scale
    limits = [
        tf.constant(row, tf.float32) for row in (threat.lower / scale, threat.upper / scale, scale)
    ]
    limits.append(tf.constant(threat.eps, tf.float32))
    values = [tf.constant(value, dtype) for _, dtype, value in extra.values()]
    found = []
    for begin in Progress.over("attack", range(0, len(x), classifier.batch_size)):
        part = slice(begin, begin + classifier.batch_size)
        batch = [tf.constant(rows[part] / scale, tf.float32) for rows in (x, start)]
        classes = [
            tf.constant(given[part], tf.int32)
            for given in (labels, labels if targets is None else targets)
        ]
        found.append(run(*batch, *classes, *limits, *values).numpy())
    return threat.clip(x, np.concatenate(found) * scale)


def _compiled(
    classifier: Classifier,
    loss: str,
    norm: str,
    body: Callable[[Ascent], Callable[..., Any]],
    extra: Mapping[str, Extra],
) -> Any:
    """The attack's graph function, made once for each classifier, loss and norm."""
    key = (body, loss, norm)
    if key not in classifier.compiled:
        tf = backends.tensorflow()
        width = classifier.adapter.layout.num_features
        rows, row = tf.TensorSpec([None, width], tf.float32), tf.TensorSpec([width], tf.float32)
        classes, number = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.float32)
        signature = [rows, rows, classes, classes, row, row, row, number]
        signature += [tf.TensorSpec(shape, dtype) for shape, dtype, _ in extra.values()]
        run = body(Ascent(classifier, loss, norm))

        def flat(x: Any, start: Any, *rest: Any) -> Any:
            return run(x, start, Ball(*rest[:6]), *rest[6:])

        classifier.compiled[key] = classifier.by_rows(flat, signature, 4)
    return classifier.compiled[key]
