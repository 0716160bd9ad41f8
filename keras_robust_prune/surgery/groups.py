"""Groups: the places where units can be removed, and the layers whose units stay.

A *unit* is everything that must go together: one filter, its bias, its entries in BatchNormalization, the slices of
every kernel that reads it, and the same of every filter that it is added to. A `ChannelGroup` is a set of units that
pass through exactly the same weights, so that any of them can go (and one can be merged into another); every group
keeps at least one unit, and therefore every layer does.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import MASK, Graph, Layer, Node, Ref, refs_in
from keras_robust_prune.graph.tracing import (
    CONSUMES,
    NORMALISES,
    PRODUCES,
    Labels,
    Protection,
    Tracing,
)
from keras_robust_prune.layers.base import Unsupported, layer_type


@dataclasses.dataclass(frozen=True, eq=False)
class Slot:
    """One axis of one weight that a group's units index.

    Attributes:
        layer: the layer's name.
        weight: the weight's name in the layer, or that of a shape in its configuration.
        axis: the axis of the weight.
        role: `"produces"`, `"carries"`, `"consumes"` or `"normalises"`.
        positions: the entries along the axis that belong to each unit, `(num_units, multiplicity)`.
    """

    layer: str
    weight: str
    axis: int
    role: str
    positions: np.ndarray

    @property
    def goes(self) -> bool:
        """Whether a unit's entries go with it; a normalisation keeps them for the zero that it sees instead."""
        return self.role != NORMALISES


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Units that pass through the same weights.

    Attributes:
        name: that of its first producer; with the range of its units if a layer has several groups.
        slots: every weight axis that the units index.
        num_units: how many there are.
    """

    name: str
    slots: tuple[Slot, ...]
    num_units: int

    @cached_property
    def producers(self) -> tuple[str, ...]:
        """Names of the layers that compute the units."""
        return self._layers(PRODUCES)

    @cached_property
    def consumers(self) -> tuple[str, ...]:
        """Names of the layers that read the units and mix them."""
        return self._layers(CONSUMES)

    @property
    def merges(self) -> bool:
        """Whether a unit can take over from another: not where the units are normalised together."""
        return not any(slot.weight == MASK for slot in self.having(CONSUMES))

    def _layers(self, role: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(slot.layer for slot in self.slots if slot.role == role))

    def having(self, role: str) -> tuple[Slot, ...]:
        """Its slots of one role."""
        return tuple(slot for slot in self.slots if slot.role == role)


@dataclasses.dataclass(frozen=True)
class Kept:
    """Units of a layer that stay, and why.

    Attributes:
        layer: whose units.
        num_units: how many of them.
        code: one word: `output`, `input`, `no_rule`, `mixes_units`, `kept_by_user`, ...
        reason: a sentence.
    """

    layer: str
    num_units: int
    code: str
    reason: str


class Where(NamedTuple):
    """Which units lie along one axis of a tensor.

    Attributes:
        axis: counted without the batch axis.
        group: index into `groups.groups` for every entry along the axis, -1 where units stay.
        unit: the unit of that group, -1 likewise.
    """

    axis: int
    group: np.ndarray
    unit: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelGroups:
    """Where a graph can be cut.

    Attributes:
        groups: in the order of the graph.
        kept: what stays, with reasons.
        where: for every tensor of the graph, which units lie on it.
    """

    groups: tuple[ChannelGroup, ...]
    kept: tuple[Kept, ...]
    where: Mapping[Ref, Where]

    @cached_property
    def by_name(self) -> Mapping[str, ChannelGroup]:
        """Groups by name."""
        return {group.name: group for group in self.groups}

    @cached_property
    def widths(self) -> Mapping[str, int]:
        """Number of units by group name."""
        return {group.name: group.num_units for group in self.groups}


def kept_names(keep: Any) -> tuple[str, ...]:
    """The names of layers in `keep`; None is none.

    Raises:
        ValueError: it is no list of names.

    Example:
        >>> kept_names(["a", "b"]), kept_names(None)
        (('a', 'b'), ())
    """
    names = () if keep is None else keep
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise ValueError(f"keep is {keep!r}, but it is a list of layers' names: keep=[{keep!r}].")
    names = tuple(names)
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"keep holds {wrong}, but layers are kept by name: pass layer.name.")
    return names


def find_groups(graph: Graph, keep: Iterable[str] = ()) -> ChannelGroups:
    """Find every unit that can be removed.

    Args:
        graph: the network.
        keep: names of layers whose units stay.

    Returns:
        groups, and what is kept.

    Raises:
        ValueError: `keep` names a layer that is not there, or no unit of the network can be removed.
    """
    tracing, labels = trace(graph)
    _protect_kept(graph, kept_names(keep), tracing, labels)
    classes = tracing.classes()
    protected = _protected(tracing, classes)
    groups, members = _group(tracing, classes, protected)
    kept = _kept(tracing, classes, protected, groups)
    if not groups:
        reasons = "".join(f"\n- {item.layer}: {item.reason}" for item in kept)
        raise ValueError(
            f"'{graph.name}' has no unit that can be removed. All of its layers are kept:"
            f"{reasons or ' there is none that has units.'}"
        )
    return ChannelGroups(groups, kept, _where(labels, classes, members))


def trace(graph: Graph) -> tuple[Tracing, Mapping[Ref, Labels]]:
    """Pass labels through the whole graph; also returns those of every tensor."""
    tracing = Tracing()
    labels: dict[Ref, Labels] = {}
    for node in graph.nodes:
        for index, found in enumerate(_pass(graph, node, labels, tracing)):
            labels[Ref(node.name, index)] = found
    before = tracing.protections
    tracing.protections = []  # of several reasons the first counts: that a unit is an output
    for ref in graph.outputs:
        tracing.protect(labels[ref].ids, "output", ref.node, "is an output of the network")
    tracing.protections += before
    tracing.protect_layers({layer: item[:2] for layer, item in tracing.unsupported.items()})
    return tracing, labels


def _pass(
    graph: Graph, node: Node, labels: Mapping[Ref, Labels], tracing: Tracing
) -> Sequence[Labels]:
    """Labels of a node's outputs. Masks only tell which time steps count, so their elements stay."""
    layer = graph.layer_of(node)
    fresh = [_new_labels(tracing, f"{node.name}:{k}", shape) for k, shape in enumerate(node.shapes)]
    if layer.is_input:
        for item in fresh:
            tracing.protect(item.ids, "input", node.layer, "is an input of the network")
        return fresh
    masks = {key: value for key, value in node.kwargs.items() if "mask" in key}
    data = {key: value for key, value in node.kwargs.items() if key not in masks}
    call = dataclasses.replace(node, inputs=refs_in([node.args, data]), kwargs=data)
    inputs = [labels[ref] for ref in call.inputs]
    for ref in refs_in(masks):
        tracing.protect(labels[ref].ids, "mask", node.layer, "takes it as a mask")
    try:
        found = tuple(layer_type(layer).trace(graph, call, inputs, tracing))
    except (Unsupported, IndexError) as error:
        single = () in (*node.shapes, *map(graph.shape, node.inputs))
        if isinstance(error, IndexError) and not single:
            raise
        code, reason = getattr(error, "code", "no_axis"), getattr(error, "reason", "has no axis")
        width = max([len(item.ids) for item in fresh], default=0)
        tracing.refuse(node.layer, code, reason, width)
        for item in (*inputs, *fresh):
            tracing.protect(item.ids, code, node.layer, reason)
        return fresh
    _check(node, layer, found)
    return found


