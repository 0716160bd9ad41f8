"""Activations that stand in a layer's configuration, and the graph in which each is a layer of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref, map_refs
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

    def follow(ref: Ref) -> Ref:
        return moved.get(ref, ref)

    for node in graph.nodes:
        layer = graph.layers[node.layer]
        node = dataclasses.replace(
            node,
            args=map_refs(follow, node.args),
            kwargs=map_refs(follow, node.kwargs),
            inputs=tuple(follow(ref) for ref in node.inputs),
        )
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
    return dataclasses.replace(
        graph,
        layers=layers,
        nodes=tuple(nodes),
        outputs=tuple(follow(ref) for ref in graph.outputs),
        output_structure=map_refs(follow, graph.output_structure),
        sequential=False,
    )
