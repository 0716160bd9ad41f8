"""One rule per layer type: how units pass, what is cut, what it costs."""

from keras_robust_prune.network.rules import (
    attention,
    convolution,
    dense,
    elementwise,
    merging,
    normalization,
    operators,
    shaping,
)
from keras_robust_prune.network.rules.base import (
    Barrier,
    Rule,
    register_rule,
    rule_for,
)

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
    for _kind, _rule in _module.RULES.items():
        register_rule(_kind, _rule)

__all__ = ["Barrier", "Rule", "register_rule", "rule_for"]
