"""What could be removed from a network, and what could not and why, before anything is removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.quantised import refuse_quantised
from keras_robust_prune.keras_io.reading import opened, read
from keras_robust_prune.methods.by_cost import unpriced
from keras_robust_prune.reporting.tables import Table, as_html
from keras_robust_prune.surgery.costs import num_macs, unit_cost
from keras_robust_prune.surgery.groups import ChannelGroups, find_groups
from keras_robust_prune.surgery.summary import count


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """The groups of a network and the layers that are kept; prints, and shows itself, as tables.

    Attributes:
        graph: the network.
        groups: its groups, and what is kept with reasons.
    """

    graph: Graph
    groups: ChannelGroups

    @property
    def protected(self) -> dict[str, str]:
        """Groups that `robust` takes from only once nothing else is left, by name, and why."""
        found = {group.name: unpriced(self.graph, group) for group in self.groups.groups}
        return {name: why for name, why in found.items() if why}

    @property
    def tables(self) -> tuple[Table, ...]:
        """What can be pruned, what of it `robust` leaves as long as it can, and what is kept, if anything is."""
        rows = []
        for group in self.groups.groups:
            cost = unit_cost(self.graph, group)
            costs = (count(round(cost.params)), count(round(cost.macs)))
            layers = (_listed(group.producers), _listed(group.consumers))
            rows.append((group.name, *layers, count(group.num_units), *costs))
        header = ("can be pruned", "units from", "read by", "units", "parameters/unit", "MACs/unit")
        kept = [
            (item.layer, count(item.num_units), item.code, item.reason) for item in self.groups.kept
        ]
        found = [Table(header, rows, left=3)]
        if last := list(self.protected.items()):
            found.append(Table(("is taken last", "because"), last, left=2))
        if kept:
            found.append(Table(("is kept", "units", "code", "because"), kept, left=4))
        return tuple(found)

    @property
    def title(self) -> str:
        """The network's name and what it costs."""
        params, macs = self.graph.num_params, num_macs(self.graph)
        return f"{self.graph.name}: {count(params)} parameters, {count(macs)} MACs"

    def __str__(self) -> str:
        return "\n\n".join([self.title, *map(str, self.tables)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html([self.title, *self.tables])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        groups = []
        for group in self.groups.groups:
            cost = unit_cost(self.graph, group)
            layers = {"producers": list(group.producers), "consumers": list(group.consumers)}
            costs = {"params_per_unit": float(cost.params), "macs_per_unit": float(cost.macs)}
            groups.append({"name": group.name, "units": group.num_units, **layers, **costs})
        return {
            "name": self.graph.name,
            "params": self.graph.num_params,
            "macs": num_macs(self.graph),
            "groups": groups,
            "protected": self.protected,
            "kept": [dataclasses.asdict(item) for item in self.groups.kept],
        }


def _listed(names: tuple[str, ...], at_most: int = 3) -> str:
    """Names, the later ones counted where they are many."""
    if len(names) <= at_most:
        return ", ".join(names)
    return ", ".join(names[: at_most - 1]) + f" and {len(names) - at_most + 1} more"


def inspect(model: Any, *, keep: Iterable[str] = (), trust: bool = False) -> Inspection:
    """Lists what can be removed, what one unit of it costs, and what is kept and why. Changes nothing.

    Args:
        model: a model of tf_keras or Keras 3, or the path of one.
        keep: names of layers whose units shall stay.
        trust: whether a model's file may run code of its own; see `krp.load`.

    Returns:
        An `Inspection`; `print` it, or read its `groups`.

    Raises:
        ModelError: the model cannot be read.
        ValueError: `keep` names a layer that is not there, or no unit can be removed.

    Example:
        >>> import keras_robust_prune as krp
        >>> import tf_keras
        >>> layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(3, name="a")]
        >>> layers += [tf_keras.layers.Dense(2, name="b")]
        >>> print(krp.inspect(tf_keras.Sequential(layers, name="small")))
        small: 23 parameters, 18 MACs
        <BLANKLINE>
        can be pruned  units from  read by  units  parameters/unit  MACs/unit
        ---------------------------------------------------------------------
        a              a           b            3                7          6
        <BLANKLINE>
        is kept  units  code    because
        ------------------------------------------------------------------------------
        b        2      output  its units reach 'b', which is an output of the network
    """
    model = opened(model, trust)
    refuse_quantised(model)
    graph = read(model)
    return Inspection(graph, find_groups(graph, keep))
