"""One call of a layer: what stands in it, and how it is written down as primitives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node
from keras_robust_prune.graph.nest import map_leaves
from keras_robust_prune.primitives.base import Primitive
from keras_robust_prune.primitives.elementwise import Elementwise
from keras_robust_prune.primitives.linear import Linear
from keras_robust_prune.primitives.program import Operation


class LoweringError(ValueError):
    """A layer has no bounds; the message names all such layers and the way out."""


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer while it is written down as primitives.

    Attributes:
        graph: the network, with every activation as a layer of its own.
        node: the call.
        inputs: places of its inputs.
        operations: what has been written so far.
        dtype: the precision of the program.
    """

    graph: Graph
    node: Node
    inputs: tuple[int, ...]
    operations: list[Operation]
    dtype: Any

    @property
    def layer(self) -> Layer:
        """The layer called."""
        return self.graph.layer_of(self.node)

    @property
    def config(self) -> Mapping[str, Any]:
        """Its configuration."""
        return self.layer.config

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of its first output, without the batch axis."""
        return fixed(self.node.shapes[0], self.node.name)

    def shape(self, place: int) -> tuple[int, ...]:
        """Shape of a value, without the batch axis."""
        return self.operations[place].shape

    def array(self, value: Any) -> np.ndarray:
        """A number or an array in the program's precision."""
        return np.asarray(value, self.dtype)

    def weight(self, name: str) -> np.ndarray | None:
        """One of its weights in the program's precision, or None."""
        value = self.layer.weights.get(name)
        return None if value is None else self.array(value)

    def kernel(self, name: str) -> np.ndarray:
        """A weight without which nothing can be computed."""
        kernel = self.weight(name)
        if kernel is None:
            raise self.refuse(f"holds no '{name}'.")
        return kernel

    def emit(
        self, primitive: Primitive | None, *inputs: int, shape: tuple[int, ...] | None = None
    ) -> int:
        """Write an operation; its shape is that of its first input unless given or known.

        Returns:
            Its place.
        """
        if shape is None:
            shape = primitive.out_shape if isinstance(primitive, Linear) else self.shape(inputs[0])
        shape = tuple(int(n) for n in shape)
        self.operations.append(Operation(primitive, inputs, shape, self.node.name, self.node.layer))
        return len(self.operations) - 1

    def apply(self, function: Elementwise, x: int) -> int:
        """Write an activation; the identity is left out."""
        return x if function.name == "linear" else self.emit(function, x)

    def refuse(self, why: str) -> LoweringError:
        """The error that names this layer."""
        return LoweringError(f"'{self.layer.name}' ({self.layer.kind}) {why}")


def fixed(shape: tuple[int | None, ...], name: str) -> tuple[int, ...]:
    """A shape without unknown lengths."""
    if any(length is None for length in shape):
        raise LoweringError(
            f"'{name}' has the shape {shape}, whose size is open: rebuild the model with a fixed input shape."
        )
    return tuple(int(length or 0) for length in shape)


def map_constants(function: Callable[[int, np.ndarray], Any], structure: Any) -> Any:
    """The same nest of tuples, lists and dicts with `function` applied to every array and its number."""
    count = iter(range(1 << 30))

    def visit(leaf: Any) -> Any:
        return function(next(count), leaf) if isinstance(leaf, np.ndarray) else leaf

    return map_leaves(visit, structure)


def constants(node: Node) -> list[np.ndarray]:
    """The arrays among the arguments of a call, in order of appearance."""
    found: list[np.ndarray] = []
    map_constants(lambda _, value: found.append(value), (node.args, dict(node.kwargs)))
    return found


def argument(graph: Graph, node: Node, name: str, position: int, default: Any = None) -> Any:
    """An argument of an operator, wherever it stands: by name, by position, in the configuration."""
    if name in node.kwargs:
        return node.kwargs[name]
    if len(node.args) > position:
        return node.args[position]
    layer = graph.layer_of(node)
    return layer.config.get(name, getattr(layer.origin, name, default))


def rank_in(graph: Graph, node: Node, index: int = 0) -> int:
    """Number of axes of an input, with the batch axis."""
    return len(graph.shape(node.inputs[index])) + 1


def is_operator(layer: Layer) -> bool:
    """Whether it is an operator on tensors: of tf_keras, or an operation of Keras 3, whose kind is `"ops.<Class>"`."""
    return layer.kind.startswith("ops.") or layer.kind in ("TFOpLambda", "SlicingOpLambda")


def operator_name(layer: Layer) -> str:
    """What an operator is called, in lower case, without its module, in one spelling: `"add"`, `"mean"`."""
    name = str(layer.config.get("function", layer.kind)).rsplit(".", 1)[-1]
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
    return SAME_AS.get(snake, snake)


SAME_AS = {
    **{f"reduce_{name}": name for name in ("all", "any", "max", "mean", "min", "prod", "sum")},
    **{"reduce_std": "std", "reduce_variance": "var"},
    **{"radd": "add", "__add__": "add", "bias_add": "add", "mul": "multiply", "rmul": "multiply"},
    **{"sub": "subtract", "rsubtract": "rsub", "truediv": "divide", "true_divide": "divide"},
    **{"negative": "neg", "absolute": "abs", "clip_by_value": "clip", "power": "pow"},
    **{"concat": "concatenate", "getitem": "get_item", "re_l_u": "relu"},
}
