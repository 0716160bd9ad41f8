"""The inverse of a cut: a smaller network's weights back in the places they came from."""

from __future__ import annotations

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.surgery.cutting import mask
from keras_robust_prune.surgery.dropping import entries_gone, filled
from keras_robust_prune.surgery.groups import ChannelGroups
from keras_robust_prune.surgery.plan import Plan


def embed(full: Graph, small: Graph, groups: ChannelGroups, plan: Plan) -> Graph:
    """The full-shape network that computes what the smaller one does.

    Args:
        full: in full shape; weights of dropped units are taken from it.
        small: `cut(full, groups, plan)`, its weights changed since.
        groups: found on the dense network.
        plan: what was cut.

    Returns:
        A graph with `cut(result, groups, plan)` equal to `small`.
    """
    gone = entries_gone(groups.groups, plan.dropped)
    layers = [filled(layer, small.layers[name], gone) for name, layer in full.layers.items()]
    return mask(full.with_layers(layers), groups, plan)
