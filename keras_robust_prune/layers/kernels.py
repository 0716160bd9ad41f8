"""Products with a constant are layers: what multiplies with a weight of its own by hand becomes a Dense.

`keras.ops.matmul(x, self.w) + self.b` in the `call` of a layer that was opened is read as a product with an array, and
`keras.ops.einsum("th,ehm->tem", x, self.experts)` likewise. As the layer of Keras that computes the same it has weights
that are counted, cut, repaired, bounded, trained and saved.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.layers.base import Unsupported
from keras_robust_prune.layers.calls import argument, constants, is_operator, operator_name
from keras_robust_prune.layers.indexing import without_ellipsis
from keras_robust_prune.layers.products import operands, terms


class _Factor(NamedTuple):
    """The layer that a product with a constant is, and the tensor that it reads."""

    layer: Layer
    source: Ref


def with_kernels(graph: Graph) -> Graph:
    """The same function with products of a tensor and a constant as layers of Keras's own."""
    layers, nodes = dict(graph.layers), []
    moved: dict[Ref, Ref] = {}
    biased: dict[Ref, str] = {}  # sums that are the bias of the product before them
    for node in graph.nodes:
        node = node.reading(moved)
        if _is(graph, node, "get_item"):
            node = without_ellipsis(graph, node)
        found = _product(graph, node) or _sums(graph, node)
        bias = _bias(graph, node) if node.inputs and node.inputs[0] in biased else None
        if found is not None:
            layers[found.layer.name] = found.layer
            reads = (found.source,)
            nodes.append(dataclasses.replace(node, args=reads, kwargs={}, inputs=reads))
            if found.layer.kind == "Dense" and _read_once(graph, node.ref):
                biased[node.ref] = found.layer.name
        elif bias is not None and len(bias) == _width(layers[biased[node.inputs[0]]]):
            product = layers[biased[node.inputs[0]]]
            layers[product.name] = _with_bias(product, bias)
            moved[node.ref] = node.inputs[0]
            del biased[node.inputs[0]]
        else:
            nodes.append(node)
    return graph.rewired(layers, nodes, moved)


def _product(graph: Graph, node: Node) -> _Factor | None:
    """The Dense that a `matmul` with a matrix is; None for every other call."""
    layer = graph.layer_of(node)
    if not _is(graph, node, "matmul") or len(node.inputs) != 1:
        return None
    kernel = _operand(node, 1, "b", "x2")
    if not isinstance(kernel, np.ndarray) or kernel.ndim != 2 or len(node.shapes[0]) < 1:
        return None
    tensor = _operand(node, 0, "a", "x1")
    if argument(graph, node, "transpose_a", 2, False) or node.inputs[0] != tensor:
        return None
    kernel = kernel.T if argument(graph, node, "transpose_b", 3, False) else kernel
    config = {"name": layer.name, "units": int(kernel.shape[1]), "activation": "linear"}
    config |= {"use_bias": False, "dtype": str(kernel.dtype)}
    made = Layer(layer.name, "Dense", config, {"kernel": kernel}, trainable=layer.trainable)
    return _Factor(made, node.inputs[0])


def _sums(graph: Graph, node: Node) -> _Factor | None:
    """The EinsumDense that an `einsum` with an array is, if it sums over the last axis; None for every other call."""
    arrays = constants(node)
    if not _is(graph, node, "einsum") or len(node.inputs) != 1 or len(arrays) != 1:
        return None
    try:
        *factors, target = terms(graph, node)
    except Unsupported:
        return None
    number = next(k for k, part in enumerate(operands(node)) if isinstance(part, Ref))
    source, letters = factors[number], factors[1 - number]
    if (
        any(len(set(term)) != len(term) for term in (source, letters, target))
        or target[0] != source[0]
        or source[0] in letters
        or source[-1] in target
        or not set(source[:-1]) <= set(target)
        or target[-1] in source
        or {source[-1], target[-1]} - set(letters)
    ):
        return None
    layer, (kernel,) = graph.layer_of(node), arrays
    sizes = dict(zip(letters, kernel.shape, strict=True))
    lengths = zip(source[1:], graph.shape(node.inputs[0]), strict=True)
    if any(length not in (None, sizes.get(letter, length)) for letter, length in lengths):
        return None  # it broadcasts
    shape = [sizes.get(letter) for letter in target[1:]]
    config: dict[str, Any] = {"name": layer.name, "equation": f"{source},{letters}->{target}"}
    config |= {"output_shape": tuple(shape), "activation": "linear", "bias_axes": None}
    config["dtype"] = str(kernel.dtype)
    made = Layer(layer.name, "EinsumDense", config, {"kernel": kernel}, trainable=layer.trainable)
    return _Factor(made, node.inputs[0])


def _is(graph: Graph, node: Node, name: str) -> bool:
    layer = graph.layer_of(node)
    return is_operator(layer) and operator_name(layer) == name


def _operand(node: Node, place: int, *names: str) -> Any:
    """An argument by its place or one of its names."""
    if len(node.args) > place:
        return node.args[place]
    return next((node.kwargs[name] for name in names if name in node.kwargs), None)


def _bias(graph: Graph, node: Node) -> np.ndarray | None:
    """The vector that a call adds to a tensor; None if it does something else."""
    if not _is(graph, node, "add") or len(node.inputs) != 1:
        return None
    arrays = [part for part in (*node.args, *node.kwargs.values()) if isinstance(part, np.ndarray)]
    return arrays[0] if len(arrays) == 1 and arrays[0].ndim == 1 else None


def _read_once(graph: Graph, ref: Ref) -> bool:
    return len(graph.consumers.get(ref, ())) == 1 and ref not in graph.outputs


def _width(layer: Layer) -> int:
    return int(layer.weights["kernel"].shape[1])


def _with_bias(layer: Layer, bias: np.ndarray) -> Layer:
    weights = {**layer.weights, "bias": bias}
    return dataclasses.replace(layer, config={**layer.config, "use_bias": True}, weights=weights)
