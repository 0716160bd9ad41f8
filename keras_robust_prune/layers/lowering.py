"""Writes a network down as a program of primitives, call by call."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.layers.calls import Call, LoweringError
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.primitives.program import Operation, Program


def lower(graph: Graph, dtype: Any = np.float64) -> Program:
    """Write a network as primitives.

    Args:
        graph: the network.
        dtype: the precision in which its program computes, float64 or float32.

    Returns:
        A program that computes what the network computes.

    Raises:
        LoweringError: layers that have no bounds, all of them, with the way out.
    """
    graph = split_activations(graph)
    operations: list[Operation] = []
    places: dict[Ref, int] = {}
    problems: list[str] = []
    for node in graph.nodes:
        inputs = tuple(places.get(ref, -1) for ref in node.inputs)
        call = Call(graph, node, inputs, operations, dtype)
        try:
            if call.layer.is_input:
                places[node.ref] = call.emit(None, shape=call.out_shape)
            elif -1 not in inputs:
                places[node.ref] = layer_type(call.layer).lower(call)
        except LoweringError as error:
            problems.append(str(error))
    missing = [ref.node for ref in graph.outputs if ref not in places]
    if problems or missing:
        listed = "\n- ".join(
            problems or [f"'{name}' has more than one output." for name in missing]
        )
        raise LoweringError(
            f"Bounds cannot pass these layers:\n- {listed}\nDescribe a layer of your own with a lower() that writes "
            "primitives (krp.register_layer), or use a method that needs no bounds."
        )
    return Program(
        tuple(operations),
        tuple(places[ref] for ref in graph.inputs),
        tuple(places[ref] for ref in graph.outputs),
        places,
        np.dtype(dtype),
    )
