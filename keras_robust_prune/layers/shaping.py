"""Layers that move entries about, and those that leave them alone outside of training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node
from keras_robust_prune.graph.tracing import CARRIES, Labels, Tracing, relabel, tie
from keras_robust_prune.layers.base import (
    LayerType,
    Lengths,
    Unsupported,
    known_size,
    layer_type,
)
from keras_robust_prune.layers.calls import Call
from keras_robust_prune.layers.composing import move
from keras_robust_prune.primitives.gaussian import Gaussian

WIDEST = 8192
"""Entries beyond which a row's covariance is not kept."""


class Identity(LayerType):
    """Does nothing outside of training: units keep their axis and their order."""

    homogeneous = True
    translates = True

    transparent = True

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        noise = graph.layer_of(node).config.get("noise_shape")
        if noise is not None and tuple(noise)[inputs[0].axis + 1] not in (None, 1):
            raise Unsupported(
                "noise_shape", "has the number of units in its noise_shape: write None"
            )
        return tuple(inputs[:1]) * len(node.shapes)

    def lower(self, call: Call) -> int:
        return call.inputs[0]

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        return inputs[0]


class Masking(LayerType):
    """Zeroes the steps at which all units have one value."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        raise Unsupported("mixes_units", "looks at all units together")

    def marks_steps(self, layer: Layer) -> bool:
        return True


class Move(LayerType):
    """Moves entries without changing them; units pass where one axis still tells them apart."""

    homogeneous = True
    translates = True
    keeps_entries = True

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        before = graph.shape(node.inputs[0])
        if any(length is None for length in before):
            return self.of_unknown_size(graph, node, inputs[0], tracing)
        shape = tuple(length or 1 for length in before)
        after = self.moved(graph, node, np.arange(np.prod(shape)).reshape(shape))
        labels = relabel(inputs[0], shape, after) or tie(inputs[0], shape, after, tracing)
        self.note(graph.layer_of(node), labels, tracing)
        return (labels,)

    def lower(self, call: Call) -> int:
        shape = call.out_shape

        def moved(places: np.ndarray) -> np.ndarray:
            return self.moved(call.graph, call.node, places[0]).reshape(1, *shape)

        return move(call, call.inputs[0], moved)

    def moved(self, graph: Graph, node: Node, order: np.ndarray) -> np.ndarray:
        """`order`, the flat positions in the shape of the input, moved like the entries."""
        return order.reshape(tuple(length or 1 for length in node.shapes[0]))

    def note(self, layer: Layer, labels: Labels, tracing: Tracing) -> None:
        """Note what of the configuration depends on the number of units."""

    def of_unknown_size(
        self, graph: Graph, node: Node, labels: Labels, tracing: Tracing
    ) -> Sequence[Labels]:
        """Labels where the input's size is not known before a call."""
        raise Unsupported("unknown_size", "moves entries of a tensor whose size is not fixed")


