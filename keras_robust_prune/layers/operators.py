"""Operators on tensors: tf_keras's TFOpLambda and SlicingOpLambda, and the operations of Keras 3.

`x * 2 + 1`, `tf.nn.relu(x)` or `keras.ops.mean(x)` become nodes without weights. Their constants stand in the call;
a constant with one entry per unit is cut like a weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_robust_prune.graph.graph import Graph, Layer, Node, Shape
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.layers import arithmetic, indexing
from keras_robust_prune.layers.base import LayerType, Lengths, Unsupported
from keras_robust_prune.layers.calls import Call, operator_name
from keras_robust_prune.primitives.gaussian import Gaussian

OPERATORS = {**arithmetic.OPERATORS, **indexing.OPERATORS}


class UnknownOperator(LayerType):
    """An operator of which nothing is known."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        name = operator_name(graph.layer_of(node))
        raise Unsupported("no_rule", f"is the operator '{name}', which is not known")

    def lower(self, call: Call) -> int:
        raise call.refuse(f"is the operator '{operator_name(call.layer)}', which has no bounds.")


UNKNOWN = UnknownOperator()


class Operator(LayerType):
    """Asks the operator that a node stands for."""

    def of(self, layer: Layer) -> LayerType:
        """What is known of the operator."""
        return OPERATORS.get(operator_name(layer), UNKNOWN)

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        return self.of(graph.layer_of(node)).trace(graph, node, inputs, tracing)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return self.of(layer).resize(layer, lengths)

    def resize_call(
        self, graph: Graph, node: Node, shapes: Sequence[Shape]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return self.of(graph.layer_of(node)).resize_call(graph, node, shapes)

    def lower(self, call: Call) -> int:
        return self.of(call.layer).lower(call)

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        return self.of(graph.layer_of(node)).moments(graph, node, inputs)

    def gives_probabilities(self, layer: Layer) -> bool:
        return operator_name(layer) in ("softmax", "sigmoid")

    def closing(self, graph: Graph, node: Node) -> str | None:
        return self.of(graph.layer_of(node)).closing(graph, node)


TYPES: dict[str, LayerType] = dict.fromkeys(("TFOpLambda", "SlicingOpLambda", "ops.*"), Operator())
