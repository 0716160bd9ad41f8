"""Keras model -> `Graph`.

Nested models are flattened into one level; a layer stays one `Layer` however often and wherever it is called.

Kinds are Keras class names. An operation of Keras 3 (`x * 2`, `keras.ops.relu(x)`) has the kind `"ops.<Class>"`,
because some carry the name of a layer and mean something else; in tf_keras it is a `TFOpLambda` whose config names the
function.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.backends import ModelError
from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref, map_refs, refs_in
from keras_robust_prune.keras_io.agreement import agrees, called_once
from keras_robust_prune.keras_io.building import build
from keras_robust_prune.keras_io.files import load
from keras_robust_prune.keras_io.layers import describe
from keras_robust_prune.keras_io.opening import Closed, Opener, record_model, unchanged
from keras_robust_prune.keras_io.traversal import Traversal, is_graph_model
from keras_robust_prune.layers.kernels import with_kernels
from keras_robust_prune.layers.norms import with_norms
from keras_robust_prune.layers.padding import recognised
from keras_robust_prune.layers.samples import with_samples

__all__ = ["ModelError", "build", "load", "opened", "read", "read_masks"]


def read(model: Any, custom_objects: Mapping[str, Any] | None = None, trust: bool = False) -> Graph:
    """Reads a Keras model, in memory or from a file, into a `Graph`.

    Pruning wrappers, of this package and of tfmot, are taken off. The model is not changed, and its weights are copied.

    Args:
        model: a Sequential, functional or subclassed model of tf_keras or Keras 3, or the path of one: SavedModel
            directory, `.keras`, `.h5`. Composite layers without a rule are opened (`opening`).
        custom_objects: classes and functions by name, for a file that mentions the user's own.
        trust: whether a file may run code of its own; see `load`.

    Returns:
        The graph; `build` turns it back into a model of the same Keras.

    Raises:
        ModelError: with every problem of the model: not built, not traceable, without layers, weights that are not
            finite, channels-first layers, layers that cannot be rebuilt, files that hold no model.

    Example:
        >>> import tf_keras
        >>> graph = read(
        ...     tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3, name="a")])
        ... )
        >>> graph.layers["a"].weights["kernel"].shape
        (4, 3)
    """
    model = opened(model, trust, custom_objects)
    with unchanged(model):
        return _read(model)


def _read(model: Any) -> Graph:
    """The graph of a model in memory, with all opened that computes the same when it is."""
    called_once(model)
    opener = Opener()
    traversal = _traverse(model, opener)
    graph = _described(traversal, opener)
    while opener.opened and not agrees(traversal.model, graph):
        _close_what_differs(opener)
        traversal = _traverse(model, opener)
        graph = _described(traversal, opener)
    for layer in opener.lost.values():
        warnings.warn(
            f"layer '{layer.name}' ({type(layer).__name__}) computes something else in training than the layers that "
            "it was opened into. Outputs are the same; training of the result goes without that.",
            stacklevel=3,
        )
    return graph


def _close_what_differs(opener: Opener) -> None:
    """Closes the composites that compute something else once opened; all, if none of them does alone."""
    alone = list(reversed(opener.opened.values()))  # those inside others first
    for found in alone:
        if len(found.symbolic) < len(found.outputs):  # constants of its have no place in a model
            continue
        inner = Opener(dict(opener.closed))
        if not agrees(found, _described(Traversal(found, inner), inner)):
            opener.close(found.layer, "gives other outputs once opened")
    if opener.again:
        return
    for found in alone:
        opener.close(found.layer, "gives other outputs once opened together with others")


def _described(traversal: Traversal, opener: Opener) -> Graph:
    """The graph of a traversal.

    Raises:
        ModelError: with every problem of it.
    """
    layers: dict[str, Layer] = {}
    problems: list[str] = []
    for layer_id, name in traversal.layer_names().items():
        found = traversal.layers[layer_id]
        reason = opener.closed.get(layer_id, "")
        try:
            layers[name] = describe(found.layer, name, found.trainable, found.kind, reason)
        except ValueError as error:
            problems.append(str(error))
    graph = (
        with_samples(with_norms(with_kernels(recognised(_graph(traversal, layers)))))
        if not problems
        else None
    )
    for layer in (layers if graph is None else graph.layers).values():
        problems += _problems(layer)
    if all(layer.is_input for layer in layers.values()) and not problems:
        problems.append("it holds no layer between its inputs and its outputs.")
    if graph is None or problems:
        raise ModelError(f"'{traversal.outer.name}' cannot be read", problems)
    return graph


def opened(model: Any, trust: bool = False, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model that a path holds; whatever is no path is left as it is."""
    if isinstance(model, (str, os.PathLike)):
        return load(Path(model), custom_objects, trust)
    return model


