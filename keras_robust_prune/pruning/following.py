"""What callbacks make of the masked model: they may have restored the weights, and the masks, of an earlier step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.surgery.cutting import mask
from keras_robust_prune.surgery.groups import ChannelGroups
from keras_robust_prune.surgery.plan import Plan
from keras_robust_prune.training.wrappers import plan_of


def followed(
    masked: Any, state: PruningState, plans: Sequence[Plan], groups: ChannelGroups
) -> PruningState:
    """The state that a masked model stands for: that of the last step, or of an earlier one.

    Args:
        masked: the model, as callbacks left it.
        state: after the last step.
        plans: after every step, the last one's at the end.
        groups: of the dense network.
    """
    graph = read(masked)
    masks = plan_of(masked, graph, groups)
    if _same(masks, _visible(state.plan, masks)):
        return state
    for index, plan in enumerate(plans):
        if _same(masks, _visible(plan, masks)):
            step = state.step - (len(plans) - 1 - index)
            return PruningState(step, mask(graph, groups, plan), plan)
    return state


def _visible(plan: Plan, masks: Plan) -> Plan:
    """The part of a plan that masks can show: groups that masks do not reach are left out."""
    reached = {removal.group for removal in masks.removals}
    kept = tuple(removal for removal in plan.removals if removal.group in reached)
    return Plan(kept if masks.removals else plan.removals, plan.widths)


def _same(first: Plan, second: Plan) -> bool:
    return all(np.array_equal(first.dropped[s], second.dropped[s]) for s in first.widths)