def side_by_side(graph: Graph, node: Node, inner: Gaussian) -> Gaussian | None:
    """Moments where entries stay in order and several positions become one; None for any other move."""
    width = node.shapes[0][-1] if node.shapes[0] else None
    if not width or width > WIDEST or width % len(inner.mean):
        return None
    return inner.tiled(width // len(inner.mean))


class Flatten(Move):
    """All entries in one row, channels running fastest in either data format."""

    transparent = True

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        return side_by_side(graph, node, inputs[0])

    def moved(self, graph: Graph, node: Node, order: np.ndarray) -> np.ndarray:
        if graph.layer_of(node).config.get("data_format") == "channels_first":
            order = np.moveaxis(order, 0, -1)
        return order.ravel()


class Reshape(Move):
    """A reshape to a fixed shape, which shrinks with the units."""

    transparent = True

    def note(self, layer: Layer, labels: Labels, tracing: Tracing) -> None:
        tracing.use(layer.name, "shape", labels.axis, CARRIES, labels.ids)

    def of_unknown_size(
        self, graph: Graph, node: Node, labels: Labels, tracing: Tracing
    ) -> Sequence[Labels]:
        before, after = graph.shape(node.inputs[0]), node.shapes[0]
        if labels.axis == len(before) - 1 and before[-1] == after[-1]:
            labels = Labels(len(after) - 1, labels.ids)
            self.note(graph.layer_of(node), labels, tracing)
            return (labels,)
        return super().of_unknown_size(graph, node, labels, tracing)

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        return side_by_side(graph, node, inputs[0])

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        shape = list(layer.config["target_shape"])
        for (_, axis), length in lengths.items():
            if shape[axis] != -1:
                shape[axis] = length
        return {"target_shape": tuple(shape)}


class Permute(Move):
    """Exchanges axes."""

    def moved(self, graph: Graph, node: Node, order: np.ndarray) -> np.ndarray:
        return order.transpose([axis - 1 for axis in graph.layer_of(node).config["dims"]])

    def of_unknown_size(
        self, graph: Graph, node: Node, labels: Labels, tracing: Tracing
    ) -> Sequence[Labels]:
        dims = [axis - 1 for axis in graph.layer_of(node).config["dims"]]
        return (Labels(dims.index(labels.axis), labels.ids),)

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        dims = graph.layer_of(node).config["dims"]
        return inputs[0] if dims[-1] == len(dims) else None


class RepeatVector(LayerType):
    """Repeats a vector of units along a new first axis."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        return (Labels(1, inputs[0].ids),)

    def lower(self, call: Call) -> int:
        times = call.config["n"]
        return move(call, call.inputs[0], lambda places: np.repeat(places[:, None], times, axis=1))

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        return inputs[0]


class TimeDistributed(LayerType):
    """The rule of the inner layer, on a tensor with one axis less."""

    def inner(self, graph: Graph, node: Node) -> tuple[Graph, Node]:
        """The graph as if the inner layer were called on one time step."""
        layer = graph.layer_of(node)
        inner = _inner_layer(layer)
        source = graph.node[node.inputs[0].node]
        index = node.inputs[0].output
        shapes = list(source.shapes)
        shapes[index] = shapes[index][1:]
        step = dataclasses.replace(source, shapes=tuple(shapes))
        call = dataclasses.replace(node, shapes=(node.shapes[0][1:],))
        nodes = tuple(
            {source.name: step, node.name: call}.get(other.name, other) for other in graph.nodes
        )
        return dataclasses.replace(graph.with_layers([inner]), nodes=nodes), call

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        if inputs[0].axis == 0:
            raise Unsupported("other_axis", "runs along the axis that the units lie on")
        inner, call = self.inner(graph, node)
        if inner.layer_of(call).kind in ("Reshape", "TimeDistributed"):
            raise Unsupported("no_rule", "applies a layer that changes shapes at every step")
        if layer_type(inner.layer_of(call)).over_units:
            raise Unsupported("mixes_units", "normalises at every step: its layer needs no wrapper")
        shifted = [Labels(labels.axis - 1, labels.ids) for labels in inputs]
        found = layer_type(inner.layer_of(call)).trace(inner, call, shifted, tracing)
        return [Labels(labels.axis + 1, labels.ids) for labels in found]

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        inner = _inner_layer(layer)
        changed = layer_type(inner).resize(inner, lengths)
        # Keras 3 stores the shape that the inner layer was built with, which is no longer true.
        nested = {k: v for k, v in layer.config["layer"].items() if k != "build_config"}
        return {"layer": {**nested, "config": {**nested["config"], **changed}}}

    def kernels_of(self, layer: Layer) -> tuple[str, ...]:
        inner = _inner_layer(layer)
        return layer_type(inner).kernels_of(inner)

    def macs(self, graph: Graph, node: Node) -> int:
        inner, call = self.inner(graph, node)
        return known_size(node.shapes[0][:1]) * layer_type(inner.layer_of(call)).macs(inner, call)


def _inner_layer(layer: Layer) -> Layer:
    """The wrapped layer, under the wrapper's name and with its weights."""
    nested = layer.config["layer"]
    return dataclasses.replace(layer, kind=nested["class_name"], config=nested["config"])


TYPES: dict[str, LayerType] = {
    **{
        kind: Identity()
        for kind in (
            *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
            *("AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization"),
            *("Identity", "StochasticDepth", "DropPath"),
        )
    },
    "Masking": Masking(),
    "Flatten": Flatten(),
    "Reshape": Reshape(),
    "Permute": Permute(),
    "RepeatVector": RepeatVector(),
    "TimeDistributed": TimeDistributed(),
}
