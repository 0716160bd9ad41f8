"""What a network is made of and what it costs, layer by layer, for reading."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from keras_robust_prune.graph.graph import Graph, Shape
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.samples import macs_of
from keras_robust_prune.reporting.tables import Table, as_html


class LayerCost(NamedTuple):
    """One layer of a network.

    Attributes:
        name: the layer's name.
        kind: its Keras class.
        shape: of its first output, without the batch axis.
        params: numbers in its weights.
        macs: multiply-accumulate operations of all its calls on one input.
    """

    name: str
    kind: str
    shape: Shape
    params: int
    macs: int

    @property
    def units(self) -> int | None:
        """Width of the last axis of the output; None for a layer without weights."""
        return self.shape[-1] if self.params and self.shape else None


@dataclasses.dataclass(frozen=True)
class Summary:
    """Layers and costs of a network; prints as a table.

    Attributes:
        name: the model's name.
        layers: in the order of the first calls.
    """

    name: str
    layers: tuple[LayerCost, ...]

    @property
    def params(self) -> int:
        """Numbers in all weights."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations on one input."""
        return sum(layer.macs for layer in self.layers)

    @property
    def table(self) -> Table:
        """A row per layer, and the total."""
        rows = [
            (row.name, row.kind, _shape(row.shape), count(row.units), count(row.params))
            + (count(row.macs),)
            for row in self.layers
        ]
        rows.append(("total", "", "", "", count(self.params), count(self.macs)))
        header = (self.name, "type", "output", "units", "parameters", "MACs")
        return Table(header, rows, left=3, foot=1)

    def __str__(self) -> str:
        return str(self.table)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html([self.table])


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The same network before and after, layer by layer; prints as a table."""

    before: Summary
    after: Summary

    @property
    def rows(self) -> tuple[tuple[LayerCost, LayerCost], ...]:
        """Each layer that has weights, before and after."""
        after = {layer.name: layer for layer in self.after.layers}
        return tuple((row, after[row.name]) for row in self.before.layers if row.params)

    def cells(self) -> list[tuple[str, ...]]:
        """The table's rows as text; the last one is the total."""
        rows = [
            (old.name, count(old.units), count(new.units))
            + (count(old.params), count(new.params), count(old.macs), count(new.macs))
            for old, new in self.rows
        ]
        old, new = self.before, self.after
        total = (count(old.params), count(new.params), count(old.macs), count(new.macs))
        return [*rows, ("total", "", "", *total)]

    header = ("layer", "units", "after", "parameters", "after", "MACs", "after")

    @property
    def table(self) -> Table:
        """A row per layer, and the total, each column with a title of its own."""
        pairs = [(f"{what} before", f"{what} after") for what in ("units", "parameters", "MACs")]
        return Table(("layer", *sum(pairs, ())), self.cells(), foot=1)

    def __str__(self) -> str:
        return str(Table(self.header, self.cells(), foot=1))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html([self.table])


def summary(model: Any, trust: bool = False) -> Summary:
    """Layers, units, parameters and MACs of a network, as a value that prints as a table.

    Parameters are all numbers in the weights, moving statistics included. A MAC is one multiplication with an entry
    of a kernel.

    Args:
        model: a model of tf_keras or Keras 3, the path of one, or a `Graph`.
        trust: whether a model's file may run code of its own; see `krp.load`.

    Returns:
        A `Summary`; `print` it, or read its `layers`, `params` and `macs`.

    Raises:
        ModelError: the model cannot be read.

    Example:
        >>> import keras_robust_prune as krp
        >>> import tf_keras
        >>> layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(3, name="a")]
        >>> print(krp.summary(tf_keras.Sequential(layers, name="small")))
        small  type   output  units  parameters  MACs
        ---------------------------------------------
        a      Dense  3           3          15    12
        ---------------------------------------------
        total                                15    12
    """
    graph = model if isinstance(model, Graph) else read(model, trust=trust)
    layers = []
    for name, layer in graph.layers.items():
        calls = graph.calls[name]
        if layer.is_input or not calls:
            continue
        macs = sum(macs_of(graph, node) for node in calls)
        layers.append(LayerCost(name, layer.kind, calls[0].shapes[0], layer.num_params, macs))
    return Summary(graph.name, tuple(layers))


def compare(dense: Any, pruned: Any) -> Comparison:
    """Layers and costs of a network before and after pruning.

    Args:
        dense: a model, the path of one, or a `Graph`.
        pruned: the same network with fewer units.

    Example:
        >>> import tf_keras
        >>> def network(units):
        ...     layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(units, name="a")]
        ...     return tf_keras.Sequential([*layers, tf_keras.layers.Dense(2, name="b")])
        >>> print(compare(network(8), network(4)))
        layer  units  after  parameters  after  MACs  after
        ---------------------------------------------------
        a          8      4          40     20    32     16
        b          2      2          18     10    16      8
        ---------------------------------------------------
        total                        58     30    48     24
    """
    return Comparison(summary(dense), summary(pruned))


def count(number: int | None) -> str:
    """A whole number with its thousands apart; nothing for None.

    Example:
        >>> count(1234567)
        '1,234,567'
    """
    return "" if number is None else f"{number:,}"


def _shape(shape: Shape) -> str:
    return " x ".join("?" if length is None else str(length) for length in shape)
