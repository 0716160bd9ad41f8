"""The scores behind the probabilities.

Softmax and sigmoid saturate in float32: a gradient taken on the probability is 0 and an attack then "fails". So the
last activations are walked back: through softmax and every monotone function that leaves the order of the classes as it
is, and through layers that only rename or reshape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_robust_prune.graph.graph import Graph, Layer, Ref, Shape, split_activations

# Strictly or weakly rising functions: undoing them leaves the order of the classes.
MONOTONE = frozenset(
    ["softmax", "log_softmax", "sigmoid", "log_sigmoid", "hard_sigmoid", "tanh", "hard_tanh"]
    + ["relu", "relu6", "leaky_relu", "elu", "celu", "selu", "softplus", "softsign"]
)
PROBABILITIES = frozenset(["softmax", "sigmoid", "hard_sigmoid"])
TRANSPARENT = frozenset(
    ["Dropout", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"]
    + ["Flatten", "Reshape", "Identity"]
)


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
        name = _activation(layer)
        if name in ("softmax", "log_softmax") and not _is_row(graph.shape(ref)):
            return logit, outermost
        if name in MONOTONE:
            outermost = name if outermost == "linear" else outermost
            logit = node.inputs[0]
        elif name != "linear" and layer.kind not in TRANSPARENT:
            return logit, outermost
        ref = node.inputs[0]


def _is_row(shape: Shape) -> bool:
    """Whether an example is one row of classes, so that its softmax runs over all of it."""
    return sum(size != 1 for size in shape) <= 1


def _activation(layer: Layer) -> str | None:
    """The function that an activation layer applies; None if the layer is something else."""
    config = layer.config
    if layer.kind == "Activation":
        return _name(config.get("activation"))
    if layer.kind == "Softmax":
        return "softmax" if config.get("axis", -1) in (-1, [-1], (-1,)) else None
    if layer.kind == "TFOpLambda":
        return str(config.get("function", "")).rsplit(".", 1)[-1]
    if layer.kind in ("ops.Softmax", "ops.LogSoftmax", "ops.Sigmoid", "ops.Tanh", "ops.Relu"):
        return {"LogSoftmax": "log_softmax"}.get(layer.kind[4:], layer.kind[4:].lower())
    return {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "Sigmoid": "sigmoid"}.get(
        layer.kind
    )


def _name(activation: Any) -> str:
    """The name of an activation given as a name, a function or a serialised object."""
    if isinstance(activation, Mapping):
        config = activation.get("config")
        activation = config if isinstance(config, str) else activation.get("class_name")
    name = activation if isinstance(activation, str) else getattr(activation, "__name__", "")
    return str(name).rsplit(">", 1)[-1]
