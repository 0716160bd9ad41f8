"""Products of two tensors, as attention has them when it is written by hand: `matmul` and `einsum`.

A unit that is summed over in both goes from both. No weight reads it there, so that in full shape it is masked at the
first of the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras_robust_prune.graph.graph import MASK, Graph, Node
from keras_robust_prune.graph.tracing import CONSUMES, Labels, Tracing
from keras_robust_prune.layers.base import LayerType, Unsupported
from keras_robust_prune.layers.calls import argument, operator_name

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
    ranks = [len(graph.shape(ref)) + 1 for ref in node.inputs]
    batch = LETTERS[: max(ranks) - 2]
    first, second = (batch[len(batch) - rank + 2 :] for rank in ranks)
    a = "ji" if argument(graph, node, "transpose_a", 2, False) else "ij"
    b = "kj" if argument(graph, node, "transpose_b", 3, False) else "jk"
    return first + a, second + b, batch + "ik"


class Product(LayerType):
    """Sums of products of two tensors."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        if len(node.inputs) != 2:
            raise Unsupported("constant", "multiplies with a constant")
        first, second, result = terms(graph, node)
        letters = [
            term[labels.axis + 1] for term, labels in zip((first, second), inputs, strict=True)
        ]
        if letters[0] == letters[1] and letters[0] not in result:
            return (self.consumed(graph, node, inputs, first, tracing),)
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

    def consumed(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], first: str, tracing: Tracing
    ) -> Labels:
        """What is summed over goes from both; the sums are no units."""
        if inputs[0].axis != len(first) - 2:
            raise Unsupported("product", "sums over another axis of units than the last")
        tracing.unite(inputs[0].ids, inputs[1].ids)
        tracing.use(node.layer, MASK, 0, CONSUMES, inputs[0].ids)
        width = node.shapes[0][-1] or 1
        sums = tracing.fresh(node.name, width, "sums")
        return Labels(len(node.shapes[0]) - 1, sums)

    def macs(self, graph: Graph, node: Node) -> int:
        if len(node.inputs) != 2:
            return 0
        try:
            first, second, _ = terms(graph, node)
        except Unsupported:
            return 0
        lengths: dict[str, int] = {}
        for term, ref in zip((first, second), node.inputs, strict=True):
            for letter, length in zip(term[1:], graph.shape(ref), strict=True):
                lengths[letter] = max(lengths.get(letter, 1), length or 1)
        return math.prod(lengths.values())


TYPES: dict[str, LayerType] = dict.fromkeys(("matmul", "einsum"), Product())