def _check(node: Node, layer: Layer, found: Sequence[Labels]) -> None:
    """What a trace returned fits the outputs."""
    if len(found) != len(node.shapes):
        raise ValueError(
            f"The trace of '{layer.name}' ({layer.kind}) returned labels for {len(found)} outputs, but the layer has "
            f"{len(node.shapes)}. It returns one Labels per output."
        )
    for item, shape in zip(found, node.shapes, strict=True):
        length = shape[item.axis] if 0 <= item.axis < len(shape) else 1 if not shape else -1
        if length not in (None, len(item.ids)):
            raise ValueError(
                f"The trace of '{layer.name}' ({layer.kind}) returned {len(item.ids)} labels on axis {item.axis}, but "
                f"the output's shape is {shape} without the batch axis. It returns the axis the units lie "
                "on, and one label per entry of it."
            )


def _new_labels(tracing: Tracing, owner: str, shape: tuple[int | None, ...]) -> Labels:
    """Elements that belong to no weight, on the last axis of a tensor."""
    return Labels(max(len(shape) - 1, 0), tracing.fresh(owner, (shape or (1,))[-1] or 1, "tensor"))


def _protect_kept(
    graph: Graph, keep: tuple[str, ...], tracing: Tracing, labels: Mapping[Ref, Labels]
) -> None:
    unknown = [name for name in keep if name not in graph.layers]
    if unknown:
        hints = [difflib.get_close_matches(name, graph.layers, 1) for name in unknown]
        listed = ", ".join(
            f"'{name}'" + (f" (did you mean '{hint[0]}'?)" if hint else "")
            for name, hint in zip(unknown, hints, strict=True)
        )
        raise ValueError(f"keep names layers that '{graph.name}' does not have: {listed}.")
    for node in graph.nodes:
        if node.layer in keep:
            for index in range(len(node.shapes)):
                ids = labels[Ref(node.name, index)].ids
                tracing.protect(ids, "kept_by_user", node.layer, "is kept as asked")
    for use in tracing.uses.values():
        if use.layer in keep and use.role == PRODUCES:
            tracing.protect(use.ids, "kept_by_user", use.layer, "is kept as asked")


