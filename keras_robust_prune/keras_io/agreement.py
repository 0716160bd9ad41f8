"""Whether what was opened computes what it did closed, on random inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, map_refs
from keras_robust_prune.graph.nest import leaves
from keras_robust_prune.keras_io.building import build
from keras_robust_prune.keras_io.opening import Opened
from keras_robust_prune.keras_io.symbolic import dtype_of, key_of, map_tensors

SAMPLES, OPEN_LENGTH = 3, 32


def agrees(model: Any, graph: Graph) -> bool:
    """Whether a graph that was read from a model gives its outputs, up to rounding.

    Args:
        model: a functional model, or a composite as it was recorded.
        graph: what was read from it.

    Returns:
        False as well if the graph cannot be built; True if the model itself takes no random inputs.
    """
    recorded = isinstance(model, Opened)
    values = random_values(model.inputs)
    try:
        if recorded:
            args, kwargs = map_tensors(
                lambda tensor: values[key_of(tensor)], (model.start, model.named)
            )
            expected = model.layer(*args, **kwargs, **model.in_inference)
        else:
            expected = model(map_tensors(lambda x: values[key_of(x)], model.input), training=False)
    except Exception:
        return True
    try:
        given = dict(zip(graph.inputs, values.values(), strict=True))
        found = build(graph)(map_refs(given.__getitem__, _start(graph)), training=False)
    except Exception:
        return False
    pairs = zip(_arrays(expected), _arrays(found), strict=True)
    return all(close(ours, theirs) for ours, theirs in pairs)


def called_once(model: Any) -> None:
    """Calls a model that holds layers which are built by their first call, on random inputs."""
    parts = list(model._flatten_layers()) if hasattr(model, "_flatten_layers") else []
    inputs = getattr(model, "inputs", None)
    if not inputs or all(getattr(part, "built", True) for part in parts):
        return
    values = random_values(inputs)
    with contextlib.suppress(Exception):
        model(map_tensors(lambda x: values[key_of(x)], model.input), training=False)


def _start(graph: Graph) -> Any:
    start = graph.inputs if graph.input_structure is None else graph.input_structure
    return list(start) if isinstance(start, tuple) else start


def _arrays(outputs: Any) -> list[np.ndarray]:
    return [np.asarray(part) for part in leaves(outputs)]


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two outputs are equal up to the rounding of their precision."""
    if ours.shape != theirs.shape:
        return False
    tolerance = 1e-4 if theirs.dtype == np.float32 else 1e-2
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    size = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
    return bool(np.allclose(ours, theirs, rtol=0, atol=tolerance * size, equal_nan=True))


def random_values(tensors: Iterable[Any]) -> dict[Any, np.ndarray]:
    """An array for every placeholder: normal numbers, the first two numbers of a vocabulary, or true."""
    generator = np.random.default_rng(0)
    found = {}
    for tensor in tensors:
        shape = (SAMPLES, *(length or OPEN_LENGTH for length in tuple(tensor.shape)[1:]))
        kind = dtype_of(tensor)
        if kind == "bool":
            value = np.ones(shape, bool)
        elif "int" in kind:
            value = generator.integers(0, 2, shape).astype(kind)
        else:
            value = generator.normal(size=shape).astype("float32")
        found[key_of(tensor)] = value
    return found
