"""One rule per layer type: how units pass, what is cut, what it costs."""

from keras_robust_prune.layers.rules import (
    attention,
    convolution,
    dense,
    elementwise,
    merging,
    normalization,
    operators,
    shaping,
)
from keras_robust_prune.layers.rules.base import KERAS_RULES, Barrier, Rule, register_rule, rule_for

for _module in (
    elementwise,
    dense,
    convolution,
    normalization,
    merging,
    shaping,
    attention,
    operators,
):
    KERAS_RULES.update(_module.RULES)

__all__ = ["Barrier", "Rule", "register_rule", "rule_for"]