def _protected(tracing: Tracing, classes: np.ndarray) -> np.ndarray:
    """For every element the index of the first protection of its class, or -1."""
    first = np.full(tracing.count, len(tracing.protections))
    for index, found in enumerate(tracing.protections):
        np.minimum.at(first, classes[found.ids], index)
    first[first == len(tracing.protections)] = -1
    return first[classes]


def _group(
    tracing: Tracing, classes: np.ndarray, protected: np.ndarray
) -> tuple[tuple[ChannelGroup, ...], list[list[int]]]:
    """Free classes with the same signature, the slots that they index and how often, are one group.

    Returns the groups and, for each, the classes that are its units.
    """
    uses = list(tracing.uses.values())
    signature: dict[int, list[tuple[int, int]]] = {}
    positions: list[dict[int, np.ndarray]] = []
    for index, use in enumerate(uses):
        roots = classes[use.ids]
        order = np.argsort(roots, kind="stable")
        found, starts = np.unique(roots[order], return_index=True)
        parts = np.split(order, starts[1:])
        mine = {}
        for root, part in zip(found.tolist(), parts, strict=True):
            if protected[root] < 0:
                mine[root] = part
                signature.setdefault(root, []).append((index, len(part)))
        positions.append(mine)
    together: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for root, found_in in signature.items():
        together.setdefault(tuple(found_in), []).append(root)
    groups, members = [], []
    for key, roots in together.items():
        roles = {uses[index].role for index, _ in key}
        if len(roots) < 2 or PRODUCES not in roles or CONSUMES not in roles:
            continue
        first = next(index for index, _ in key if uses[index].role == PRODUCES)
        roots.sort(key=lambda root: int(positions[first][root][0]))
        slots = tuple(
            Slot(
                uses[index].layer,
                uses[index].weight,
                uses[index].axis,
                uses[index].role,
                np.stack([positions[index][root] for root in roots]),
            )
            for index, _ in key
        )
        groups.append(ChannelGroup(uses[first].layer, slots, len(roots)))
        members.append(roots)
    return _named(groups), members


def _where(
    labels: Mapping[Ref, Labels], classes: np.ndarray, members: list[list[int]]
) -> Mapping[Ref, Where]:
    group = np.full(len(classes), -1)
    unit = np.full(len(classes), -1)
    for index, roots in enumerate(members):
        group[roots], unit[roots] = index, np.arange(len(roots))
    return {
        ref: Where(item.axis, group[classes[item.ids]], unit[classes[item.ids]])
        for ref, item in labels.items()
    }


def _named(groups: list[ChannelGroup]) -> tuple[ChannelGroup, ...]:
    """Groups under unique names: the producer's, with weight and range where it has several."""
    count = Counter(group.name for group in groups)
    named = []
    for group in groups:
        if count[group.name] > 1:
            slot = group.having(PRODUCES)[0]
            span = f"{slot.positions.min()}-{slot.positions.max()}"
            group = dataclasses.replace(group, name=f"{group.name}[{slot.weight}:{span}]")
        named.append(group)
    return tuple(named)


def _kept(
    tracing: Tracing, classes: np.ndarray, protected: np.ndarray, groups: tuple[ChannelGroup, ...]
) -> tuple[Kept, ...]:
    """Per producing layer: how many units stay, and the reason of the first of them."""
    in_groups: dict[tuple[str, str, int], set[int]] = {}
    for group in groups:
        for slot in group.having(PRODUCES):
            key = (slot.layer, slot.weight, slot.axis)
            in_groups.setdefault(key, set()).update(slot.positions.ravel().tolist())
    kept: dict[str, Kept] = {}
    for key, use in tracing.uses.items():
        if use.role != PRODUCES or use.layer in kept:
            continue
        free = in_groups.get(key, set())
        stay = [k for k in range(len(use.ids)) if k not in free]
        if stay:
            why = _why(tracing, int(protected[use.ids[stay[0]]]), len(stay))
            kept[use.layer] = Kept(use.layer, len(stay), *why)
    for layer, (code, reason, num_units) in tracing.unsupported.items():
        if code in ("no_rule", "opaque") and layer not in kept:
            kept[layer] = Kept(layer, num_units, code, f"it {reason}")
    return tuple(kept.values())


def _why(tracing: Tracing, index: int, count: int) -> tuple[str, str]:
    if index < 0:
        if count == 1:
            return "last_unit", "its only unit stays: every layer keeps at least one"
        return "no_consumer", "no layer that can be cut reads its units"
    found: Protection = tracing.protections[index]
    return found.code, f"its units reach '{found.layer}', which {found.reason}"
