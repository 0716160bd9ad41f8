"""Operators on tensors: `x * 2 + 1`, `tf.nn.relu(x)`, `keras.ops.mean(x, axis=1)`, `x[:, :3]`."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Ref, refs_in
from keras_robust_prune.layers.lowering.base import Call, Lowering
from keras_robust_prune.layers.lowering.layers import (
    add,
    broadcast,
    concatenate,
    elementwise,
    largest,
    move,
    multiply,
    softmax,
)
from keras_robust_prune.layers.rules.operators import argument, operator_name
from keras_robust_prune.primitives import activations
from keras_robust_prune.primitives.base import MatMul, Scale
from keras_robust_prune.primitives.elementwise import Elementwise
from keras_robust_prune.primitives.windows import MaxPool, Window

SAME_AS = {
    **{"radd": "add", "__add__": "add", "bias_add": "add", "mul": "multiply", "rmul": "multiply"},
    **{"sub": "subtract", "truediv": "divide", "true_divide": "divide", "negative": "neg"},
    **{"reduce_mean": "mean", "reduce_sum": "sum", "reduce_max": "max", "reduce_min": "min"},
    **{"clip_by_value": "clip", "absolute": "abs", "transpose": "permute", "concat": "concatenate"},
    **{"getitem": "get_item", "rsubtract": "rsub"},
}
IDENTITIES = frozenset(["cast", "identity", "stop_gradient"])


def operator(call: Call) -> int:
    """Hands a node without weights to what its name stands for."""
    name = operator_name(call.graph, call.node)
    name = SAME_AS.get(name, name)
    if name in IDENTITIES:
        return call.inputs[0]
    if name in BINARY:
        return BINARY[name](call, *_operands(call))
    if name in ("mean", "sum", "max", "min"):
        return reduce(call, name)
    if name in ("reshape", "expand_dims", "squeeze", "flatten"):
        return move(call, call.inputs[0], lambda p: p.reshape(1, *call.out_shape))
    if name in SPECIAL:
        return SPECIAL[name](call)
    alpha = argument(call.graph, call.node, "negative_slope", 1, 0.2)
    config = {"negative_slope": alpha} if name == "leaky_relu" else {}
    if name == "leaky_relu":
        config["alpha"] = argument(call.graph, call.node, "alpha", 1, alpha)
    if name == "gelu":
        config["approximate"] = argument(call.graph, call.node, "approximate", 1, False)
    found = activations.named(name, call.graph.keras, config)
    if found is None:
        raise call.refuse(f"is the operator '{name}', which has no bounds.")
    return elementwise(call, call.inputs[0], found)


def _operands(call: Call) -> list[Any]:
    """The two arguments: a place for a tensor, an array for a constant."""
    values = [v for v in [*call.node.args, *call.node.kwargs.values()] if not isinstance(v, str)]
    places = dict(zip(call.node.inputs, call.inputs, strict=True))
    found: list[Any] = []
    for value in values:
        if isinstance(value, Ref):
            found.append(places[value])
        elif value is not None and not refs_in(value):
            found.append(np.asarray(value, np.float64))
    if len(found) != 2:
        raise call.refuse("does not join two tensors, or a tensor and a constant.")
    return found


def _constant(call: Call, x: int, factor: Any, bias: Any) -> int:
    """X * factor + bias."""
    shape = np.broadcast_shapes(call.shape(x), _inner(factor).shape, _inner(bias).shape)
    place = broadcast(call, x, shape)
    factor, bias = (np.broadcast_to(_inner(value), shape) for value in (factor, bias))
    return call.emit(
        Scale(shape, call.array(factor), call.array(bias), call.array(np.abs(bias))), place
    )


def _inner(value: Any) -> np.ndarray:
    """A constant without a batch axis of length 1 where it has one more axis than needed."""
    value = np.asarray(value, np.float64)
    return value[0] if value.ndim > 1 and value.shape[0] == 1 else value


def _add(call: Call, a: Any, b: Any) -> int:
    if isinstance(a, int) and isinstance(b, int):
        return add(call, (a, b), (1, 1))
    return _constant(call, a, 1.0, b) if isinstance(a, int) else _constant(call, b, 1.0, a)


def _subtract(call: Call, a: Any, b: Any) -> int:
    if isinstance(a, int) and isinstance(b, int):
        return add(call, (a, b), (1, -1))
    return _constant(call, a, 1.0, -b) if isinstance(a, int) else _constant(call, b, -1.0, a)


def _multiply(call: Call, a: Any, b: Any) -> int:
    if isinstance(a, int) and isinstance(b, int):
        return call.emit(_square(), a) if a == b else multiply(call, (a, b))
    return _constant(call, a, b, 0.0) if isinstance(a, int) else _constant(call, b, a, 0.0)


def _divide(call: Call, a: Any, b: Any) -> int:
    if not isinstance(a, int) or isinstance(b, int):
        raise call.refuse("divides by a tensor, which has no bounds.")
    return _constant(call, a, 1 / b, 0.0)


def _largest(call: Call, a: Any, b: Any, sign: int) -> int:
    if isinstance(a, int) and isinstance(b, int):
        return largest(call, (a, b), sign)
    x, at = (a, b) if isinstance(a, int) else (b, a)
    if np.size(at) != 1:
        raise call.refuse("compares with an array, which has no bounds.")
    return elementwise(call, x, _clip(float(at), np.inf) if sign > 0 else _clip(-np.inf, float(at)))


def _clip(low: float, high: float) -> Elementwise:
    if np.isinf(high):
        return activations.piecewise_linear("clip", (low,), (0.0, 1.0), low)
    if np.isinf(low):
        return activations.piecewise_linear("clip", (high,), (1.0, 0.0), high)
    return activations.piecewise_linear("clip", (low, high), (0.0, 1.0, 0.0), low)


def _square() -> Elementwise:
    return Elementwise("square", np.square, lambda x: 2 * x, (0.0,), increasing=False, convex=True)


def reduce(call: Call, name: str) -> int:
    """Mean, sum, max or min over axes: those axes go in front and are read by one window."""
    (x,) = call.inputs
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


def get_item(call: Call) -> int:
    """Slices."""
    key = call.node.kwargs.get("slice_spec")
    if key is None:
        key = call.node.args[1] if len(call.node.args) > 1 else call.node.kwargs.get("key")
    items = [_slice(item) for item in (key if isinstance(key, (list, tuple)) else [key])]
    if items[0] not in (slice(None), Ellipsis):
        raise call.refuse("takes some items of the batch, which has no bounds.")
    return move(call, call.inputs[0], lambda places: places[tuple(items)])


def _slice(item: Any) -> Any:
    if isinstance(item, dict):
        return slice(item.get("start"), item.get("stop"), item.get("step"))
    return item


def _permute(call: Call) -> int:
    axes = argument(call.graph, call.node, "axes", 1) or argument(call.graph, call.node, "perm", 1)
    return move(call, call.inputs[0], lambda places: places.transpose(tuple(axes)))


def _clipped(call: Call) -> int:
    names = [("x_min", "clip_value_min", "a_min"), ("x_max", "clip_value_max", "a_max")]
    ends = []
    for position, options in enumerate(names):
        found = [argument(call.graph, call.node, name, position + 1) for name in options]
        ends.append(float(next(value for value in found if value is not None)))
    return elementwise(call, call.inputs[0], _clip(*ends))


BINARY: dict[str, Any] = {
    "add": _add,
    "subtract": _subtract,
    "rsub": lambda call, a, b: _subtract(call, b, a),
    "multiply": _multiply,
    "divide": _divide,
    "maximum": lambda call, a, b: _largest(call, a, b, 1),
    "minimum": lambda call, a, b: _largest(call, a, b, -1),
}
SPECIAL: dict[str, Lowering] = {
    "neg": lambda call: _constant(call, call.inputs[0], -1.0, 0.0),
    "square": lambda call: call.emit(_square(), call.inputs[0]),
    "abs": lambda call: elementwise(
        call, call.inputs[0], activations.piecewise_linear("abs", (0.0,), (-1.0, 1.0))
    ),
    "clip": _clipped,
    "softmax": lambda call: softmax(
        call, call.inputs[0], argument(call.graph, call.node, "axis", 1, -1)
    ),
    "relu6": lambda call: elementwise(call, call.inputs[0], activations.relu(6.0)),
    "concatenate": concatenate,
    "permute": _permute,
    "get_item": get_item,
    "slice": get_item,
}
OPERATORS: dict[str, Lowering] = {"operator": operator}
