"""Layers that treat every entry alike: activations, dropout, pooling, padding. Units pass through them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, activation_argument
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.layers.rules.base import Barrier, Rule, channels_in, channels_out

# Keras's activations that treat every entry alike, and those that mix what lies on the last axis.
ALIKE = frozenset(
    ["celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "linear"]
    + ["hard_swish", "hard_tanh", "leaky_relu", "log_sigmoid", "mish", "relu", "relu6", "selu"]
    + ["sigmoid", "silu", "soft_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid"]
    + ["squareplus", "swish", "tanh", "tanh_shrink", "threshold"]
)
MIXING = frozenset(["glu", "log_softmax", "softmax", "sparsemax"])


def mixes(activation: Any) -> tuple[str, str] | None:
    """Why units that pass an activation of the last axis must stay: a code and a reason, or None."""
    if activation is None or (isinstance(activation, str) and activation in ALIKE):
        return None
    if isinstance(activation, str) and activation in MIXING:
        return "mixes_units", f"applies {activation} over all units together"
    return "own_activation", (
        "applies an activation that is not Keras's own and may mix units: make it a layer and "
        "give that a rule with krp.register_rule"
    )


def freeze_mixed(layer: Layer, ids: np.ndarray, tracing: Tracing) -> None:
    """The units of a layer stay if its own activation mixes them."""
    found = mixes(activation_argument(layer))
    if found is not None:
        tracing.freeze(ids, found[0], layer.name, found[1])


class PassThrough(Rule):
    """Units keep their axis and their order; no weight is concerned."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        noise = graph.layer_of(node).config.get("noise_shape")
        if noise is not None and tuple(noise)[inputs[0].axis + 1] not in (None, 1):
            raise Barrier("noise_shape", "has the number of units in its noise_shape: write None")
        return tuple(inputs[:1]) * len(node.shapes)


class SpatialOnly(Rule):
    """Works on the axes beside the channels, which pass."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        return channels_out(graph, node, channels_in(graph, node, inputs[0]))


class Softmax(Rule):
    """Mixes the units of the axis that it normalises."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = graph.layer_of(node).config.get("axis", -1)
        axes = axis if isinstance(axis, (list, tuple)) else [axis]
        rank = len(graph.shape(node.inputs[0]))
        if inputs[0].axis in {rank + a if a < 0 else a - 1 for a in axes}:
            raise Barrier("mixes_units", "applies a softmax over all units together")
        return tuple(inputs[:1])


class Activation(Rule):
    """Element-wise by name; softmax and its kin mix what lies on the last axis."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        found = mixes(graph.layer_of(node).config.get("activation"))
        last = inputs[0].axis == len(graph.shape(node.inputs[0])) - 1
        if found is not None and (last or found[0] == "own_activation"):
            raise Barrier(*found)
        return tuple(inputs[:1])


class Masking(Rule):
    """Zeroes the steps at which all units have one value."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        raise Barrier("mixes_units", "looks at all units together")


PASS_THROUGH = (
    ["ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Identity", "InputLayer"]
    + ["Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"]
    + ["GaussianDropout", "GaussianNoise", "ActivityRegularization", "StochasticDepth"]
    + ["DropPath"]
)
SPATIAL = (
    [f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)]
    + [f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)]
    + [f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)]
    + ["Resizing", "CenterCrop", "RandomFlip", "RandomRotation", "RandomZoom", "RandomCrop"]
    + ["RandomTranslation"]
)
RULES: dict[str, Rule] = {
    **{kind: PassThrough() for kind in PASS_THROUGH if kind != "InputLayer"},
    **{kind: SpatialOnly() for kind in SPATIAL},
    "Softmax": Softmax(),
    "Activation": Activation(),
    "Masking": Masking(),
}
