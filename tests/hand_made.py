"""Graphs made by hand, so that tests of labels need no Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref, refs_in
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.surgery.groups import trace

Shape = tuple[int | None, ...]
Uses = dict[tuple[str, int], tuple[str, list[int]]]


def call(
    name: str,
    kind: str,
    args: Sequence[Any],
    shape: Shape | list[Shape],
    config: Mapping[str, Any] | None = None,
    weights: Mapping[str, tuple[int, ...]] | None = None,
    **kwargs: Any,
) -> tuple[Layer, Node]:
    """A layer and its first call; tensors in `args` by name, weights by shape, filled with 1, 2, 3, ..."""

    def refs(value: Any) -> Any:
        if isinstance(value, str) and not value.startswith("="):
            return Ref(value)
        return [refs(item) for item in value] if isinstance(value, list) else value

    arrays = {
        key: np.arange(1, np.prod(size) + 1, dtype="float32").reshape(size)
        for key, size in (weights or {}).items()
    }
    positional = tuple(refs(value) for value in args)
    named = {key: refs(value) for key, value in kwargs.items()}
    shapes = tuple(shape) if isinstance(shape, list) else (shape,)
    layer = Layer(name, kind, {"name": name, **(config or {})}, arrays)
    return layer, Node(name, name, positional, named, refs_in([positional, named]), shapes)


def source(shape: Shape, name: str = "source") -> list[tuple[Layer, Node]]:
    """An input and a Dense layer behind it whose units lie on the last axis of a tensor of this shape."""
    width = shape[-1]
    return [
        call(f"{name}_input", "InputLayer", (), (*shape[:-1], 2)),
        call(name, "Dense", [f"{name}_input"], shape, {"units": width}, {"kernel": (2, width)}),
    ]


def dense(name: str, of: str, before: int, units: int) -> tuple[Layer, Node]:
    """A Dense layer with a bias on a tensor without other axes."""
    weights = {"kernel": (before, units), "bias": (units,)}
    return call(name, "Dense", [of], (units,), {"units": units}, weights)


def graph_of(calls: Sequence[tuple[Layer, Node]], outputs: Sequence[str] = ()) -> Graph:
    """The graph of these calls; its last node is the output unless others are named."""
    nodes = tuple(node for _, node in calls)
    inputs = tuple(node.ref for layer, node in calls if layer.kind == "InputLayer")
    ends = tuple(Ref(name) for name in outputs) or (nodes[-1].ref,)
    return Graph({layer.name: layer for layer, _ in calls}, nodes, inputs, ends, name="hand_made")


def behind(
    kind: str,
    before: tuple[int | None, ...],
    after: tuple[int | None, ...] | list[Any],
    config: Mapping[str, Any] | None = None,
    weights: Mapping[str, tuple[int, ...]] | None = None,
    *args: Any,
    **kwargs: Any,
) -> tuple[int, list[int], Uses]:
    """Axis and units behind a layer that reads a tensor with units 0, 1, 2, ..., and its weights' units.

    New units, those of the layer itself, count from 100; those that must stay have 1000 added.
    """
    node = call("layer", kind, ["source", *args], after, config, weights, **kwargs)
    graph = graph_of([*source(before), node], outputs=["source_input"])
    tracing, labels = trace(graph)
    return told(tracing, labels)


def told(tracing: Tracing, labels: Mapping[Ref, Labels]) -> tuple[int, list[int], Uses]:
    """What `behind` gives."""
    classes = tracing.classes()
    stay = {int(classes[i]) for found in tracing.protections for i in found.ids}
    first = int(labels[Ref("source")].ids[0])
    count = len(labels[Ref("source")].ids)
    new: dict[int, int] = {}

    def number(element: int) -> int:
        unit = element - first
        if not 0 <= unit < count:
            unit = new.setdefault(element, 100 + len(new))
        return unit + (1000 if int(classes[element]) in stay else 0)

    uses = {
        (use.weight, use.axis): (use.role, [number(i) for i in use.ids.tolist()])
        for use in tracing.uses.values()
        if use.layer == "layer"
    }
    out = labels[Ref("layer")]
    return out.axis, [number(i) for i in out.ids.tolist()], uses
