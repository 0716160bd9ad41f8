"""The scores behind the probabilities.

Softmax and sigmoid saturate in float32: a gradient taken on the probability is 0 and an attack then "fails". So the
last activations are walked back: through softmax and every monotone function that leaves the order of the classes as it
is, and through layers that only rename or reshape.
"""

from __future__ import annotations

from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.layers.splitting import split_activations

PROBABILITIES = frozenset(["softmax", "sigmoid", "hard_sigmoid"])


def logits(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The same network with the scores before the last activations beside its outputs.

    Args:
        graph: any graph.

    Returns:
        A graph whose outputs are the original ones and then, for each, its logits; and the name of the outermost
        activation of each output: `"softmax"`, `"sigmoid"`, ... or `"linear"`.
    """
    split = split_activations(graph)
    found = [_walk_back(split, ref) for ref in split.outputs]
    outputs = split.outputs + tuple(ref for ref, _ in found)
    return split.ending_at(outputs), tuple(name for _, name in found)


def _walk_back(graph: Graph, output: Ref) -> tuple[Ref, str]:
    ref, logit, outermost = output, output, "linear"
    while True:
        node = graph.node[ref.node]
        if len(node.inputs) != 1:
            return logit, outermost
        layer = graph.layers[node.layer]
        name = layer_type(layer).closing(graph, node)
        if name is not None:
            outermost = name if outermost == "linear" else outermost
            logit = node.inputs[0]
        elif not layer_type(layer).transparent:
            return logit, outermost
        ref = node.inputs[0]
