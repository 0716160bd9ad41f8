"""Layers that treat every entry alike: activations, dropout, pooling, padding. Units pass through them."""

from __future__ import annotations

from collections.abc import Sequence

from keras_robust_prune.network.graph import Graph, Node
from keras_robust_prune.network.rules.base import Barrier, Rule, last_axis, one_output
from keras_robust_prune.network.tracing import Labels, Tracing


class PassThrough(Rule):
    """Units keep their axis and their order; no weight is concerned."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        return tuple(inputs[:1]) * len(node.shapes)


class SpatialOnly(Rule):
    """Works on the axes before the channels, which pass, to the last axis of what is left."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        return one_output(node, last_axis(graph, node, inputs[0]))


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
    """Element-wise by name; softmax and its kin mix units."""

    mixing = frozenset(["softmax", "log_softmax", "glu", "sparsemax"])

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer = graph.layer_of(node)
        activation = layer.config.get("activation", "linear")
        if activation in self.mixing:
            return Softmax().trace(graph, node, inputs, tracing)
        if activation is not None and not isinstance(activation, str):
            raise Barrier("no_rule", "applies an activation that is not Keras's own")
        return tuple(inputs[:1])


PASS_THROUGH = (
    ["ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Identity", "InputLayer"]
    + ["Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout"]
    + ["GaussianDropout", "GaussianNoise", "ActivityRegularization", "StochasticDepth"]
    + ["DropPath", "Masking"]
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
}
