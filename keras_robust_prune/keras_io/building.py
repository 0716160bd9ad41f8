"""`Graph` -> Keras model, by making every layer afresh and repeating every call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.backends import ModelError
from keras_robust_prune.graph.graph import Graph, Node, Ref, map_refs
from keras_robust_prune.keras_io.layers import is_layer, make, write_weights
from keras_robust_prune.keras_io.symbolic import flat
from keras_robust_prune.layers.padding import spelled_out


def build(graph: Graph) -> Any:
    """Makes a Keras model from a graph, with variables of its own.

    Args:
        graph: what `read` gave, or an edited copy. Configurations and weights must agree.

    Returns:
        A model of `graph.keras`, not compiled; `Sequential` if the graph was read from one and still is a chain. Its
        outputs are structured like `graph.output_structure`, or else listed in the order of `graph.outputs`.

    Raises:
        ModelError: with every layer that cannot be made or does not fit its weights.

    Example:
        >>> import tf_keras
        >>> from keras_robust_prune.keras_io.reading import read
        >>> model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
        >>> build(read(model)).count_params()
        15
    """
    return build_with_layers(graph)[0]


@backends.random_state_kept()
def build_with_layers(graph: Graph) -> tuple[Any, Mapping[str, Any]]:
    """The model that `build` makes, and what it called for every layer of the graph, by name."""
    keras, graph = backends.module(graph.keras), spelled_out(graph)
    made, problems = {}, []
    for name, layer in graph.layers.items():
        try:
            made[name] = make(layer, graph.keras)
        except Exception as error:
            problems.append(f"layer '{name}' ({layer.kind}) cannot be made: {error}")
    if problems:
        raise ModelError(f"'{graph.name}' cannot be built", problems)
    if graph.sequential and is_chain(graph) and all(map(is_layer, made.values())):
        chain = [made[node.layer] for node in graph.nodes]
        model = keras.Sequential(chain, name=graph.name)
    else:
        model = _replay(graph, made, keras)
    problems = [
        problem
        for name, layer in graph.layers.items()
        for problem in write_weights(made[name], layer)
    ]
    if problems:
        raise ModelError(f"'{graph.name}' cannot be built", problems)
    return model, made


def is_chain(graph: Graph) -> bool:
    """Whether every node but the first reads just the one before it, and the last is the output."""
    calls = zip(graph.nodes, graph.nodes[1:], strict=False)
    return (
        len(graph.layers) == len(graph.nodes)
        and graph.inputs == (graph.nodes[0].ref,)
        and graph.outputs == (graph.nodes[-1].ref,)
        and all(node.args == (before.ref,) and not node.kwargs for before, node in calls)
        and graph.output_structure in (None, graph.outputs[0])
    )


def repeat(
    node: Node,
    made: Mapping[str, Any],
    tensors: dict[Ref, Any],
    flatten: Callable[[Any], Sequence[Any]] = flat,
) -> None:
    """Makes a call again, on the tensors that are there, and adds what it returns.

    Args:
        node: the call.
        made: layers by name.
        tensors: what was computed before, symbolic or not.
        flatten: gives a call's outputs in the order Keras numbers them.
    """
    args, kwargs = map_refs(tensors.__getitem__, (node.args, node.kwargs))
    for index, tensor in enumerate(flatten(made[node.layer](*args, **kwargs))):
        tensors[Ref(node.name, index)] = tensor


def _replay(graph: Graph, made: Mapping[str, Any], keras: Any) -> Any:
    """The functional model that the graph's calls make."""
    tensors: dict[Ref, Any] = {ref: made[graph.node[ref.node].layer].output for ref in graph.inputs}
    for node in graph.nodes:
        if node.ref in tensors:
            continue
        try:
            repeat(node, made, tensors)
        except Exception as error:
            raise ModelError(
                f"'{graph.name}' cannot be built",
                [f"the call '{node.name}' of layer '{node.layer}' fails: {error}"],
            ) from error
    start = graph.inputs if graph.input_structure is None else graph.input_structure
    end = graph.outputs if graph.output_structure is None else graph.output_structure
    if isinstance(end, tuple) and len(end) == 1:
        end = end[0]
    listed = [list(part) if isinstance(part, tuple) else part for part in (start, end)]
    inputs, outputs = map_refs(tensors.__getitem__, listed)
    return keras.Model(inputs, outputs, name=graph.name)
