"""What a rule is, and the table of them.

A `Rule` answers for one layer type how a unit's index passes through it and which weights it indexes (`trace`), what
its configuration reads once units are gone (`resize`), what it costs (`positions`), and how it computes in terms of the
few primitives that the analyses know (`lower`). Layers are recognised by type and configuration, never by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_robust_prune.network.graph import Graph, Layer, Node
from keras_robust_prune.network.tracing import Labels, Tracing

if TYPE_CHECKING:
    from keras_robust_prune.network.primitives import Primitive

Lengths = Mapping[tuple[str, int], int]


class Barrier(Exception):
    """Raised by `trace` when units that reach a layer cannot be removed.

    Args:
        code: one word for programs.
        reason: the end of a sentence that starts with the layer's name.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Rule:
    """How units pass through one type of layer; the base class lets nothing pass.

    Subclass it for a layer of your own and hand it to `register_rule`.

    Example:
        >>> class PerChannelGain(Rule):
        ...     def trace(self, graph, node, inputs, tracing):
        ...         (labels,) = inputs
        ...         tracing.use(node.layer, "gain", 0, "carries", labels.ids)
        ...         return (labels,)
        >>> register_rule("PerChannelGain", PerChannelGain())
    """

    kernels: tuple[str, ...] = ()

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        """Pass the inputs' labels on to the outputs.

        Args:
            graph: the whole network.
            node: the call.
            inputs: labels of each tensor in `node.inputs`.
            tracing: where weights' labels, unions and freezes are noted.

        Returns:
            Labels of each output.

        Raises:
            Barrier: units that reach this layer have to stay.
        """
        kind = graph.layer_of(node).kind
        raise Barrier(
            "no_rule",
            f"({kind}) has no rule. To prune what feeds it, register one: krp.register_rule(...)",
        )

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        """Changes of the configuration once axes have become shorter.

        Args:
            layer: before the cut.
            lengths: the new length of every labelled axis, by `(weight, axis)`.
        """
        return {}

    def positions(self, graph: Graph, node: Node) -> int:
        """How many times each entry of the kernels is multiplied in one call."""
        return 1

    def macs(self, graph: Graph, node: Node) -> int:
        """Multiply-accumulate operations of one call on one input."""
        weights = graph.layer_of(node).weights
        size = sum(int(weights[name].size) for name in self.kernels if name in weights)
        return size * self.positions(graph, node) if size else 0

    def lower(self, graph: Graph, node: Node) -> Sequence[Primitive]:
        """The call as primitives, for bounds; an error names a layer that has none."""
        from keras_robust_prune.network import lowering

        return lowering.lower(graph, node)


_RULES: dict[str, Rule] = {}
_NO_RULE = Rule()


def register_rule(kind: str | type, rule: Rule) -> None:
    """Tell the toolkit how units pass through a layer type of your own.

    Args:
        kind: the layer's class, or its name.
        rule: an instance of a `Rule` subclass.

    Raises:
        TypeError: `rule` is not a `Rule` instance.

    Example:
        >>> from keras_robust_prune.network.rules.elementwise import PassThrough
        >>> register_rule("MyActivation", PassThrough())
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"register_rule expects an instance of a Rule subclass, got {rule!r}.")
    _RULES[kind if isinstance(kind, str) else kind.__name__] = rule


def rule_for(layer: Layer) -> Rule:
    """The rule of a layer's type; one that lets nothing pass if there is none."""
    family = layer.kind.split(".")[0] + ".*"  # operations of Keras 3 are of kind "ops.<Class>"
    return _RULES.get(layer.kind) or _RULES.get(family, _NO_RULE)


def last_axis(graph: Graph, node: Node, labels: Labels, index: int = 0) -> np.ndarray:
    """The ids of an input whose units must lie on its last axis."""
    if labels.axis != len(graph.shape(node.inputs[index])) - 1:
        raise Barrier("other_axis", "works along another axis than the one the units lie on")
    return labels.ids


def one_output(node: Node, ids: np.ndarray) -> tuple[Labels]:
    """Labels on the last axis of a single output."""
    return (Labels(len(node.shapes[0]) - 1, ids),)


def spatial_size(shape: Sequence[int | None]) -> int:
    """Product of a shape's known lengths; unknown ones count as 1."""
    return int(np.prod([length or 1 for length in shape], dtype=np.int64))
