"""A target per group: which fraction of its units each gives; groups that are not named give none."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from keras_robust_prune.methods.schedules import no_fraction
from keras_robust_prune.surgery.groups import ChannelGroup, ChannelGroups

WAY_OUT = "krp.inspect(model) lists the groups, and what is kept and why"


def by_group(groups: ChannelGroups, target: Mapping[Any, Any]) -> dict[str, float]:
    """The fraction that every group gives.

    Args:
        groups: of the network.
        target: fractions in [0, 1) by the name of a group, or of a layer that computes its units.

    Raises:
        ValueError: whatever is wrong with the names and the fractions, all at once.
    """
    problems: list[str] = []
    found = dict.fromkeys(groups.widths, 0.0)
    said: dict[str, str] = {}
    for name, fraction in target.items():
        wrong = no_fraction(f"target[{name!r}]", fraction)
        mine = [group for group in groups.groups if name in (group.name, *group.producers)]
        mine = [group for group in mine if group.name == name] or mine
        if wrong or not mine:
            problems.append(wrong or _unknown(groups, name))
            continue
        for group in mine:
            other = said.setdefault(group.name, name)
            if other != name and found[group.name] != fraction:
                problems.append(
                    f"{other!r} and {name!r} are added up, so their units go together, but the targets are"
                    f" {target[other]} and {fraction}: name one of them"
                )
            found[group.name] = float(fraction)
    if not target:
        problems.append("target names no group: for example target={'conv_3': 0.7}")
    if problems:
        raise ValueError(f"{'; '.join(problems)}. {WAY_OUT}.")
    return found


def of_all(groups: ChannelGroups, fractions: Mapping[str, float]) -> float:
    """The fraction of all units that groups give together.

    Example:
        >>> import types
        >>> groups = types.SimpleNamespace(widths={"a": 30, "b": 10})
        >>> of_all(groups, {"a": 0.5, "b": 0.0})
        0.375
    """
    given = sum(fractions[name] * width for name, width in groups.widths.items())
    return given / sum(groups.widths.values())


def _unknown(groups: ChannelGroups, name: Any) -> str:
    """Why a name stands for no group."""
    for item in groups.kept:
        if item.layer == name:
            return f"{name!r} has no unit that can be removed: {item.reason}"
    layers = {layer for group in groups.groups for layer in _layers(group)}
    if name in layers:
        owners = [group.name for group in groups.groups if name in _layers(group)]
        return f"{name!r} computes no units of its own, it passes on those of {', '.join(map(repr, owners))}"
    names = {*groups.widths, *layers}
    close = difflib.get_close_matches(str(name), names, 1)
    return f"there is no group {name!r}" + (f" (did you mean {close[0]!r}?)" if close else "")


def _layers(group: ChannelGroup) -> set[str]:
    """The layers that a group's units pass, but for those that only read them."""
    return {slot.layer for slot in group.slots if slot.role != "consumes"}
