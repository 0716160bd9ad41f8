"""How many samples a call computes for one input: windows and tokens that became samples of the batch.

Attention in windows reshapes `(batch, height, width, channels)` to `(batch * windows, places, channels)`, experts see
`(batch * steps, channels)`. What is said of such a call holds for one window or one token.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from keras_robust_prune.graph.graph import Graph, Node
from keras_robust_prune.layers.base import known_size, layer_type


def with_samples(graph: Graph) -> Graph:
    """The same graph whose calls know how many samples they compute for one input, where lengths are known."""
    times: dict[str, Fraction] = {}
    nodes = []
    for node in graph.nodes:
        times[node.name] = max([times[ref.node] for ref in node.inputs], default=Fraction(1))
        if layer_type(graph.layer_of(node)).keeps_entries:
            before, after = graph.shape(node.inputs[0]), node.shapes[0]
            if None not in (*before, *after):
                times[node.name] *= Fraction(known_size(before), known_size(after))
        nodes.append(dataclasses.replace(node, samples=max(1, int(times[node.name]))))
    return dataclasses.replace(graph, nodes=tuple(nodes))


def macs_of(graph: Graph, node: Node) -> int:
    """Multiply-accumulate operations of one call for one input of the network."""
    return node.samples * layer_type(graph.layer_of(node)).macs(graph, node)
