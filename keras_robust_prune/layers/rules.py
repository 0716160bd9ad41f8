"""What was `krp.Rule` and `krp.register_rule`, as it was; asking the menu for them warns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_robust_prune.graph.graph import Graph, Node
from keras_robust_prune.layers.base import LayerType, register_layer
from keras_robust_prune.layers.calls import Call
from keras_robust_prune.primitives.base import Primitive
from keras_robust_prune.primitives.linear import Linear


class Rule(LayerType):
    """What is now `krp.LayerType`; its `lower(graph, node)` returns primitives, one after the other, or None."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = vars(cls).get("lower")
        if own is not None:
            type.__setattr__(cls, "_chain", own)
            type.__delattr__(cls, "lower")

    def _chain(self, graph: Graph, node: Node) -> Sequence[Primitive] | None:
        """The `lower` of a subclass, as it was."""
        return None

    def lower(self, call: Call) -> int:
        primitives = self._chain(call.graph, call.node)
        if primitives is None:
            return super().lower(call)
        place, *others = call.inputs
        for primitive in primitives:
            shape = None if isinstance(primitive, Linear) else call.out_shape
            place, others = call.emit(primitive, place, *others, shape=shape), []
        return place


def register_rule(kind: str | type, rule: Rule) -> None:
    """What is now `krp.register_layer`.

    Args:
        kind: the layer's class, or its name.
        rule: an instance of a `Rule` subclass.

    Raises:
        TypeError: `rule` is no such instance.
    """
    if not isinstance(rule, Rule):
        raise TypeError(f"register_rule expects an instance of a Rule subclass, got {rule!r}.")
    register_layer(kind, rule)
