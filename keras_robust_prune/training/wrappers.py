"""Masked models: a model's layers wrapped with masks, and the smaller model that the masks stand for.

The mask stands at the input of the layer that *reads* units: behind BatchNormalization a mask at the producer would let
its constants through, and training could grow a unit back. A masked model has the dense model's shape; `strip` turns it
into the smaller one.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune.backends import ModelError
from keras_robust_prune.graph.graph import Graph, Layer
from keras_robust_prune.graph.tracing import CONSUMES
from keras_robust_prune.keras_io import layers
from keras_robust_prune.keras_io.files import load
from keras_robust_prune.keras_io.masked import masked_class
from keras_robust_prune.keras_io.quantised import refuse_quantised
from keras_robust_prune.keras_io.reading import build, read, read_masks
from keras_robust_prune.layers.padding import entrance, spelled_out, without_masks
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import ChannelGroup, ChannelGroups, find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.training.likeness import with_class_of


def maskable(
    graph: Graph, groups: ChannelGroups
) -> Mapping[str, tuple[int, np.ndarray, np.ndarray]]:
    """The layers whose input can be masked: axis, group and unit of every entry, by layer name."""
    found = {}
    consumers = {slot.layer for group in groups.groups for slot in group.having(CONSUMES)}
    for name in graph.layers:
        node = graph.calls[name][0]
        if name in consumers and len(node.inputs) == 1:
            where = groups.where[node.inputs[0]]
            if (where.group >= 0).any():
                found[name] = (where.axis, where.group, where.unit)
    return found


def wrap(model: Any, keep: Iterable[str] = (), trust: bool = False) -> Any:
    """A copy of a model whose layers that read prunable units are wrapped with masks of ones.

    Args:
        model: a Keras model or the path of one; it is not changed.
        keep: names of layers whose units stay.
        trust: whether a model's file may run code of its own; see `krp.load`.

    Returns:
        A model of the same Keras that computes and trains like the one given, until
        `RobustPruning` sets masks in its `fit`, of the same class if that has a `train_step` of its
        own. A model that is wrapped already is returned as it is.

    Raises:
        ValueError: no unit of the model can be removed, or its class has a `train_step` and cannot be
            made from inputs and outputs.

    Example:
        >>> import tf_keras
        >>> layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(8), tf_keras.layers.Dense(2)]
        >>> masked = wrap(tf_keras.Sequential(layers))
        >>> masked.layers[-1].mask.shape
        TensorShape([8])
    """
    if isinstance(model, (str, Path)):
        model = load(model, trust=trust)
    if masked_layers(model):
        return model
    refuse_quantised(model)
    graph = read(model)
    return with_class_of(model, wrap_graph(graph, find_groups(graph, keep)))


def wrap_graph(graph: Graph, groups: ChannelGroups) -> Any:
    """A masked model of a graph whose groups are known."""
    kind = masked_class(graph.keras)

    def masked(layer: Layer, axis: int, length: int) -> Layer:
        def from_config(config: Mapping[str, Any]) -> Any:
            return kind(layers.make(layer, graph.keras), axis, length, name=layer.name)

        weights = {**layer.weights, "mask": np.ones(length, np.float32)}
        origin = layers.Recipe(kind, from_config)
        return dataclasses.replace(
            layer, kind="Masked", config={"name": layer.name}, weights=weights, origin=origin
        )

    full = spelled_out(without_masks(graph))
    return build(
        full.with_layers(
            masked(full.layers[entrance(graph, name)], axis, len(group))
            for name, (axis, group, _) in maskable(graph, groups).items()
        )
    )


def masked_layers(model: Any) -> dict[str, Any]:
    """The wrapped layers of a model, by name."""
    return {
        layer.name: layer
        for layer in getattr(model, "layers", ())
        if hasattr(layer, "krp_masked_layer")
    }


def write_weights(model: Any, graph: Graph) -> None:
    """Give a masked model the weights of a graph in full shape.

    Raises:
        ModelError: a layer does not take them.
    """
    problems, graph = [], without_masks(graph)
    for made in model.layers:
        layer = graph.layers.get(made.name)
        if layer is not None and layer.weights:
            inner = getattr(made, "krp_masked_layer", made)
            problems += layers.write_weights(inner, layer)
    if problems:
        raise ModelError(f"'{model.name}' does not take the new weights", problems)


def set_masks(model: Any, graph: Graph, groups: ChannelGroups, plan: Plan) -> None:
    """Give a masked model the masks of a plan."""
    wrapped = masked_layers(model)
    for name, (_, group, unit) in maskable(graph, groups).items():
        if (name := entrance(graph, name)) not in wrapped:
            continue
        mask = np.ones(len(group), np.float32)
        for index in np.unique(group[group >= 0]):
            dropped = plan.dropped[groups.groups[index].name]
            mine = group == index
            mask[mine] = ~dropped[unit[mine]]
        wrapped[name].mask.assign(mask)
        wrapped[name].fraction_pruned = plan.fraction


def plan_of(model: Any, graph: Graph, groups: ChannelGroups) -> Plan:
    """The removals that a masked model's masks stand for.

    A unit is gone when no layer that reads it sees it.
    """
    masks = read_masks(model)
    removals: list[Removal] = []
    entries = maskable(graph, groups)
    for index, group in enumerate(groups.groups):
        seen = np.zeros(group.num_units, bool)
        readable = _readable(group, entries)
        for name in group.consumers:
            mask = masks.get(entrance(graph, name))
            if mask is not None and readable:
                _, owner, unit = entries[name]
                mine = owner == index
                np.logical_or.at(seen, unit[mine], mask[mine] != 0)
            else:
                seen[:] = True
        removals += [Removal(group.name, int(unit)) for unit in np.flatnonzero(~seen)]
    return Plan(tuple(removals), dict(groups.widths))


def _readable(group: ChannelGroup, entries: Mapping[str, Any]) -> bool:
    return all(name in entries for name in group.consumers)


def strip(model: Any, trust: bool = False) -> Any:
    """The physically smaller model that a masked model stands for.

    Args:
        model: what `wrap` returned, trained or not, or the path of such a model.
        trust: whether a model's file may run code of its own; see `krp.load`.

    Returns:
        A model of the same Keras without wrappers, masked units cut away. A model without wrappers
        is returned as it is.

    Warns:
        UserWarning: weights from before the pruning have been restored.

    Example:
        >>> import tf_keras
        >>> layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(8), tf_keras.layers.Dense(2)]
        >>> masked = wrap(tf_keras.Sequential(layers))
        >>> masked.layers[-1].mask.assign([0.0] * 5 + [1.0] * 3) is None
        False
        >>> strip(masked).layers[0].units
        3
    """
    if isinstance(model, (str, Path)):
        model = load(model, trust=trust)
    if not masked_layers(model):
        return model
    graph = read(model)
    groups = find_groups(graph)
    plan = plan_of(model, graph, groups)
    _check_restored(model, plan)
    return with_class_of(model, build(cut(graph, groups, plan)))


def _check_restored(model: Any, plan: Plan) -> None:
    """Warns where callbacks have brought back weights, and with them masks, from before the pruning."""
    layers = masked_layers(model).values()
    pruned = max((layer.fraction_pruned for layer in layers), default=0.0)
    if plan.fraction < pruned - 1e-6:
        warnings.warn(
            f"'{model.name}' was pruned by {pruned:.1%}, but its masks remove {plan.fraction:.1%} of the"
            " units: weights from before the pruning have been restored, as by"
            " EarlyStopping(restore_best_weights=True). Let that begin after the last pruning:"
            " EarlyStopping(start_from_epoch=...), or restore a checkpoint from then.",
            stacklevel=3,
        )
