"""Attacks that follow the gradient: FGSM and PGD, compiled.

The loss is `log sum exp of the other logits - the right logit`, the log-odds of a wrong class. Cross-entropy is its
softplus, so both have the same direction of ascent, but this one does not saturate where the network is sure of itself.
Points are kept in units of the threat's `scale`, so steps and projections know only a radius.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.subjects import Scorer
from keras_robust_prune.evaluation.threat import Threat


def wrong_log_odds(logits: Any, labels: Any) -> Any:
    """Log-odds of a wrong class, `(num_inputs,)`: what an attack raises."""
    tf = backends.tensorflow()
    right = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False)
    others = tf.where(right, tf.constant(-np.inf, logits.dtype), logits)
    return tf.reduce_logsumexp(others, 1) - tf.gather(logits, labels, batch_dims=1)


def logits_ratio(logits: Any, labels: Any) -> Any:
    """Difference-of-logits ratio (DLR), `(num_inputs,)`: blind to the scale of the logits; from 3 classes on."""
    tf = backends.tensorflow()
    ranked = tf.math.top_k(logits, 3).values
    return margin(logits, labels) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def margin(logits: Any, labels: Any) -> Any:
    """Best wrong logit minus the right one, `(num_inputs,)`: above 0 the input is misclassified."""
    tf = backends.tensorflow()
    right = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False)
    others = tf.where(right, tf.constant(-np.inf, logits.dtype), logits)
    return tf.reduce_max(others, 1) - tf.gather(logits, labels, batch_dims=1)


LOSSES = {"ce": wrong_log_odds, "dlr": logits_ratio}


class Climb:
    """Loss, margin, gradient, steps and projections in units of a threat's scale, as tensors.

    Args:
        scorer: the function that is attacked.
        loss: a key of `LOSSES`.
        norm: a norm of `NORMS`.
    """

    def __init__(self, scorer: Scorer, loss: str, norm: str) -> None:
        self._scorer, self._loss, self._norm = scorer, LOSSES[loss], norm

    def look(self, point: Any, labels: Any, scale: Any) -> tuple[Any, Any, Any]:
        """Loss and margin `(num_inputs,)` and the loss's gradient at `point`."""
        tf = backends.tensorflow()
        with tf.GradientTape() as tape:
            tape.watch(point)
            logits = self._scorer.tensor(point * scale)
            loss = self._loss(logits, labels)
        gradient = tape.gradient(loss, point, unconnected_gradients="zero")
        return loss, margin(logits, labels), gradient

    def margin(self, point: Any, labels: Any, scale: Any) -> Any:
        """Margin `(num_inputs,)` at `point`."""
        return margin(self._scorer.tensor(point * scale), labels)

    def direction(self, gradient: Any) -> Any:
        """The longest way up within radius 1."""
        tf = backends.tensorflow()
        if self._norm == "linf":
            return tf.sign(gradient)
        # Divided by the largest entry first: squares of tiny gradients are 0 in float32.
        gradient = gradient / (tf.reduce_max(tf.abs(gradient), 1, keepdims=True) + 1e-37)
        return gradient / (tf.norm(gradient, axis=1, keepdims=True) + 1e-12)

    def project(self, x: Any, point: Any, eps: Any, lower: Any, upper: Any) -> Any:
        """`point` brought back into the ball around `x` and the range."""
        tf = backends.tensorflow()
        shift = point - x
        if self._norm == "linf":
            shift = tf.clip_by_value(shift, -eps, eps)
        else:
            length = tf.norm(shift, axis=1, keepdims=True)
            shift *= tf.minimum(1.0, eps / tf.maximum(length, 1e-30))
        return tf.clip_by_value(x + shift, lower, upper)


def pgd(
    scorer: Scorer,
    x: np.ndarray,
    start: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *,
    steps: int,
    step_size: float,
) -> np.ndarray:
    """Projected gradient ascent from `start`; of the points on the way the one with the largest margin.

    One step of size `eps` from `x` itself is FGSM.

    Args:
        scorer: the function that is attacked.
        x: inputs, `(num_inputs, num_features)`.
        start: where to start, in the ball around `x`, same shape.
        labels: right classes, `(num_inputs,)`.
        threat: the ball.
        steps: how many steps, each with one gradient.
        step_size: length of a step in units of the threat.

    Returns:
        Points of the ball, same shape as `x`.

    Reference:
        [Madry et al., 2018](https://arxiv.org/abs/1706.06083), who keep the last point; we keep the best.
    """
    numbers: dict[str, tuple[list[int | None], str]] = {
        "steps": ([], "int32"),
        "step_size": ([], "float32"),
    }
    run = compiled(scorer, "ce", threat.norm, _pgd_body, numbers)
    return search(scorer, run, x, start, labels, threat, np.int32(steps), np.float32(step_size))


