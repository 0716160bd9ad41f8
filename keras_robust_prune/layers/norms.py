"""Root mean square normalisation that is written by hand, as the layer of Keras that computes the same.

`x * rsqrt(mean(square(x)) + epsilon) * scale` mixes all units as it stands. As an `RMSNormalization` one that goes is a
zero in its statistics (`padding`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.layers.calls import argument, is_operator, operator_name, rank_in


class _Norm(NamedTuple):
    """A normalisation: the tensor it reads, the calls it is made of, the last of which gives its output."""

    source: Ref
    parts: tuple[Node, ...]
    epsilon: float
    scale: np.ndarray


def with_norms(graph: Graph) -> Graph:
    """The same function with normalisations by hand as layers; tf_keras has no such layer."""
    if graph.keras != "keras":
        return graph
    found = [norm for node in graph.nodes if (norm := _norm(graph, node)) is not None]
    if not found:
        return graph
    layers, gone = dict(graph.layers), {part.name for norm in found for part in norm.parts}
    last = {norm.parts[-1].name: norm for norm in found}
    nodes: list[Node] = []
    moved: dict[Ref, Ref] = {}
    for node in graph.nodes:
        node = node.reading(moved)
        if node.name in last:
            norm = last[node.name]
            source = moved.get(norm.source, norm.source)
            layer = graph.layer_of(norm.parts[0])
            config = {"name": layer.name, "axis": -1, "epsilon": norm.epsilon, "dtype": "float32"}
            weights = {"scale": norm.scale}
            layers[layer.name] = Layer(layer.name, "RMSNormalization", config, weights)
            name = norm.parts[0].name
            nodes.append(Node(name, layer.name, (source,), {}, (source,), node.shapes))
            moved[node.ref] = Ref(name)
        elif node.name not in gone:
            nodes.append(node)
    return graph.rewired(layers, nodes, moved)


def _norm(graph: Graph, mean: Node) -> _Norm | None:
    """The normalisation that a mean of squares is part of; None if it is none."""
    if not _is(graph, mean, "mean") or len(mean.inputs) != 1 or _shared(graph, mean):
        return None
    axes = np.atleast_1d(argument(graph, mean, "axis", 1, None))
    width = (graph.shape(mean.inputs[0]) or (None,))[-1]
    if len(axes) != 1 or axes[0] not in (-1, rank_in(graph, mean) - 1) or width is None:
        return None
    square = graph.node[mean.inputs[0].node]
    source = _squared(graph, square)
    if source is None or _shared(graph, square) or mean.shapes[0][-1:] != (1,):
        return None
    shifted = _only(graph, mean, "add")
    epsilon = None if shifted is None else _constant(shifted, 1)
    if shifted is None or epsilon is None or len(shifted.inputs) != 1:
        return None
    roots = _roots(graph, shifted)
    normed = None if not roots else _only(graph, roots[-1], _joining(graph, roots))
    if normed is None or set(normed.inputs) != {source, roots[-1].ref}:
        return None
    if _joining(graph, roots) == "divide" and normed.inputs[0] != source:
        return None
    parts = [square, mean, shifted, *roots, normed]
    scale = np.ones(width, np.float32)
    scaled = _only(graph, normed, "multiply")
    gain = None if scaled is None or len(scaled.inputs) != 1 else _constant(scaled, width)
    if scaled is not None and gain is not None and scaled.shapes == normed.shapes:
        parts.append(scaled)
        scale = gain.astype(np.float32)
    if any(graph.calls[part.layer] != (part,) for part in parts):
        return None
    return _Norm(source, tuple(parts), float(np.ravel(epsilon)[0]), scale)


def _roots(graph: Graph, shifted: Node) -> list[Node]:
    """The calls that take the root of a call, or one over it."""
    root = _only(graph, shifted, "rsqrt", "sqrt", "pow")
    if root is None or (_is(graph, root, "pow") and not np.all(_arguments(root)[1:] == [-0.5])):
        return []
    inverse = _only(graph, root, "reciprocal") if _is(graph, root, "sqrt") else None
    return [root] if inverse is None else [root, inverse]


def _joining(graph: Graph, roots: list[Node]) -> str:
    """How a tensor is scaled by what `_roots` found."""
    return "divide" if _is(graph, roots[-1], "sqrt") else "multiply"


def _is(graph: Graph, node: Node, *names: str) -> bool:
    layer = graph.layer_of(node)
    return is_operator(layer) and operator_name(layer) in names


def _squared(graph: Graph, node: Node) -> Ref | None:
    """What a call squares; None if it does something else."""
    given = _arguments(node)
    square = _is(graph, node, "square") and len(node.inputs) == 1
    power = _is(graph, node, "pow") and len(node.inputs) == 1 and np.all(given[1:] == [2])
    product = _is(graph, node, "multiply") and len(node.inputs) == 2 and len(set(node.inputs)) == 1
    return node.inputs[0] if square or power or product else None


def _arguments(node: Node) -> list[Any]:
    return [*node.args, *node.kwargs.values()]


def _constant(node: Node, width: Any) -> np.ndarray | None:
    """The number or the vector of a length that a call joins a tensor with; None if it joins another."""
    found = [np.asarray(part) for part in _arguments(node) if not isinstance(part, (Ref, str))]
    known = len(found) == 1 and found[0].dtype.kind in "fi" and found[0].size == width
    return found[0].reshape(-1) if known and found[0].shape[-1:] in ((), (width,)) else None


def _readers(graph: Graph, node: Node) -> tuple[Node, ...]:
    return graph.consumers.get(node.ref, ())


def _shared(graph: Graph, node: Node) -> bool:
    return len(_readers(graph, node)) != 1 or node.ref in graph.outputs


def _only(graph: Graph, node: Node, *names: str) -> Node | None:
    """The call that alone reads another, if it is one of these operators."""
    if _shared(graph, node):
        return None
    (reader,) = _readers(graph, node)
    return reader if _is(graph, reader, *names) else None
