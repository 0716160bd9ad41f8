"""What lies around inputs: moved at random, or against the network, within a radius of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.synthesis.probe import ActivationProbe, scores

_REACH = 7.0  # by how many logits the radius moves a margin, to first order
_WIDEST = 0.1  # the largest radius, as a share of the input range


def margin_gradients(
    probe: ActivationProbe, inputs: Sequence[np.ndarray], spaces: Sequence[InputSpec]
) -> list[np.ndarray]:
    """Gradients of the margin between the two best classes, one array per network input.

    Tokens have none: zeros stand for them.
    """
    tf = backends.tensorflow()
    parts = []
    size = probe.batch_size()
    for k in range(0, len(inputs[0]), size):
        tensors = [tf.constant(x[k : k + size]) for x in inputs]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tensors)
            margin = 0.0
            for logits in probe(tensors):
                best = tf.math.top_k(scores(logits), 2).values
                margin += best[:, 0] - best[:, 1]
        found = tape.gradient(margin, tensors)
        parts.append(
            [
                np.zeros(x.shape, "float32") if g is None or space.num_tokens else np.asarray(g)
                for x, g, space in zip(tensors, found, spaces, strict=True)
            ]
        )
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def radius(
    probe: ActivationProbe, inputs: Sequence[np.ndarray], spaces: Sequence[InputSpec]
) -> float:
    """The l-inf radius, as a share of the input range, that moves a typical margin by 7 logits.

    Data-free: the median over the inputs of the margin's gradient, in l1 norm. Networks with steep
    logits get small radii; none is larger than a tenth.
    """
    slopes = np.zeros(len(inputs[0]))
    for gradient, space in zip(margin_gradients(probe, inputs, spaces), spaces, strict=True):
        slope = np.abs(gradient) * (space.upper - space.lower)
        slopes += slope.reshape(len(slope), -1).sum(1)
    typical = float(np.median(slopes))
    return min(_REACH / typical, _WIDEST) if typical > 0 else 0.0
