"""What a layer does besides its main work, as a layer of its own: activations, and the strides of single places."""

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


def split_strides(graph: Graph) -> Graph:
    """The same function in which a convolution of single places takes every k-th place before it, not within.

    For the gradient of such a kernel (one by one pixel, strides above one, few channels) TensorFlow 2.21 writes past
    the end of an array where oneDNN runs on AVX-512, which ends the process, at once or later. Pooling over windows of
    one pixel has the same strides and none of this. Layers and nodes keep their names, so weights carry over by name.
    """
    layers, nodes = dict(graph.layers), list[Node]()
    for node in graph.nodes:
        layer = graph.layers[node.layer]
        single = layer.kind == "Conv2D" and set(layer.config["kernel_size"]) == {1}
        strides = tuple(layer.config["strides"]) if single else ()
        if set(strides) <= {1} or len(graph.calls[layer.name]) > 1:
            nodes.append(node)
            continue
        name, (source,) = f"{node.name}__strides", node.inputs
        config = {"name": name, "pool_size": (1, 1), "strides": strides, "padding": "valid"}
        config["data_format"] = layer.config["data_format"]
        layers[name] = Layer(name, "AveragePooling2D", config)
        layers[layer.name] = dataclasses.replace(layer, config={**layer.config, "strides": (1, 1)})
        shape = (*node.shapes[0][:-1], graph.shape(source)[-1])
        nodes.append(Node(name, name, (source,), {}, (source,), (shape,)))
        nodes.append(node.reading({source: Ref(name)}))
    return dataclasses.replace(graph.rewired(layers, nodes, {}), sequential=False)
