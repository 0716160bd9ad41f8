"""How strongly the outputs answer to an error in a layer: an estimate, on inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_robust_prune.analysis.tapping import Taps, logit_refs
from keras_robust_prune.network import kerases
from keras_robust_prune.network.graph import Graph


def sensitivities(
    graph: Graph, names: Sequence[str], inputs: Sequence[np.ndarray], seed: int = 0
) -> Mapping[str, float]:
    """What an error as large as a layer's own variance would do to the logits, to first order.

    Args:
        graph: the network, activations split off.
        names: layers, by name.
        inputs: one array per network input; the first 256 serve.
        seed: of the directions in which the logits are observed.

    Returns:
        Per layer the sum over its channels of `variance * E[squared gradient]` of a random
        direction of the logits, gradients summed over positions, over the variance of the logits in
        that direction. Higher is more sensitive.
    """
    tf = kerases.tensorflow()
    outputs = logit_refs(graph)
    refs = [node.ref for name in names for node in graph.calls[name]]
    owners = [name for name in names for _ in graph.calls[name]]
    taps = Taps(graph, [*refs, *outputs])
    rng = np.random.default_rng([seed, 5])
    batch = min(taps.batch_size(), 64)
    sums = [0.0] * len(refs)
    rounds = range(0, min(len(inputs[0]), 256), batch)
    for k in rounds:
        part = [tf.constant(x[k : k + batch]) for x in inputs]
        with tf.GradientTape() as tape:
            tape.watch(part)
            tensors = taps(part)
            seen = 0.0
            for logits in tensors[len(refs) :]:
                centred = (logits - tf.reduce_mean(logits, 0)) / (tf.math.reduce_std(logits) + 1e-9)
                signs = rng.choice([-1.0, 1.0], logits.shape[1:]).astype("float32")
                seen += tf.reduce_sum(centred * signs)
        gradients = tape.gradient(seen, tensors[: len(refs)])
        for index, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=False)):
            if gradient is None:
                continue
            axes = list(range(1, len(tensor.shape) - 1))
            inner = tf.reduce_sum(tf.square(gradient), axes) if axes else tf.square(gradient)
            variance = tf.math.reduce_variance(tensor, list(range(len(tensor.shape) - 1)))
            value = tf.reduce_sum(variance * tf.reduce_mean(inner, 0))
            sums[index] += float(value) / len(rounds)
    totals = dict.fromkeys(names, 1e-12)
    for owner, value in zip(owners, sums, strict=True):
        totals[owner] += value
    return totals
