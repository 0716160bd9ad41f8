"""Products of two tensors, as attention has them when it is written by hand: `matmul`, `einsum` and attention itself.

A unit that is summed over in both goes from both. No weight reads it there, so that in full shape it is masked at the
first of the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_robust_prune.graph.graph import MASK, Graph, Node, Ref
from keras_robust_prune.graph.nest import leaves
from keras_robust_prune.graph.tracing import CARRIES, CONSUMES, Labels, Tracing
from keras_robust_prune.layers.base import Kept, LayerType, Renumbered, Unsupported
from keras_robust_prune.layers.calls import argument, constants, operator_name

LETTERS = "BCDEFGHI"


def terms(graph: Graph, node: Node) -> tuple[str, str, str]:
    """The product as the two factors and the result of an einsum, one letter per axis, the batch axis with them.

    Example:
        `matmul` of tensors with three axes is `Bij,Bjk->Bik`.
    """
    if operator_name(graph.layer_of(node)) == "einsum":
        text = graph.layer_of(node).config.get("subscripts")  # Keras 3; tf_keras has it in the call
        text = argument(graph, node, "equation", 0) if text is None else text
        left, _, result = str(text).replace(" ", "").partition("->")
        factors = left.split(",")
        if len(factors) != 2 or not result or "." in left:
            raise Unsupported("einsum", "is an einsum of another form than 'ab,bc->ac'")
        return factors[0], factors[1], result
    ranks = [
        len(graph.shape(part)) + 1 if isinstance(part, Ref) else part.ndim
        for part in operands(node)
    ]
    if len(ranks) != 2 or min(ranks) < 2:
        raise Unsupported("product", "multiplies other than two tensors of matrices")
    batch = LETTERS[: max(ranks) - 2]
    first, second = (batch[len(batch) - rank + 2 :] for rank in ranks)
    a = "ji" if argument(graph, node, "transpose_a", 2, False) else "ij"
    b = "kj" if argument(graph, node, "transpose_b", 3, False) else "jk"
    return first + a, second + b, batch + "ik"


def operands(node: Node) -> list[Ref | np.ndarray]:
    """The tensors and arrays that a call multiplies, in order."""
    given = leaves((node.args, dict(node.kwargs)))
    return [part for part in given if isinstance(part, (Ref, np.ndarray))]


def consumed(node: Node, labels: Labels, tracing: Tracing) -> Sequence[Labels]:
    """Labels of sums over units, which are no units."""
    tracing.use(node.layer, MASK, 0, CONSUMES, labels.ids)
    sums = tracing.fresh(node.name, node.shapes[0][-1] or 1, "sums")
    return (Labels(len(node.shapes[0]) - 1, sums),)


class Product(LayerType):
    """Sums of products of two tensors."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        if len(node.inputs) == 1 and len(constants(node)) == 1:
            return self.with_constant(graph, node, inputs[0], tracing)
        if len(node.inputs) != 2:
            raise Unsupported("product", "multiplies other than two tensors")
        first, second, result = terms(graph, node)
        letters = [
            term[labels.axis + 1] for term, labels in zip((first, second), inputs, strict=True)
        ]
        if letters[0] == letters[1] and letters[0] not in result:
            if inputs[0].axis != len(first) - 2:
                raise Unsupported("product", "sums over another axis of units than the last")
            tracing.unite(inputs[0].ids, inputs[1].ids)
            return consumed(node, inputs[0], tracing)
        found = []
        for letter, labels in zip(letters, inputs, strict=True):
            if letter in result[1:] and len(labels.ids) == node.shapes[0][result.index(letter) - 1]:
                found.append(Labels(result.index(letter) - 1, labels.ids))
            else:
                tracing.protect(
                    labels.ids, "product", node.layer, "multiplies it with another axis"
                )
        if not found:
            raise Unsupported("product", "multiplies in a way that no axis of units survives")
        for labels in found[1:]:
            if labels.axis == found[0].axis:
                tracing.unite(found[0].ids, labels.ids)
            else:
                tracing.protect(labels.ids, "product", node.layer, "multiplies it with other units")
        return (found[0],)

    def with_constant(
        self, graph: Graph, node: Node, labels: Labels, tracing: Tracing
    ) -> Sequence[Labels]:
        """Units meet entries of a constant, which go with them."""
        first, second, result = terms(graph, node)
        parts = operands(node)
        number = next(k for k, part in enumerate(parts) if isinstance(part, Ref))
        mine, other = ((first, second), (second, first))[number]
        (value,) = constants(node)
        letter = mine[labels.axis + 1]
        if value.ndim != len(other) or mine.count(letter) + other.count(letter) > 2:
            raise Unsupported("product", "multiplies in a way that is not known")
        if letter in other and value.shape[other.index(letter)] == len(labels.ids):
            tracing.use(node.layer, "constant 0", other.index(letter), CARRIES, labels.ids)
        if letter in result:
            return (Labels(result.index(letter) - 1, labels.ids),)
        if letter not in other or labels.axis != len(mine) - 2:
            raise Unsupported("product", "sums over another axis of units than the last")
        return consumed(node, labels, tracing)

    def macs(self, graph: Graph, node: Node) -> int:
        try:
            first, second, _ = terms(graph, node)
        except Unsupported:
            return 0
        lengths: dict[str, int] = {}
        shapes = [
            graph.shape(part) if isinstance(part, Ref) else part.shape[-len(term) + 1 :]
            for part, term in zip(operands(node), (first, second), strict=True)
        ]
        for term, shape in zip((first, second), shapes, strict=True):
            for letter, length in zip(term[-len(shape) :], shape, strict=True):
                lengths[letter] = max(lengths.get(letter, 1), length or 1)
        return math.prod(lengths.values())


class DotProductAttention(LayerType):
    """Attention as one operator: the entries within heads of queries, keys and values go together, or whole heads."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        query, key, value = inputs[:3]
        for labels in inputs[3:]:
            tracing.protect(labels.ids, "mask", node.layer, "takes it as a mask or a bias")
        last = len(node.shapes[0]) - 1
        axes = {labels.axis for labels in (query, key, value)}
        same = len({len(labels.ids) for labels in (query, key, value)}) == 1
        if len(axes) != 1 or not same or query.axis not in (last, last - 1):
            raise Unsupported("other_axis", "joins tensors whose units lie on different axes")
        tracing.unite(query.ids, key.ids)
        tracing.unite(query.ids, value.ids)
        if query.axis == last:
            tracing.use(node.layer, MASK, 0, CONSUMES, query.ids)
        return (value,)

    def renumber(self, graph: Graph, node: Node, kept: Sequence[Kept]) -> Renumbered:
        """The scale, which would change with the length of heads, stays."""
        scale = argument(graph, node, "scale", 5)
        if scale is None:
            scale = 1 / math.sqrt(graph.shape(node.inputs[0])[-1] or 1)
        return Renumbered(node.args[:5], {**node.kwargs, "scale": scale}, {})

    def macs(self, graph: Graph, node: Node) -> int:
        steps, heads, width = (length or 1 for length in graph.shape(node.inputs[0]))
        return 2 * steps * (graph.shape(node.inputs[1])[0] or 1) * heads * width


TYPES: dict[str, LayerType] = {
    **dict.fromkeys(("matmul", "einsum"), Product()),
    "dot_product_attention": DotProductAttention(),
}
