"""Operators on tensors: tf_keras's TFOpLambda and the operations of Keras 3.

`x * 2 + 1`, `tf.nn.relu(x)` or `keras.ops.mean(x)` become nodes without weights. Their constants stand in the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_robust_prune.network.graph import Graph, Node, refs_in
from keras_robust_prune.network.rules.base import Barrier, Rule
from keras_robust_prune.network.rules.elementwise import PassThrough
from keras_robust_prune.network.rules.merging import Elementwise
from keras_robust_prune.network.tracing import Labels, Tracing

UNARY = frozenset(
    ["abs", "absolute", "cast", "clip", "clip_by_value", "elu", "erf", "exp", "gelu"]
    + ["hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "identity", "leaky_relu", "log"]
    + ["log1p", "log_sigmoid", "mish", "neg", "negative", "reciprocal", "relu", "relu6", "rsqrt"]
    + ["selu", "sigmoid", "sign", "silu", "soft_shrink", "softplus", "softsign", "sqrt", "square"]
    + ["stop_gradient", "swish", "tanh"]
)
BINARY = frozenset(
    ["add", "divide", "floordiv", "maximum", "minimum", "mod", "mul", "multiply", "pow", "power"]
    + ["radd", "rmul", "rsub", "rtruediv", "squared_difference", "sub", "subtract"]
    + ["true_divide", "truediv"]
)
REDUCING = frozenset(["max", "mean", "min", "reduce_max", "reduce_mean", "reduce_min"]) | frozenset(
    ["reduce_sum", "sum"]
)


def constants(node: Node) -> list[Any]:
    """The arguments of a call that are neither tensors nor nests of them."""
    found: list[Any] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            for item in value.values():
                collect(item)
        elif isinstance(value, (list, tuple)) and refs_in(value):
            for item in value:
                collect(item)
        elif not refs_in(value):
            found.append(value)

    collect(list(node.args))
    collect(dict(node.kwargs))
    return found


class Binary(Elementwise):
    """An element-wise operator of two tensors, or of a tensor and one number."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        if any(np.size(value) > 1 for value in constants(node) if not isinstance(value, str)):
            raise Barrier("constant", "joins units with a constant tensor")
        return super().trace(graph, node, inputs, tracing)


class Reduction(Rule):
    """A mean, sum or extremum over axes on which no units lie."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        layer, (labels,) = graph.layer_of(node), inputs
        axis = argument(graph, node, "axis", 1)
        rank = len(graph.shape(node.inputs[0])) + 1
        if axis is None:
            raise Barrier("mixes_units", f"({layer.name}) reduces over all units together")
        axes = {int(a) % rank - 1 for a in (axis if np.ndim(axis) else [axis])}
        if labels.axis in axes or -1 in axes:
            raise Barrier("mixes_units", f"({layer.name}) reduces over all units together")
        keep = len(node.shapes[0]) == rank - 1
        shift = 0 if keep else sum(a < labels.axis for a in axes)
        return (Labels(labels.axis - shift, labels.ids),)


def argument(graph: Graph, node: Node, name: str, position: int, default: Any = None) -> Any:
    """An argument of an operator, wherever it stands: by name, by position, in the configuration."""
    if name in node.kwargs:
        return node.kwargs[name]
    if len(node.args) > position:
        return node.args[position]
    layer = graph.layer_of(node)
    return layer.config.get(name, getattr(layer.origin, name, default))


class Operator(Rule):
    """Looks up the operator that a node stands for and hands over to its rule."""

    rules: ClassVar[dict[str, Rule]] = {
        **{name: PassThrough() for name in UNARY},
        **{name: Binary() for name in BINARY},
        **{name: Reduction() for name in REDUCING},
    }

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        name = operator_name(graph, node)
        if name not in self.rules:
            raise Barrier("no_rule", f"is the operator '{name}', which has no rule")
        return self.rules[name].trace(graph, node, inputs, tracing)


def operator_name(graph: Graph, node: Node) -> str:
    """What an operator is called, in lower case and without its module: `"add"`, `"relu"`."""
    layer = graph.layer_of(node)
    name = str(layer.config.get("function", layer.kind)).rsplit(".", 1)[-1]
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    return snake.strip("_")


RULES: dict[str, Rule] = {"TFOpLambda": Operator(), "ops.*": Operator()}