def read_masks(model: Any) -> dict[str, np.ndarray]:
    """The masks of a wrapped model, by the name that `read` gives the layer inside the wrapper."""
    with unchanged(model):
        traversal = _traverse(model)
    names = traversal.layer_names()
    return {
        names[layer_id]: np.array(wrapper.mask.numpy())
        for layer_id, wrapper in traversal.wrappers.items()
        if hasattr(wrapper, "mask")
    }


def _traverse(model: Any, opener: Opener | None = None) -> Traversal:
    """Follows a model's calls, if it has any.

    Raises:
        ModelError: it is no model, not built, or subclassed in a way that cannot be recorded.
    """
    keras = backends.module(backends.keras_name(model))
    name = getattr(model, "name", model)
    opener = Opener() if opener is None else opener
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"'{name}' cannot be read", ["it is a layer, not a model. Put it into a Sequential."]
        )
    if is_graph_model(model):
        followed = model
    elif isinstance(model, keras.Sequential) or type(model).__module__.endswith("saved_model.load"):
        raise ModelError(f"'{name}' cannot be read", [_why_not(model, keras)])
    else:
        try:
            followed = record_model(model)
        except Closed as reason:
            raise ModelError(
                f"'{name}' cannot be read",
                [
                    f"it is subclassed ({type(model).__name__} has a call of its own), and it {reason}. Or rebuild it "
                    "as keras.Model(inputs, outputs)."
                ],
            ) from reason
    while True:
        opener.start(followed)
        try:
            traversal = Traversal(followed, opener)
        except Closed as reason:
            problem = f"an output of it {reason}: leave that out."
            raise ModelError(f"'{name}' cannot be read", [problem]) from reason
        if not opener.again:
            return traversal


def _why_not(model: Any, keras: Any) -> str:
    """Why a model has no calls to follow."""
    if not isinstance(model, keras.Sequential):
        return (
            f"it is subclassed ({type(model).__name__}) and was loaded without its class. Load it with custom_objects "
            "and pass it in memory."
        )
    if model.built and model.layers:
        return (
            "Keras could not tell the shapes between its layers. Give every custom layer in it a compute_output_shape, "
            "and begin it with keras.Input(shape)."
        )
    return (
        "it is not built: its input shape is unknown. Begin it with keras.Input(shape), or call "
        "model.build((None, ...)) first."
    )


def _problems(layer: Layer) -> list[str]:
    """What makes a layer unfit."""
    found = []
    if layer.config.get("data_format") == "channels_first":
        found.append(
            f"layer '{layer.name}' ({layer.kind}) is channels-first. Only channels-last is supported: rebuild the "
            "model with data_format='channels_last' and set the same weights."
        )
    for name, value in layer.weights.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            found.append(
                f"weight '{name}' of layer '{layer.name}' ({layer.kind}) holds NaN or infinity. Train it again, or "
                "load an earlier checkpoint."
            )
    return found


def _graph(traversal: Traversal, layers: Mapping[str, Layer]) -> Graph:
    """The graph of a traversal, with names in place of its numbers."""
    names, calls = traversal.layer_names(), traversal.call_names()
    keras = backends.keras_name(traversal.outer)

    def named(ref: Ref) -> Ref:
        return Ref(calls[int(ref.node)], ref.output)

    nodes = []
    for name, call in zip(calls, traversal.calls, strict=True):
        args, kwargs = map_refs(named, (call.args, call.kwargs))
        nodes.append(
            Node(name, names[call.layer], args, kwargs, refs_in((args, kwargs)), call.shapes)
        )
    return Graph(
        layers=layers,
        nodes=tuple(nodes),
        inputs=tuple(map(named, traversal.inputs)),
        outputs=tuple(map(named, traversal.outputs)),
        keras=keras,
        name=traversal.outer.name,
        sequential=isinstance(traversal.model, backends.module(keras).Sequential),
        input_structure=map_refs(named, traversal.input_structure),
        output_structure=map_refs(named, traversal.output_structure),
    )
