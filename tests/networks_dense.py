"""Dense networks as graphs, made without Keras: for tests of the mathematics."""

from __future__ import annotations

import itertools

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref


def mlp(
    widths: list[int], activation: str = "relu", seed: int = 0, closing: str = "softmax"
) -> tuple[Graph, list[str]]:
    """A chain of dense layers `dense_0`, `dense_1`, ... with random weights and biases.

    Args:
        widths: of the input and of every layer.
        activation: of the hidden layers.
        seed: of the weights.
        closing: activation of the last layer.

    Returns:
        The graph and the names of its layers.
    """
    rng = np.random.default_rng(seed)
    layers = {"x": Layer("x", "InputLayer", {"name": "x"})}
    nodes = [Node("x", "x", shapes=((widths[0],),))]
    for k, (fan_in, units) in enumerate(itertools.pairwise(widths)):
        name = f"dense_{k}"
        last = k == len(widths) - 2
        config = {"name": name, "units": units, "use_bias": True}
        config |= {"activation": closing if last else activation}
        kernel = rng.normal(size=(fan_in, units)) / np.sqrt(fan_in)
        weights = {"kernel": kernel.astype("float32")}
        weights["bias"] = rng.normal(scale=0.3, size=units).astype("float32")
        layers[name] = Layer(name, "Dense", config, weights)
        ref = nodes[-1].ref
        nodes.append(Node(name, name, (ref,), {}, (ref,), ((units,),)))
    graph = Graph(layers, tuple(nodes), (Ref("x"),), (nodes[-1].ref,))
    return graph, [name for name in layers if name != "x"]
