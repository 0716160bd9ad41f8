"""What a network costs, and what one unit of a group costs.

Parameters are every number in the weights, moving statistics included. A MAC is one multiplication with an entry of a
kernel (and, in attention, of activations); biases, normalisation and activations are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from keras_robust_prune.graph.graph import Graph, Node
from keras_robust_prune.layers.base import known_size, layer_type
from keras_robust_prune.layers.samples import macs_of
from keras_robust_prune.surgery.groups import ChannelGroup

_PER_VALUE = 50  # multiplications that take as long as one value of a tensor, written and read


class Cost(NamedTuple):
    """Numbers of parameters and of multiply-accumulate operations on one input."""

    params: float
    macs: float


def num_macs(graph: Graph) -> int:
    """Multiply-accumulate operations of the whole network on one input."""
    return _macs(graph, graph.nodes)


def _macs(graph: Graph, nodes: Sequence[Node]) -> int:
    return sum(macs_of(graph, node) for node in nodes)


def num_values(graph: Graph) -> int:
    """Numbers in the tensors that all calls of the network make of one input.

    Where a kernel is small (depthwise, 1 x 1 on few channels) reading and writing them takes the
    time, not multiplying.
    """
    return _values(graph.nodes)


def _values(nodes: Sequence[Node]) -> int:
    return sum(node.samples * known_size(shape) for node in nodes for shape in node.shapes)


def work_of(graph: Graph, nodes: Sequence[Node] | None = None) -> float:
    """Multiplications of calls, of all by default, or as many as take the time of their tensors where that is longer.

    Separable networks make 10 multiplications or so for every number that they write, others 50 and more.
    """
    nodes = graph.nodes if nodes is None else nodes
    return float(max(_macs(graph, nodes), _PER_VALUE * _values(nodes)))


def unit_cost(graph: Graph, group: ChannelGroup) -> Cost:
    """What the network saves when one unit of a group goes and all others stay.

    Example:
        A unit of the first layer of a 784-128-10 MLP: 784 weights, a bias and 10 weights behind it, so
        `Cost(params=795.0, macs=794.0)`.
    """
    shares: dict[tuple[str, str], float] = {}
    for slot in group.slots:
        layer = graph.layers[slot.layer]
        if slot.weight in layer.weights and slot.goes:
            length = layer.weights[slot.weight].shape[slot.axis]
            key = (slot.layer, slot.weight)
            left = 1.0 - slot.positions.shape[1] / length
            shares[key] = shares.get(key, 1.0) * left
    params = macs = 0.0
    for (name, weight), left in shares.items():
        layer = graph.layers[name]
        saved = layer.weights[weight].size * (1.0 - left)
        params += saved
        kind = layer_type(layer)
        names = kind.kernels_of(layer)
        kernels = sum(layer.weights[name].size for name in names)
        if kernels:
            per_entry = sum(macs_of(graph, node) for node in graph.calls[name]) / kernels
            macs += saved * per_entry if weight in names else 0.0
    return Cost(params, macs)
