"""Operators on tensors: tf_keras's TFOpLambda and SlicingOpLambda, and the operations of Keras 3.

`x * 2 + 1`, `tf.nn.relu(x)` or `keras.ops.mean(x)` become nodes without weights. Their constants stand in the call;
a constant with one entry per unit is cut like a weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Shape, refs_in
from keras_robust_prune.graph.tracing import CARRIES, Labels, Tracing
from keras_robust_prune.layers.rules.base import Barrier, Lengths, Rule
from keras_robust_prune.layers.rules.calls import argument, constants, rank_in
from keras_robust_prune.layers.rules.merging import Concatenate, Elementwise
from keras_robust_prune.layers.rules.moving import InOrder, Reshaped, Transposed

UNARY = frozenset(
    ["abs", "absolute", "cast", "celu", "clip", "clip_by_value", "cos", "elu", "erf", "exp"]
    + ["gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "identity"]
    + ["leaky_relu", "log", "log1p", "log_sigmoid", "mish", "neg", "negative", "ones_like"]
    + ["reciprocal", "relu", "relu6", "rsqrt", "selu", "sigmoid", "sign", "silu", "sin"]
    + ["soft_shrink", "softplus", "softsign", "sqrt", "square", "stop_gradient", "swish", "tanh"]
    + ["tanh_shrink", "zeros_like"]
)
BINARY = frozenset(
    ["add", "divide", "equal", "floordiv", "greater", "greater_equal", "less", "less_equal"]
    + ["logical_and", "logical_or", "maximum", "minimum", "mod", "mul", "multiply", "not_equal"]
    + ["pow", "power", "radd", "rmul", "rsub", "rtruediv", "squared_difference", "sub", "subtract"]
    + ["true_divide", "truediv", "where"]
)
REDUCING = frozenset(
    ["all", "any", "max", "mean", "min", "prod", "reduce_all", "reduce_any", "reduce_max"]
    + ["reduce_mean", "reduce_min", "reduce_prod", "reduce_std", "reduce_sum", "reduce_variance"]
    + ["std", "sum", "var"]
)
SPATIAL = frozenset(
    ["average_pool", "avg_pool", "avg_pool2d", "max_pool", "max_pool2d", "resize", "resize_v2"]
)


class Alike(Elementwise):
    """An element-wise operator of one or more tensors and constants, broadcasting as NumPy does."""

    expands = False

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        (labels,) = super().trace(graph, node, inputs, tracing)
        rank = len(node.shapes[0])
        for value in (*node.args, *node.kwargs.values()):
            if isinstance(value, (list, tuple)) and len(value) > 1 and not refs_in(value):
                raise Barrier("constant", "joins units with a list: make it an array")
        for number, value in enumerate(constants(node)):
            axis = labels.axis - rank + value.ndim
            if value.ndim > rank or (axis >= 0 and value.shape[axis] not in (1, len(labels.ids))):
                raise Barrier("constant", "joins units with a constant of another shape")
            if axis >= 0 and value.shape[axis] > 1:
                tracing.use(node.layer, f"constant {number}", axis, CARRIES, labels.ids)
        return (labels,)


class Reduction(Rule):
    """A mean, sum or extremum over axes on which no units lie."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        (labels,) = inputs
        axis = argument(graph, node, "axis", 1)
        rank = rank_in(graph, node)
        axes = range(rank) if axis is None else axis if np.ndim(axis) else [axis]
        axes = {int(a) % rank - 1 for a in axes}
        if labels.axis in axes or -1 in axes:
            raise Barrier("mixes_units", "reduces over all units together")
        keep = len(node.shapes[0]) == rank - 1
        shift = 0 if keep else sum(a < labels.axis for a in axes)
        return (Labels(labels.axis - shift, labels.ids),)


class Spatial(Rule):
    """Pooling and resizing: channels, which lie last, pass."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        form = argument(graph, node, "data_format", 99)
        last = inputs[0].axis == rank_in(graph, node) - 2
        if not last or (form is not None and form != "channels_last" and form[-1:] != "C"):
            raise Barrier("other_axis", "works along another axis than the one the units lie on")
        return tuple(inputs[:1])


class Softmax(Rule):
    """Mixes the units of the axis that it normalises."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = argument(graph, node, "axis", 1)
        rank = rank_in(graph, node)
        axes = [-1] if axis is None else axis if np.ndim(axis) else [axis]
        if inputs[0].axis in {int(a) % rank - 1 for a in axes}:
            raise Barrier("mixes_units", "applies a softmax over all units together")
        return tuple(inputs[:1])


class Concat(Concatenate):
    """Concatenation as an operator."""

    def axis(self, graph: Graph, node: Node) -> int:
        return int(argument(graph, node, "axis", 1, 0))


