"""Composites inside a composite that are recorded along with it.

Keras records a call of a layer as one step, for which it has to know the shapes of what the layer gives. A block that
gives `(tensor, None)`, tensors that depend on shapes alone, or other shapes than its class says cannot be such a step.
While `inlined` lasts, such layers do what is in their `call` there and then.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keras_robust_prune.keras_io.symbolic import dtype_of, is_symbolic, tensors_in


@contextlib.contextmanager
def inlined(layers: Iterable[Any], training: bool | None) -> Iterator[None]:
    """Lets layers do what is in their `call` when they are called on symbolic tensors.

    One that cannot is called as a layer. Their classes are as they were when it ends.

    Args:
        layers: the layers.
        training: the mode of calls that do not say one.
    """
    before = [(layer, type(layer)) for layer in layers]
    made: dict[type, type] = {}
    for layer, kind in before:
        if kind not in made:
            made[kind] = _calling(kind, training)
        object.__setattr__(layer, "__class__", made[kind])
    try:
        yield
    finally:
        for layer, kind in before:
            object.__setattr__(layer, "__class__", kind)


def _calling(kind: Any, training: bool | None) -> type:
    """A subclass of a layer's class that calls `call`."""

    def caller(self: Any, *args: Any, **kwargs: Any) -> Any:
        if fits(self, args, kwargs):
            with contextlib.suppress(Exception):
                return self.call(*args, **with_mode(self, args, kwargs, training))
        inlining = type(self)
        object.__setattr__(self, "__class__", kind)
        try:
            return self(*args, **kwargs)
        finally:
            object.__setattr__(self, "__class__", inlining)

    same = {"__call__": caller, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind)(kind.__name__, (kind,), same)


@contextlib.contextmanager
def as_symbolic(layer: Any, keras: Any) -> Iterator[None]:
    """Lets the parts of a layer of Keras 3 take symbolic tensors as they take others, while it lasts.

    Weights leave `weight * tensor` to the tensor, and layers that call a length unknown, which was open when they were
    built, say what it is now. In tf_keras all do so by themselves.
    """
    changed: list[tuple[Any, type]] = []
    made: dict[type, type] = {}
    parts = list(layer._flatten_layers()) if hasattr(keras, "ops") else []
    for thing, change in (
        *((weight, _deferring) for part in parts for weight in part.weights),
        *((part, _telling(keras)) for part in parts if part.weights),
    ):
        kind: Any = type(thing)
        with contextlib.suppress(TypeError):
            made[kind] = made.get(kind) or change(kind)
            object.__setattr__(thing, "__class__", made[kind])
            changed.append((thing, kind))
    try:
        yield
    finally:
        for thing, kind in reversed(changed):
            object.__setattr__(thing, "__class__", kind)


OPERATORS: tuple[str, ...] = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
OPERATORS += ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor")


def _deferring(kind: Any) -> type:
    """A weight's class whose operators leave symbolic tensors to those."""

    def deferred(name: str) -> Any:
        own = getattr(kind, name)

        def operator(self: Any, other: Any) -> Any:
            return NotImplemented if is_symbolic(other) else own(self, other)

        return operator

    names = [f"__{name}__" for name in OPERATORS]
    same = {name: deferred(name) for name in names if hasattr(kind, name)}
    same |= {"__hash__": kind.__hash__, "__module__": kind.__module__}
    return type(kind)(kind.__name__, (kind,), same)


def _telling(keras: Any) -> Any:
    def telling(kind: Any) -> type:
        """A layer's class that tells lengths which its inputs have but its own answer leaves open."""

        def compute_output_spec(self: Any, *args: Any, **kwargs: Any) -> Any:
            found = kind.compute_output_spec(self, *args, **kwargs)
            given = keras.tree.flatten((args, kwargs))
            if _has_open(keras.tree.flatten(found)) and not _has_open(given):
                # Keras takes a product with a weight for a sparse tensor.
                dense = lambda x: keras.KerasTensor(x.shape, x.dtype) if is_symbolic(x) else x  # noqa: E731
                args, kwargs = keras.tree.map_structure(dense, (args, kwargs))
                found = keras.Operation.compute_output_spec(self, *args, **kwargs)
            return found

        same = {"compute_output_spec": compute_output_spec, "__module__": kind.__module__}
        return type(kind)(kind.__name__, (kind,), same)

    return telling


def _has_open(tensors: Iterable[Any]) -> bool:
    """Whether a tensor has an unknown length beside that of the batch."""
    return any(None in tuple(x.shape)[1:] for x in tensors if hasattr(x, "shape"))


def fits(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether calling a layer is no more than what is in its `call`."""
    tensors = list(tensors_in((args, dict(kwargs))))
    plain = all(getattr(tensor, "_keras_mask", None) is None for tensor in tensors)
    built = layer.built or getattr(type(layer).build, "_is_default", False)
    return bool(built) and plain and all(call_dtype(layer, x) == dtype_of(x) for x in tensors)


def with_mode(
    layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], training: bool | None
) -> dict[str, Any]:
    """Keyword arguments with the mode, if the layer is told it and the call does not say it."""
    signature = inspect.signature(layer.call)
    given = signature.bind_partial(*args, **kwargs).arguments
    if "training" not in signature.parameters or given.get("training") is not None:
        return dict(kwargs)
    return {**kwargs, "training": training}


def call_dtype(layer: Any, tensor: Any) -> str:
    """The type that a layer casts a tensor to before its `call` sees it."""
    given = dtype_of(tensor)
    wanted = getattr(layer, "compute_dtype", None)
    casts = getattr(layer, "autocast", getattr(layer, "_autocast", True))
    return str(wanted) if casts and wanted and "float" in given else given


def paths_inside(layer: Any) -> dict[int, tuple[str, ...]]:
    """The names of the layers that lead from a composite to each layer that it holds, by `id`."""
    found: dict[int, tuple[str, ...]] = {}
    left: list[tuple[Any, tuple[str, ...]]] = [(layer, ())]
    while left:
        outer, path = left.pop(0)
        for inner in outer._flatten_layers(recursive=False, include_self=False):
            if id(inner) not in found:
                found[id(inner)] = path
                left.append((inner, (*path, inner.name)))
    return found
