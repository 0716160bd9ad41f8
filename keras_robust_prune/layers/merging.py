"""Layers that join tensors: what meets shares a fate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_robust_prune.graph.graph import Graph, Node
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.layers import composing
from keras_robust_prune.layers.base import LayerType, Unsupported
from keras_robust_prune.layers.calls import Call
from keras_robust_prune.primitives.gaussian import Gaussian
from keras_robust_prune.primitives.linear import Scale


class Merging(LayerType):
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
                raise Unsupported("broadcast", "joins tensors with different numbers of axes")
            aligned.append(Labels(labels.axis + shift, labels.ids))
        axis = self.axis_of_units(graph, node, aligned)
        for labels in [labels for labels in aligned if labels.axis != axis]:
            tracing.protect(labels.ids, "broadcast", node.layer, "spreads it over many units")
        aligned = [labels for labels in aligned if labels.axis == axis]
        wide = [labels.ids for labels in aligned if len(labels.ids) == node.shapes[0][axis]]
        if not wide:
            raise Unsupported("broadcast", "joins tensors in a way that no axis of units survives")
        for labels in aligned:
            if len(labels.ids) == len(wide[0]):
                tracing.unite(wide[0], labels.ids)
            else:
                tracing.protect(labels.ids, "broadcast", node.layer, "spreads it over many units")
        return (Labels(axis, wide[0]),)

    def axis_of_units(self, graph: Graph, node: Node, aligned: Sequence[Labels]) -> int:
        """The axis on which units lie behind the call: that of an input that is not spread, else of most units."""
        axes = {labels.axis for labels in aligned}
        shapes = [graph.shape(ref) for ref in node.inputs]
        whole = [k for k, shape in enumerate(shapes) if shape == node.shapes[0]]
        if len(axes) == 1:
            return axes.pop()
        axis = (aligned[whole[0]] if whole else max(aligned, key=lambda part: len(part.ids))).axis
        rank = len(node.shapes[0])
        for labels, shape in zip(aligned, shapes, strict=True):
            place = axis - rank + len(shape)
            if labels.axis != axis and place >= 0 and shape[place] != 1:
                raise Unsupported("other_axis", "joins tensors whose units lie on different axes")
        return axis


class Add(Merging):
    """The sum; its moments are those of independent terms."""

    sums = True
    homogeneous = True

    def lower(self, call: Call) -> int:
        return composing.add(call, call.inputs, (1,) * len(call.inputs))

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        if len({len(part.mean) for part in inputs}) > 1:
            return None
        mean = np.sum([part.mean for part in inputs], axis=0)
        return Gaussian(mean, np.sum([part.covariance for part in inputs], axis=0))


class Average(Merging):
    """The mean of several tensors."""

    homogeneous = True

    def lower(self, call: Call) -> int:
        place = composing.add(call, call.inputs, (1,) * len(call.inputs))
        return call.emit(Scale(call.shape(place), call.array(1 / len(call.inputs))), place)


class Subtract(Merging):
    """The first less the second."""

    homogeneous = True

    def lower(self, call: Call) -> int:
        return composing.add(call, call.inputs, (1, -1))


class Multiply(Merging):
    """The product."""

    def lower(self, call: Call) -> int:
        return composing.multiply(call, call.inputs)


class Maximum(Merging):
    """The largest."""

    homogeneous = True

    def lower(self, call: Call) -> int:
        return composing.largest(call, call.inputs, 1)


class Minimum(Merging):
    """The smallest."""

    homogeneous = True

    def lower(self, call: Call) -> int:
        return composing.largest(call, call.inputs, -1)


class Concatenate(LayerType):
    """Units stand behind one another; along another axis the same units meet."""

    homogeneous = True

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
            raise Unsupported("other_axis", "joins tensors whose units lie on different axes")
        for labels in inputs[1:]:
            tracing.unite(inputs[0].ids, labels.ids)
        return (inputs[0],)

    def lower(self, call: Call) -> int:
        return composing.concatenate(call, self.axis(call.graph, call.node))


TYPES: dict[str, LayerType] = {
    "Add": Add(),
    "Average": Average(),
    "Subtract": Subtract(),
    "Multiply": Multiply(),
    "Maximum": Maximum(),
    "Minimum": Minimum(),
    "Concatenate": Concatenate(),
    "CustomScaleLayer": Merging(),  # how InceptionResNetV2 of keras.applications adds a scaled branch
}
