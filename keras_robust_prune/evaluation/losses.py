"""What attacks raise: functions of logits that grow as a wrong class comes closer."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_robust_prune import backends


def wrong_log_odds(logits: Any, labels: Any, targets: Any = None) -> Any:
    """Log-odds of a wrong class, `(num_inputs,)`: log sum exp of the other logits minus the right one.

    Cross-entropy is its softplus: both rise in the same direction, but this one does not saturate where the network is
    sure of itself.
    """
    tf = backends.tensorflow()
    return tf.reduce_logsumexp(_others(logits, labels), 1) - _at(logits, labels)


def logits_ratio(logits: Any, labels: Any, targets: Any = None) -> Any:
    """Difference-of-logits ratio (DLR), `(num_inputs,)`: blind to the scale of the logits; from 3 classes on."""
    ranked = backends.tensorflow().math.top_k(logits, 3).values
    return margin(logits, labels) / (ranked[:, 0] - ranked[:, 2] + 1e-12)


def targeted_ratio(logits: Any, labels: Any, targets: Any) -> Any:
    """DLR towards one class, `(num_inputs,)`; from 4 classes on."""
    ranked = backends.tensorflow().math.top_k(logits, 4).values
    spread = ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2
    return (_at(logits, targets) - _at(logits, labels)) / (spread + 1e-12)


def margin(logits: Any, labels: Any) -> Any:
    """Best wrong logit minus the right one, `(num_inputs,)`: above 0 the input is misclassified."""
    return backends.tensorflow().reduce_max(_others(logits, labels), 1) - _at(logits, labels)


LOSSES = {"ce": wrong_log_odds, "dlr": logits_ratio, "dlr-targeted": targeted_ratio}


def _at(logits: Any, labels: Any) -> Any:
    return backends.tensorflow().gather(logits, labels, batch_dims=1)


def _others(logits: Any, labels: Any) -> Any:
    """The logits with the right one at minus infinity."""
    tf = backends.tensorflow()
    right = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False)
    return tf.where(right, tf.constant(-np.inf, logits.dtype), logits)
