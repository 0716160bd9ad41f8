"""What to remove: a value that can be printed, stored as JSON and replayed on the dense network."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from keras_robust_prune.reporting.tables import Table, as_html
from keras_robust_prune.surgery.groups import ChannelGroups


class Removal(NamedTuple):
    """One unit goes.

    Attributes:
        group: the name of its group.
        drop: the unit, counted in the group.
        into: the unit of the same group that takes over its outgoing weights, if any.
    """

    group: str
    drop: int
    into: int | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """Removals in order.

    Attributes:
        removals: what goes, step after step.
        widths: number of units of every group before anything goes.

    Example:
        >>> plan = Plan((Removal("dense", 3, 1), Removal("dense", 1)), {"dense": 8})
        >>> print(plan)
        group   units  kept
        dense      8     6
        >>> Plan.from_json(plan.to_json()) == plan
        True
    """

    removals: tuple[Removal, ...] = ()
    widths: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        gone: dict[str, set[int]] = {}
        for group, drop, into in self.removals:
            dropped = gone.setdefault(group, set())
            if group not in self.widths:
                raise ValueError(f"The plan names a group '{group}' that is not in its widths.")
            if not 0 <= drop < self.widths[group]:
                raise ValueError(
                    f"'{group}' has no unit {drop}: it has {self.widths[group]} units."
                )
            if drop in dropped:
                raise ValueError(f"Unit {drop} of '{group}' is dropped twice.")
            if into is not None and (into in dropped or into == drop):
                raise ValueError(
                    f"Unit {drop} of '{group}' goes into {into}, which is gone itself."
                )
            dropped.add(drop)
        for group, dropped in gone.items():
            if len(dropped) >= self.widths[group]:
                raise ValueError(f"The plan empties '{group}': at least one unit has to stay.")

    def __add__(self, removals: tuple[Removal, ...]) -> Plan:
        return Plan((*self.removals, *removals), self.widths)

    @cached_property
    def dropped(self) -> Mapping[str, np.ndarray]:
        """Per group a mask over its units, `(num_units,)` bool: True where the unit goes."""
        masks = {group: np.zeros(width, bool) for group, width in self.widths.items()}
        for removal in self.removals:
            masks[removal.group][removal.drop] = True
        return masks

    def kept(self, group: str) -> np.ndarray:
        """The units of a group that stay, in ascending order."""
        return np.flatnonzero(~self.dropped[group])

    @property
    def fraction(self) -> float:
        """Removed units over all units that could be removed, [0, 1)."""
        total = sum(self.widths.values())
        return len(self.removals) / total if total else 0.0

    def __str__(self) -> str:
        width = max([len(name) for name in self.widths] + [4])
        lines = [f"{'group':<{width}}  units  kept"]
        for name, units in self.widths.items():
            lines.append(f"{name:<{width}}  {units:>5}  {len(self.kept(name)):>4}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            (name, f"{units:,}", f"{len(self.kept(name)):,}") for name, units in self.widths.items()
        ]
        return as_html([Table(("group", "units", "kept"), rows)])

    def to_json(self) -> str:
        """The plan as text."""
        rows = [list(removal) for removal in self.removals]
        return json.dumps({"format": 1, "widths": dict(self.widths), "removals": rows})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote.

        Raises:
            ValueError: the text is not such a plan.
        """
        try:
            stored = json.loads(text)
            rows = tuple(Removal(*row) for row in stored["removals"])
            return cls(rows, stored["widths"])
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"This is not a plan written by Plan.to_json: {error}.") from error

    @classmethod
    def empty(cls, groups: ChannelGroups) -> Plan:
        """A plan that removes nothing."""
        return cls((), dict(groups.widths))
