"""Activations that stand in a layer's configuration, and the graph in which each is a layer of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.layers.base import layer_type


def activation_argument(layer: Layer) -> Any:
    """The activation that a layer applies last; None if it applies none."""
    key = layer_type(layer).activation
    activation = None if key is None else layer.config.get(key)
    return None if activation in (None, "linear") else activation


def split_activations(graph: Graph) -> Graph:
    """The same function with every activation argument as a layer of its own.

    `Dense(8, activation="relu")` becomes a linear `Dense` and an `Activation`. The linear layer and its node keep their
    names, so weights carry over by name; the node of the activation is called `<name>__activation`.
    """
    layers: dict[str, Layer] = {}
    nodes: list[Node] = []
    moved: dict[Ref, Ref] = {}
    for node in graph.nodes:
        layer, node = graph.layers[node.layer], node.reading(moved)
        nodes.append(node)
        activation = activation_argument(layer)
        if activation is None:
            layers[layer.name] = layer
            continue
        layers[layer.name] = dataclasses.replace(
            layer, config={**layer.config, str(layer_type(layer).activation): "linear"}
        )
        name = f"{node.name}__activation"
        layers[name] = Layer(name, "Activation", {"name": name, "activation": activation})
        nodes.append(Node(name, name, (node.ref,), {}, (node.ref,), node.shapes))
        moved[node.ref] = Ref(name)
    return dataclasses.replace(graph.rewired(layers, nodes, moved), sequential=False)
