"""The inverse of a cut: a smaller network's weights back in the places they came from."""

from __future__ import annotations

import numpy as np

from keras_robust_prune.network.graph import MASK, Graph
from keras_robust_prune.network.sites import Sites
from keras_robust_prune.surgery.cutting import entries_gone, mask
from keras_robust_prune.surgery.plan import Plan


def embed(full: Graph, small: Graph, sites: Sites, plan: Plan) -> Graph:
    """The full-shape network that computes what the smaller one does.

    Args:
        full: in full shape; weights of dropped units are taken from it.
        small: `cut(full, sites, plan)`, its weights changed since.
        sites: found on the dense network.
        plan: what was cut.

    Returns:
        A graph with `cut(result, sites, plan)` equal to `small`.
    """
    gone = entries_gone(sites, plan)
    changed = {}
    for name, layer in full.layers.items():
        for weight, value in layer.weights.items():
            if weight == MASK:
                continue
            places = [np.arange(length) for length in value.shape]
            for axis, length in enumerate(value.shape):
                if (name, weight, axis) in gone:
                    places[axis] = gone[name, weight, axis].left(length)
            result = value.copy()
            result[np.ix_(*places) if places else ()] = small.layers[name].weights[weight]
            changed[name, weight] = result
    return mask(full.with_weights(changed), sites, plan)