class ShapeOf(Rule):
    """The size of the batch, `tf.shape(x)[0]`, does not depend on units; any other length might."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        for reader in graph.readers.get(node.ref, ()):
            spec = argument(graph, reader, "slice_spec", 1)
            name = operator_name(graph, reader)
            if name not in ("getitem", "get_item") or spec not in (0, (0,), [0]):
                raise Barrier("shape", "takes the shape of a tensor of units")
        return (Labels(0, tracing.fresh(node.name, 1, "shape")),)


class Stack(Rule):
    """Tensors along a new axis: unit k of one meets unit k of the other."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = int(argument(graph, node, "axis", 1, 0)) % (len(node.shapes[0]) + 1) - 1
        if axis < 0 or len({labels.axis for labels in inputs}) != 1:
            raise Barrier("other_axis", "joins tensors whose units lie on different axes")
        for labels in inputs[1:]:
            tracing.unite(inputs[0].ids, labels.ids)
        return (Labels(inputs[0].axis + (axis <= inputs[0].axis), inputs[0].ids),)


class Split(Rule):
    """Parts along an axis on which no units lie."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = int(argument(graph, node, "axis", 2, 0)) % rank_in(graph, node) - 1
        if axis == inputs[0].axis or axis < 0:
            raise Barrier("sliced", "splits along the axis that the units lie on")
        return tuple(inputs[:1]) * len(node.shapes)


class Pad(Rule):
    """Padding of the axes on which no units lie."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        width = argument(graph, node, "pad_width", 1)
        width = argument(graph, node, "paddings", 1) if width is None else width
        if np.ndim(width) != 2 or np.any(np.asarray(width)[inputs[0].axis + 1]):
            raise Barrier("padded", "pads the axis that the units lie on")
        return tuple(inputs[:1])


class Slice(Rule):
    """`x[:, 2:4]`: channels survive where their axis is taken whole."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        rank = rank_in(graph, node)
        spec = argument(graph, node, "key", 1, node.kwargs.get("slice_spec"))
        parts = list(spec) if isinstance(spec, (list, tuple)) else [spec]
        if any(not isinstance(part, (int, slice, dict, type(None), type(...))) for part in parts):
            raise Barrier("sliced", "takes entries by an index that is a tensor")
        taken = sum(part is not None and part is not ... for part in parts)
        if ... not in parts:
            parts.append(...)
        at = parts.index(...)
        parts[at : at + 1] = [slice(None)] * (rank - taken)
        before, after = 0, 0
        for part in parts:
            if before == inputs[0].axis + 1 and part is not None:
                if not is_whole(part):
                    raise Barrier("sliced", "takes only some entries of the axis the units lie on")
                return (Labels(after - 1, inputs[0].ids),)
            before += part is not None
            after += not isinstance(part, int)
        raise Barrier("sliced", "takes entries in a way that its rule does not know")


def is_whole(part: Any) -> bool:
    """Whether a part of an index takes all of its axis, in order."""
    if isinstance(part, dict):
        part = slice(part.get("start"), part.get("stop"), part.get("step"))
    return isinstance(part, slice) and (part.start or 0, part.stop, part.step or 1) == (0, None, 1)


class Operator(Rule):
    """Looks up the operator that a node stands for and hands over to its rule."""

    rules: ClassVar[dict[str, Rule]] = {
        **{name: Alike() for name in UNARY | BINARY},
        **{name: Reduction() for name in REDUCING},
        **{name: Spatial() for name in SPATIAL},
        **dict.fromkeys(("softmax", "log_softmax"), Softmax()),
        **dict.fromkeys(("concat", "concatenate"), Concat()),
        **dict.fromkeys(("getitem", "get_item"), Slice()),
        **dict.fromkeys(("squeeze", "expand_dims", "flatten"), InOrder()),
        "reshape": Reshaped(),
        "transpose": Transposed(),
        "shape": ShapeOf(),
        "stack": Stack(),
        "split": Split(),
        "pad": Pad(),
    }

    def rule(self, graph: Graph, node: Node) -> Rule:
        """The rule of the operator."""
        name = operator_name(graph, node)
        if name not in self.rules:
            raise Barrier("no_rule", f"is the operator '{name}', which has no rule")
        return self.rules[name]

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        return self.rule(graph, node).trace(graph, node, inputs, tracing)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        return self.rules[_name_of(layer)].resize(layer, lengths)

    def resize_call(
        self, graph: Graph, node: Node, shapes: Sequence[Shape]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        rule = self.rules.get(operator_name(graph, node), self)
        return (node.args, node.kwargs) if rule is self else rule.resize_call(graph, node, shapes)


def operator_name(graph: Graph, node: Node) -> str:
    """What an operator is called, in lower case and without its module: `"add"`, `"relu"`."""
    return _name_of(graph.layer_of(node))


def _name_of(layer: Layer) -> str:
    name = str(layer.config.get("function", layer.kind)).rsplit(".", 1)[-1]
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
    return snake.strip("_")


RULES: dict[str, Rule] = dict.fromkeys(("TFOpLambda", "SlicingOpLambda", "ops.*"), Operator())
