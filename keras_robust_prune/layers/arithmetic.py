"""Operators that compute: number by number with broadcasting, and over axes.

`x * 2 + 1`, `tf.nn.relu(x)` or `keras.ops.mean(x)` are nodes without weights. Their constants stand in the call; one
with an entry per unit is cut like a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref, refs_in
from keras_robust_prune.graph.tracing import CARRIES, Labels, Tracing
from keras_robust_prune.layers import composing
from keras_robust_prune.layers.activation import SOFTMAXES, is_row
from keras_robust_prune.layers.base import LayerType, Unsupported
from keras_robust_prune.layers.calls import Call, argument, constants, operator_name, rank_in
from keras_robust_prune.layers.composing import move
from keras_robust_prune.layers.merging import Merging
from keras_robust_prune.primitives import activations
from keras_robust_prune.primitives.elementwise import Elementwise
from keras_robust_prune.primitives.gaussian import Gaussian
from keras_robust_prune.primitives.linear import MatMul, Scale
from keras_robust_prune.primitives.pooling import MaxPool
from keras_robust_prune.primitives.windows import Window

# Functions of one tensor that are no activations.
UNARY = frozenset(
    [
        "abs",
        "cast",
        "clip",
        "convert_to_tensor",
        "cos",
        "erf",
        "identity",
        "log",
        "log1p",
        "neg",
        "ones_like",
    ]
    + ["reciprocal", "rsqrt", "sign", "sin", "sqrt", "square", "stop_gradient", "zeros_like"]
)
IDENTITIES = frozenset(["cast", "convert_to_tensor", "identity", "stop_gradient"])
# Of two operands; the first row has bounds.
AFFINE = frozenset(["add", "divide", "multiply", "rsub", "subtract"])
EXTREMA = frozenset(["maximum", "minimum"])
BINARY = frozenset(
    ["equal", "floordiv", "greater", "greater_equal", "less", "less_equal", "logical_and"]
    + ["logical_or", "mod", "not_equal", "pow", "rtruediv", "squared_difference", "where"]
)
# Each number of the result comes of those in the same place, with broadcasting.
BY_NUMBER = UNARY | AFFINE | EXTREMA | BINARY | activations.NAMES
REDUCING = frozenset(["all", "any", "max", "mean", "min", "prod", "std", "sum", "var"])


class NumberByNumber(Merging):
    """An operator of one or more tensors and constants, broadcasting as NumPy does."""

    expands = False

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        (labels,) = super().trace(graph, node, inputs, tracing)
        rank = len(node.shapes[0])
        for value in (*node.args, *node.kwargs.values()):
            if isinstance(value, (list, tuple)) and len(value) > 1 and not refs_in(value):
                raise Unsupported("constant", "joins units with a list: make it an array")
        for number, value in enumerate(constants(node)):
            axis = labels.axis - rank + value.ndim
            whole = value.ndim == rank + 1 and value.shape[0] == 1  # the same for every sample
            if (value.ndim > rank and not whole) or (
                axis >= 0 and value.shape[axis] not in (1, len(labels.ids))
            ):
                raise Unsupported("constant", "joins units with a constant of another shape")
            if axis >= 0 and value.shape[axis] > 1:
                tracing.use(node.layer, f"constant {number}", axis, CARRIES, labels.ids)
        return (labels,)


class Unary(NumberByNumber):
    """A function of one tensor; what it does follows from that function."""

    def lower(self, call: Call) -> int:
        name, (x,) = operator_name(call.layer), call.inputs
        if name in IDENTITIES:
            return x
        if name == "neg":
            return _scaled(call, x, -1.0, 0.0)
        function = function_of(call.graph, call.node)
        if function is None:
            return LayerType.lower(self, call)
        return call.apply(function, x)

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        name, (inner,) = operator_name(graph.layer_of(node)), inputs
        if name in IDENTITIES:
            return inner
        if name == "neg":
            return inner.scaled(-1.0)
        function = function_of(graph, node)
        return None if function is None else inner.activated(function.forward)

    def gives_probabilities(self, layer: Layer) -> bool:
        return operator_name(layer) == "sigmoid"

    def closing(self, graph: Graph, node: Node) -> str | None:
        function = function_of(graph, node)
        rises = function is not None and function.increasing
        return operator_name(graph.layer_of(node)) if rises else None


def function_of(graph: Graph, node: Node) -> Elementwise | None:
    """The function of an operator with one tensor; None if it is not known."""
    name = operator_name(graph.layer_of(node))
    if name == "abs":
        return activations.piecewise_linear("abs", (0.0,), (-1.0, 1.0))
    if name == "square":
        return _square()
    if name == "clip":
        names = (("x_min", "clip_value_min", "a_min"), ("x_max", "clip_value_max", "a_max"))
        ends = [
            [argument(graph, node, name, position + 1) for name in options]
            for position, options in enumerate(names)
        ]
        return _clip(*(float(next(value for value in end if value is not None)) for end in ends))
    config = dict(graph.layer_of(node).config)
    if name == "leaky_relu":
        slope = argument(graph, node, "negative_slope", 1, 0.2)
        config["alpha"] = argument(graph, node, "alpha", 1, slope)
    if name == "gelu":
        config["approximate"] = argument(graph, node, "approximate", 1, False)
    return activations.named(name, graph.keras, config)


def _clip(low: float, high: float) -> Elementwise:
    if np.isinf(high):
        return activations.piecewise_linear("clip", (low,), (0.0, 1.0), low)
    if np.isinf(low):
        return activations.piecewise_linear("clip", (high,), (1.0, 0.0), high)
    return activations.piecewise_linear("clip", (low, high), (0.0, 1.0, 0.0), low)


def _square() -> Elementwise:
    return Elementwise("square", np.square, lambda x: 2 * x, (0.0,), increasing=False, convex=True)


def operands(node: Node) -> list[Any]:
    """The arguments of a call that are operands: a `Ref` for a tensor, an array for a constant."""
    values = [v for v in [*node.args, *node.kwargs.values()] if not isinstance(v, str)]
    return [
        value if isinstance(value, Ref) else np.asarray(value, np.float64)
        for value in values
        if isinstance(value, Ref) or (value is not None and not refs_in(value))
    ]


class Binary(NumberByNumber):
    """A function of two tensors, or of a tensor and a constant."""

    def _operands(self, call: Call) -> list[Any]:
        places = dict(zip(call.node.inputs, call.inputs, strict=True))
        found = [places[part] if isinstance(part, Ref) else part for part in operands(call.node)]
        if len(found) != 2:
            raise call.refuse("does not join two tensors, or a tensor and a constant.")
        return found


class Affine(Binary):
    """Plus, minus, times, divided by; with a constant an affine map."""

    def lower(self, call: Call) -> int:
        name, found = operator_name(call.layer), self._operands(call)
        a, b = found if name != "rsub" else reversed(found)
        if isinstance(a, int) and isinstance(b, int):
            if name == "multiply":
                return call.emit(_square(), a) if a == b else composing.multiply(call, (a, b))
            if name != "divide":
                return composing.add(call, (a, b), (1, 1 if name == "add" else -1))
        form = affine_form(name, a, b, int)
        if form is None:
            raise call.refuse("divides by a tensor, which has no bounds.")
        return _scaled(call, a if isinstance(a, int) else b, *form)

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        name, found = operator_name(graph.layer_of(node)), operands(node)
        a, b = found if name != "rsub" else reversed(found)
        if len(found) != 2 or (isinstance(a, Ref) and isinstance(b, Ref)):
            return None
        form = affine_form(name, a, b, Ref)
        width = len(inputs[0].mean)
        if form is None or any(np.size(part) not in (1, width) for part in form):
            return None
        factor, constant = (np.reshape(part, -1) for part in form)
        return inputs[0].scaled(factor, constant)


def affine_form(name: str, a: Any, b: Any, tensor: type) -> tuple[Any, Any] | None:
    """Factor and constant by which a tensor is multiplied and moved, if `a` or `b` is one; None if neither."""
    first = isinstance(a, tensor)
    constant = b if first else a
    if name == "add":
        return 1.0, constant
    if name in ("subtract", "rsub"):
        return (1.0, -constant) if first else (-1.0, constant)
    if name == "multiply":
        return constant, 0.0
    return (1 / constant, 0.0) if first and not isinstance(b, tensor) else None


def _scaled(call: Call, x: int, factor: Any, bias: Any) -> int:
    """X * factor + bias."""
    shape = np.broadcast_shapes(call.shape(x), _inner(factor).shape, _inner(bias).shape)
    place = composing.broadcast(call, x, shape)
    factor, bias = (np.broadcast_to(_inner(value), shape) for value in (factor, bias))
    return call.emit(
        Scale(shape, call.array(factor), call.array(bias), call.array(np.abs(bias))), place
    )


def _inner(value: Any) -> np.ndarray:
    """A constant without a batch axis of length 1 where it has one more axis than needed."""
    value = np.asarray(value, np.float64)
    return value[0] if value.ndim > 1 and value.shape[0] == 1 else value


class Extremum(Binary):
    """The larger or the smaller of two."""

    def lower(self, call: Call) -> int:
        (a, b), sign = self._operands(call), 1 if operator_name(call.layer) == "maximum" else -1
        if isinstance(a, int) and isinstance(b, int):
            return composing.largest(call, (a, b), sign)
        x, at = (a, b) if isinstance(a, int) else (b, a)
        if np.size(at) != 1:
            raise call.refuse("compares with an array, which has no bounds.")
        return call.apply(_clip(float(at), np.inf) if sign > 0 else _clip(-np.inf, float(at)), x)


class Reduction(LayerType):
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
            raise Unsupported("mixes_units", "reduces over all units together")
        keep = len(node.shapes[0]) == rank - 1
        shift = 0 if keep else sum(a < labels.axis for a in axes)
        return (Labels(labels.axis - shift, labels.ids),)

    def lower(self, call: Call) -> int:
        """The axes go in front and are read by one window."""
        name, (x,) = operator_name(call.layer), call.inputs
        if name not in ("mean", "sum", "max", "min"):
            return super().lower(call)
        shape = call.shape(x)
        axis = argument(call.graph, call.node, "axis", 1)
        axes = sorted(
            {int(a) % (len(shape) + 1) for a in np.atleast_1d(axis)} if axis is not None else [0]
        )
        if 0 in axes:
            raise call.refuse("reduces over the batch, which has no bounds.")
        rest = [k for k in range(1, len(shape) + 1) if k not in axes]
        count = int(np.prod([shape[k - 1] for k in axes]))
        if name in ("mean", "sum"):
            place = move(call, x, lambda p: p.transpose(0, *rest, *axes).reshape(1, -1, count))
            kernel = np.full((count, 1), 1 / count if name == "mean" else 1.0)
            place = call.emit(MatMul(call.shape(place), call.array(kernel)), place)
        else:
            sign = call.array(1 if name == "max" else -1)
            place = move(call, x, lambda p: p.transpose(0, *axes, *rest).reshape(1, count, -1))
            place = call.emit(Scale(call.shape(place), sign), place)
            window = Window.of((count,), (count,), (1,), "valid")
            place = call.emit(MaxPool(window), place, shape=(1, call.shape(place)[-1]))
            place = call.emit(Scale(call.shape(place), sign), place)
        return move(call, place, lambda p: p.reshape(1, *call.out_shape))


class Softmax(LayerType):
    """Mixes the units of the axis that it normalises."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        axis = argument(graph, node, "axis", 1)
        rank = rank_in(graph, node)
        axes = [-1] if axis is None else axis if np.ndim(axis) else [axis]
        if inputs[0].axis in {int(a) % rank - 1 for a in axes}:
            raise Unsupported("mixes_units", "applies a softmax over all units together")
        return tuple(inputs[:1])

    def lower(self, call: Call) -> int:
        if operator_name(call.layer) != "softmax":
            raise call.refuse("is a logarithm of a softmax, which has no bounds.")
        axis = argument(call.graph, call.node, "axis", 1, -1)
        return composing.softmax(call, call.inputs[0], axis)

    def gives_probabilities(self, layer: Layer) -> bool:
        return operator_name(layer) == "softmax"

    def closing(self, graph: Graph, node: Node) -> str | None:
        return operator_name(graph.layer_of(node)) if is_row(node.shapes[0]) else None


class Pooling(LayerType):
    """Pooling and resizing: channels, which lie last, pass."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        form = argument(graph, node, "data_format", 99)
        last = inputs[0].axis == rank_in(graph, node) - 2
        if not last or (form is not None and form != "channels_last" and form[-1:] != "C"):
            raise Unsupported(
                "other_axis", "works along another axis than the one the units lie on"
            )
        return tuple(inputs[:1])


TYPES: dict[str, LayerType] = {
    **{name: Unary() for name in UNARY | activations.NAMES},
    **{name: Affine() for name in AFFINE},
    **{name: Extremum() for name in EXTREMA},
    **{name: Binary() for name in BINARY},
    **{name: Reduction() for name in REDUCING},
    **{name: Softmax() for name in SOFTMAXES},
    **{
        name: Pooling()
        for name in ("average_pool", "avg_pool", "avg_pool2d", "max_pool", "max_pool2d")
    },
    **{name: Pooling() for name in ("resize", "resize_v2")},
}
