"""Means and covariances of every tensor from weights and stored statistics alone: estimates, not bounds.

Inputs have variance (upper - lower)^2 / 12 around their neutral value; how moments pass a layer its type says. Linear
layers pass them exactly under the assumptions of `primitives.gaussian`, normalisation replaces scale and mean by what
it stores, activations follow Mehler's formula. What is not known ends the estimate.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.primitives.gaussian import Gaussian


def propagate(graph: Graph, spaces: tuple[InputSpec, ...]) -> Mapping[Ref, Gaussian | None]:
    """Estimated moments of every tensor; None behind a layer whose moments are not known.

    Args:
        graph: the network, activations split off.
        spaces: of its inputs.

    Example:
        A Dense layer of weight 2 on an input in [0, 1] has mean 0 and variance 4 / 12.
    """
    found: dict[Ref, Gaussian | None] = {}
    for ref, space in zip(graph.inputs, spaces, strict=True):
        width = space.shape[-1]
        lower, upper = (
            np.broadcast_to(bound, space.shape).reshape(-1, width).mean(0).astype(float)
            for bound in (space.lower, space.upper)
        )
        mean = np.clip(0.0, lower, upper)
        found[ref] = Gaussian(mean, np.diag((upper - lower) ** 2 / 12))
    for node in graph.nodes:
        if node.ref in found:
            continue
        inputs = [part for ref in node.inputs if (part := found.get(ref)) is not None]
        known = inputs and len(inputs) == len(node.inputs)
        result = layer_type(graph.layer_of(node)).moments(graph, node, inputs) if known else None
        found[node.ref] = result
    return found
