"""Layers that join tensors: what meets shares a fate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_robust_prune.graph.graph import Graph, Node
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.layers.rules.base import Barrier, Rule


class Elementwise(Rule):
    """Add, Multiply and their kin, with broadcasting: unit k of one meets unit k of the other.

    An input of length 1 along the units' axis is spread over all units: it stays. Inputs with fewer
    axes get new ones behind the batch axis, as Keras's merging layers do.
    """

    expands = True

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        rank = len(node.shapes[0])
        aligned = []
        for labels, ref in zip(inputs, node.inputs, strict=True):
            shift = rank - len(graph.shape(ref))
            if shift and not self.expands:
                raise Barrier("broadcast", "joins tensors with different numbers of axes")
            aligned.append(Labels(labels.axis + shift, labels.ids))
        axes = {labels.axis for labels in aligned}
        if len(axes) != 1:
            raise Barrier("other_axis", "joins tensors whose units lie on different axes")
        axis = axes.pop()
        wide = [labels.ids for labels in aligned if len(labels.ids) == node.shapes[0][axis]]
        if not wide:
            raise Barrier("broadcast", "joins tensors in a way that no axis of units survives")
        for labels in aligned:
            if len(labels.ids) == len(wide[0]):
                tracing.unite(wide[0], labels.ids)
            else:
                tracing.freeze(labels.ids, "broadcast", node.layer, "spreads it over many units")
        return (Labels(axis, wide[0]),)


class Concatenate(Rule):
    """Units stand behind one another; along another axis the same units meet."""

    def axis(self, graph: Graph, node: Node) -> int:
        """The axis of concatenation, counted with the batch axis."""
        return int(graph.layer_of(node).config.get("axis", -1))

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = self.axis(graph, node)
        axis = len(node.shapes[0]) + axis if axis < 0 else axis - 1
        axes = {labels.axis for labels in inputs}
        if axes == {axis}:
            return (Labels(axis, np.concatenate([labels.ids for labels in inputs])),)
        if len(axes) != 1:
            raise Barrier("other_axis", "joins tensors whose units lie on different axes")
        for labels in inputs[1:]:
            tracing.unite(inputs[0].ids, labels.ids)
        return (inputs[0],)


# CustomScaleLayer is how InceptionResNetV2 of keras.applications adds a scaled branch.
RULES: dict[str, Rule] = {
    "CustomScaleLayer": Elementwise(),
    **{
        kind: Elementwise()
        for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
    },
    "Concatenate": Concatenate(),
}