def compiled(
    scorer: Scorer,
    loss: str,
    norm: str,
    body: Callable[[Climb], Callable[..., Any]],
    extra: Mapping[str, tuple[list[int | None], str]],
) -> Any:
    """The attack's graph function, made once for each scorer, loss and norm.

    Args:
        scorer: what is attacked.
        loss: a key of `LOSSES`.
        norm: a norm of `NORMS`.
        body: makes the function from a `Climb`; its arguments are those of `over_batches` and then `extra`.
        extra: shape and type of its further arguments.
    """
    key = (body.__name__, loss, norm)
    if key not in scorer.compiled:
        tf = backends.tensorflow()
        width = scorer.subject.layout.num_features
        rows, row = tf.TensorSpec([None, width], tf.float32), tf.TensorSpec([width], tf.float32)
        signature = [rows, rows, tf.TensorSpec([None], tf.int32), row, row, row]
        signature.append(tf.TensorSpec([], tf.float32))
        signature += [tf.TensorSpec(shape, dtype) for shape, dtype in extra.values()]
        function = tf.function(
            body(Climb(scorer, loss, norm)), input_signature=signature, autograph=False
        )
        scorer.compiled[key] = function.get_concrete_function()
    return scorer.compiled[key]


def search(
    scorer: Scorer,
    run: Callable[..., Any],
    x: np.ndarray,
    start: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *extra: Any,
) -> np.ndarray:
    """The points that a compiled attack finds, in the inputs' own unit and within the ball."""
    if not len(x):
        return x.copy()
    return threat.clip(
        x, over_batches(scorer, run, x, start, labels, threat, *extra) * threat.scale
    )


def over_batches(
    scorer: Scorer,
    run: Callable[..., Any],
    x: np.ndarray,
    start: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    *extra: Any,
) -> np.ndarray:
    """Runs a compiled function batch by batch, in the threat's units, on at least one input."""
    tf = backends.tensorflow()
    scale = threat.scale
    fixed = [
        tf.constant(row, tf.float32) for row in (threat.lower / scale, threat.upper / scale, scale)
    ]
    fixed.append(tf.constant(threat.eps, tf.float32))
    found = []
    for begin in range(0, len(x), scorer.batch_size):
        part = slice(begin, begin + scorer.batch_size)
        batch = [tf.constant(rows[part] / scale, tf.float32) for rows in (x, start)]
        moved = run(*batch, tf.constant(labels[part], tf.int32), *fixed, *map(tf.constant, extra))
        found.append(moved.numpy())
    return np.concatenate(found)


def _pgd_body(climb: Climb) -> Callable[..., Any]:
    tf = backends.tensorflow()

    def run(
        x: Any,
        start: Any,
        labels: Any,
        lower: Any,
        upper: Any,
        scale: Any,
        eps: Any,
        steps: Any,
        step_size: Any,
    ) -> Any:
        def step(k: Any, point: Any, best: Any, highest: Any) -> tuple[Any, ...]:
            _, height, gradient = climb.look(point, labels, scale)
            best = tf.where((height > highest)[:, tf.newaxis], point, best)
            moved = point + step_size * climb.direction(gradient)
            return (
                k + 1,
                climb.project(x, moved, eps, lower, upper),
                best,
                tf.maximum(height, highest),
            )

        highest = tf.fill([tf.shape(x)[0]], tf.constant(-np.inf, tf.float32))
        first = (tf.constant(0), start, start, highest)
        _, point, best, highest = tf.while_loop(lambda k, *_: k < steps, step, first)
        height = climb.margin(point, labels, scale)
        return tf.where((height > highest)[:, tf.newaxis], point, best)

    return run


def gradient_sizes(scorer: Scorer, x: np.ndarray, labels: np.ndarray, threat: Threat) -> np.ndarray:
    """Largest entry of the loss's gradient at each input, `(num_inputs,)`, in units of the threat."""
    run = compiled(scorer, "ce", threat.norm, _gradient_body, {})
    return over_batches(scorer, run, x, x, labels, threat)


def _gradient_body(climb: Climb) -> Callable[..., Any]:
    tf = backends.tensorflow()

    def run(x: Any, start: Any, labels: Any, lower: Any, upper: Any, scale: Any, eps: Any) -> Any:
        return tf.reduce_max(tf.abs(climb.look(x, labels, scale)[2]), 1)

    return run
