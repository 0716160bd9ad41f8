"""How active channels were on the data that a network was trained on, as its BatchNorm layers remember it.

Behind a BatchNorm with offset beta and factor gamma a channel is, over the training data, about normal with that mean
and deviation; behind an activation f its mean is `E[f(beta + |gamma| z)]`. Inputs that are not the data's leave many
channels too quiet, and what is quiet looks cheap to remove. `gain` says by how much each channel has to be multiplied
to be as active as the network remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import Graph, Node, Ref
from keras_robust_prune.layers import layer_type
from keras_robust_prune.primitives.gaussian import Gaussian

# No channel is damped or raised by more: what the statistics say is an estimate.
LEAST_GAIN, MOST_GAIN = 0.5, 8.0
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(64)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


class Activity(NamedTuple):
    """What is remembered of a tensor's channels.

    Attributes:
        mean: of every channel over positions and training data, `(channels,)`.
        deviation: the standard deviation; None where only the mean is known.
        rectified: whether an activation stands between the BatchNorm and here.
    """

    mean: np.ndarray
    deviation: np.ndarray | None
    rectified: bool = False


def remembered(graph: Graph) -> Mapping[Ref, Activity]:
    """The activity of every tensor that follows from BatchNorm statistics; other tensors are left out.

    Args:
        graph: the network, activations split off.

    Example:
        Behind a BatchNorm of mean 0 and deviation 1 and a ReLU the mean is 1 / sqrt(2 pi), about .40:

        >>> from keras_robust_prune.graph.graph import Layer, Node
        >>> statistics = dict.fromkeys(["moving_mean", "moving_variance"], np.ones(1))
        >>> layers = {"x": Layer("x", "InputLayer", {}), "r": Layer("r", "ReLU", {})}
        >>> layers["n"] = Layer("n", "BatchNormalization", {"epsilon": 1e-3}, statistics)
        >>> x, n, r = Ref("x"), Ref("n"), Ref("r")
        >>> nodes = [Node("x", "x", shapes=((1,),)), Node("n", "n", (x,), {}, (x,), ((1,),))]
        >>> nodes.append(Node("r", "r", (n,), {}, (n,), ((1,),)))
        >>> remembered(Graph(layers, tuple(nodes), (x,), (r,)))[r].mean.round(2)
        array([0.4])
    """
    found: dict[Ref, Activity] = {}
    for node in graph.nodes:
        layer = graph.layer_of(node)
        if (kept := layer_type(layer).statistics(layer)) is not None:
            width = len(layer.weights[kept.mean])
            beta = layer.weights.get("beta", np.zeros(width)).astype(float)
            gamma = layer.weights.get("gamma", np.ones(width)).astype(float)
            found[node.ref] = Activity(beta, np.abs(gamma))
        elif not layer.weights and len(node.inputs) == 1 and node.inputs[0] in found:
            passed = _passed(graph, node, found[node.inputs[0]])
            if passed is not None:
                found[node.ref] = passed
    return found


def _passed(graph: Graph, node: Node, before: Activity) -> Activity | None:
    """What a call without weights makes of it: activations by quadrature; what keeps the mean keeps that alone."""
    layer = graph.layer_of(node)
    kind = layer_type(layer)
    function = kind.function(layer, graph.keras)
    if function is not None:
        if before.deviation is None:
            return None
        values = function.forward(before.mean + before.deviation * _NODES[:, None])
        mean = _WEIGHTS @ values
        return Activity(mean, np.sqrt(_WEIGHTS @ np.square(values - mean)), True)
    width = len(before.mean)
    if kind.transparent:
        shape = graph.shape(node.ref)
        return before if shape and (shape[-1] or 1) % width == 0 else None
    after = kind.moments(graph, node, [Gaussian(before.mean, np.eye(width))])
    if after is None or len(after.mean) != width or not np.allclose(after.mean, before.mean):
        return None
    return Activity(before.mean, None, before.rectified)


def gain(activity: Activity, seen: np.ndarray) -> np.ndarray:
    """What each channel is multiplied by to be as active as it was on the training data.

    Args:
        activity: what is remembered of a tensor.
        seen: the mean of each channel on some inputs, `(channels,)`.

    Returns:
        Remembered over seen mean, `(channels,)`, within [1/2, 8].

    Example:
        >>> gain(Activity(np.array([0.4, 0.4, 0.4]), None), np.array([0.4, 0.2, 0.0])).tolist()
        [1.0, 2.0, 8.0]
    """
    return np.clip(activity.mean / np.maximum(seen, 1e-6), LEAST_GAIN, MOST_GAIN)
