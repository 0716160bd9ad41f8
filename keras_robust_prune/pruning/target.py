"""What was asked for, how much of it was reached, and what to say where it was missed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.methods.measures import Amount, amounts, removed_of
from keras_robust_prune.methods.problem import COUNTED
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.groups import ChannelGroups
from keras_robust_prune.surgery.plan import Plan

# A target that is missed by more is worth a warning; less comes of whole widths.
MISSED = 0.05


class MissedTarget(UserWarning):
    """Pruning ended clearly beside its target."""


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """The fraction of something that is to be removed from a network.

    Attributes:
        measure: what the fraction counts, as for `Problem`.
        asked: the fraction, [0, 1).
        num_steps: in how many steps, if the problem says so.
        dense: the network before.
        groups: what can be removed from it.
        round_to: widths that remain are multiples of it.
    """

    measure: Any
    asked: float
    dense: Graph
    groups: ChannelGroups
    round_to: int = 1
    num_steps: int = 1

    @property
    def name(self) -> str:
        """What is counted, in a word."""
        return str(getattr(self.measure, "name", self.measure))

    @property
    def counted(self) -> bool:
        """Whether it is counted on the network; else it is predicted for a file or a device."""
        return isinstance(self.measure, str) and self.measure in COUNTED

    def amounts(self, plan: Plan) -> tuple[Amount, ...]:
        """How much is left of what is predicted for a file or a device, and how much there may be.

        Args:
            plan: what went.
        """
        if self.counted:
            return ()
        gone = {name: int(dropped.sum()) for name, dropped in plan.dropped.items()}
        return amounts(self.measure, self.asked, self.dense, self.groups.groups, gone)

    def removed(self, pruned: Graph, plan: Plan, left: Sequence[Amount] = ()) -> float:
        """The fraction that is gone.

        Args:
            pruned: the network after, cut.
            plan: what went.
            left: what `amounts` says of it, if that is known already.
        """
        if self.measure == "units":
            return plan.fraction
        if not self.counted:
            return removed_of(left or self.amounts(plan))
        before, after = (
            num_macs(graph) if self.measure == "macs" else graph.num_params
            for graph in (self.dense, pruned)
        )
        return 1.0 - after / max(before, 1)

    def missed(self, pruned: Graph, plan: Plan) -> str:
        """What to say where it was clearly missed; empty where it was not."""
        removed = self.removed(pruned, plan, left := self.amounts(plan))
        # What a device counts comes in stairs: the last one may take more than was asked for.
        beside = abs(removed - self.asked) if self.counted else self.asked - removed
        widths = plan.widths.values()  # whole units: each group may be beside by one
        if beside <= max(MISSED, len(widths) / sum(widths)):
            return ""
        told = f"{removed:.1%} of the {self.name} were removed, {self.asked:.1%} were asked for"
        if len(left) > 1:
            told = "; ".join(str(item) for item in left if item.after > item.most)
        if removed > self.asked:
            told += ": units go whole, and the last of them took more."
            if self.round_to > 1:
                told += f" They go in steps of {self.round_to}: a smaller round_to comes nearer."
            return told
        limits = [f"round_to={self.round_to}"] * (self.round_to > 1)
        limits += ["layers that are kept"] * bool(self.groups.kept)
        return (
            f"{told}: every layer keeps a unit{''.join(f', {limit}' for limit in limits)}. krp.inspect(model)"
            " tells what can be removed."
        )
