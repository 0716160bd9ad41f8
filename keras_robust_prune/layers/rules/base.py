"""What a rule is, and the table of them.

A `Rule` answers for one layer type how a unit's index passes through it and which weights it indexes (`trace`), what
its configuration reads once units are gone (`resize`), what it costs (`positions`), and how it computes in terms of the
few primitives that the analyses know (`lower`). Layers are recognised by type and configuration, never by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Layer, Node, Shape
from keras_robust_prune.graph.tracing import Labels, Tracing

if TYPE_CHECKING:
    from keras_robust_prune.primitives.base import Primitive

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

    Attributes:
        kernels: names of the weights whose entries are multiplied with activations.
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
            "no_rule", f"has no rule for its type, {kind}: krp.register_rule gives it one"
        )

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        """Changes of the configuration once axes have become shorter.

        Args:
            layer: before the cut.
            lengths: the new length of every labelled axis, by `(weight, axis)`.
        """
        return {}

    def resize_call(
        self, graph: Graph, node: Node, shapes: Sequence[Shape]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Positional and keyword arguments of a call once axes have become shorter.

        Args:
            graph: before the cut.
            node: the call, before the cut.
            shapes: its outputs' shapes after it.
        """
        return node.args, node.kwargs

    def kernels_of(self, layer: Layer) -> tuple[str, ...]:
        """Names of a layer's weights whose entries are multiplied with activations."""
        return tuple(name for name in self.kernels if name in layer.weights)

    def positions(self, graph: Graph, node: Node) -> int:
        """How many times each entry of the kernels is multiplied in one call."""
        return 1

    def macs(self, graph: Graph, node: Node) -> int:
        """Multiply-accumulate operations of one call on one input."""
        layer = graph.layer_of(node)
        size = sum(int(layer.weights[name].size) for name in self.kernels_of(layer))
        return size * self.positions(graph, node) if size else 0

    def lower(self, graph: Graph, node: Node) -> Sequence[Primitive] | None:
        """The call as primitives, one after the other, for bounds; None where `lowering` knows it."""
        return None


class Opaque(Rule):
    """For a layer that a SavedModel brought back without its class."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        raise Barrier(
            "opaque",
            "was loaded without its class: load the model with custom_objects and pass it in memory",
        )


KERAS_RULES: dict[str, Rule] = {}
_USER_RULES: dict[str, Rule] = {}
_NO_RULE, _OPAQUE = Rule(), Opaque()


def register_rule(kind: str | type, rule: Rule) -> None:
    """Tell the toolkit how units pass through a layer type of your own.

    `trace` answers two questions: which entries of which weights belong to which unit, noted with
    `tracing.use(layer, weight, axis, role, ids)`, and where the units lie in the output, which it
    returns. Roles: `"produces"` for weights that make new units (`tracing.fresh`), `"consumes"` for
    those that read and mix them, `"carries"` for those that go along. `resize` tells what the
    configuration reads afterwards, if it names a width; `kernels` and `positions` what it costs.
    A layer that needs no weights cut can reuse a rule: `rules.elementwise.PassThrough()`.

    Args:
        kind: the layer's class, or its name.
        rule: an instance of a `Rule` subclass. It replaces one that was there.

    Raises:
        TypeError: `rule` is not a `Rule` instance.

    Example:
        A layer that multiplies every channel by a gain of its own, and keeps its width in its
        configuration:

        >>> class GainRule(Rule):
        ...     def trace(self, graph, node, inputs, tracing):
        ...         (labels,) = inputs
        ...         tracing.use(node.layer, "gain", 0, "carries", labels.ids)
        ...         return (labels,)
        ...
        ...     def resize(self, layer, lengths):
        ...         return {"width": lengths["gain", 0]}
        >>> register_rule("Gain", GainRule())
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"register_rule expects an instance of a Rule subclass, got {rule!r}.")
    _USER_RULES[kind if isinstance(kind, str) else kind.__name__] = rule


def rule_for(layer: Layer) -> Rule:
    """The rule of a layer's type; one that lets nothing pass if there is none.

    Keras's own rules serve Keras's own classes: a class of the user's that has the same name needs
    a rule of its own.
    """
    origin = getattr(layer.origin, "layer_class", layer.origin)
    module = getattr(origin, "__module__", None) or "keras"
    if module.endswith("saved_model.load"):
        return _OPAQUE
    if layer.kind in _USER_RULES:
        return _USER_RULES[layer.kind]
    if module.partition(".")[0] not in backends.NAMES:
        return _NO_RULE
    family = layer.kind.split(".")[0] + ".*"  # operations of Keras 3 are of kind "ops.<Class>"
    return KERAS_RULES.get(layer.kind) or KERAS_RULES.get(family, _NO_RULE)


def last_axis(graph: Graph, node: Node, labels: Labels, index: int = 0) -> np.ndarray:
    """The ids of an input whose units must lie on its last axis."""
    if labels.axis != len(graph.shape(node.inputs[index])) - 1:
        raise Barrier("other_axis", "works along another axis than the one the units lie on")
    return labels.ids


def one_output(node: Node, ids: np.ndarray) -> tuple[Labels]:
    """Labels on the last axis of a single output."""
    return (Labels(len(node.shapes[0]) - 1, ids),)


def channel_axis(layer: Layer, rank: int) -> int:
    """Where a layer with a `data_format` has its channels, without the batch axis."""
    return 0 if layer.config.get("data_format") == "channels_first" else rank - 1


def channels_in(graph: Graph, node: Node, labels: Labels) -> np.ndarray:
    """The ids of an input whose units must be its channels."""
    if labels.axis != channel_axis(graph.layer_of(node), len(graph.shape(node.inputs[0]))):
        raise Barrier("other_axis", "works along another axis than the one the units lie on")
    return labels.ids


def channels_out(graph: Graph, node: Node, ids: np.ndarray) -> tuple[Labels]:
    """Labels on the channels of a single output."""
    return (Labels(channel_axis(graph.layer_of(node), len(node.shapes[0])), ids),)


def known_weights(layer: Layer, *names: str) -> None:
    """A barrier if a layer has other weights than these."""
    unknown = [name for name in layer.weights if name not in names]
    if unknown:
        listed = ", ".join(f"'{name}'" for name in unknown)
        raise Barrier("unknown_weights", f"has weights that its rule does not know: {listed}")


def known_size(shape: Sequence[int | None]) -> int:
    """Product of a shape's known lengths; unknown ones count as 1."""
    return int(np.prod([length or 1 for length in shape], dtype=np.int64))


def places(layer: Layer, shape: Sequence[int | None]) -> int:
    """How many positions a tensor has beside its channels; unknown lengths count as 1."""
    axis = channel_axis(layer, len(shape))
    return known_size([length for k, length in enumerate(shape) if k != axis])
