"""Follows the calls that made a Keras model's outputs back to its inputs, through nested models.

Keras leaves on every symbolic tensor which call of which layer made it. From that a `Walk` lists the calls in
topological order. A call of a nested model is replaced by the calls inside it, and a pruning wrapper by the layer it
wraps.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Ref, Shape

Key = tuple[int, int, int]

FLOATS = {"float16", "bfloat16", "float32", "float64"}


def unwrap(layer: Any) -> Any:
    """The layer inside pruning wrappers: ours (`krp_masked_layer`) or tfmot's."""
    while True:
        inner = getattr(layer, "krp_masked_layer", None)
        kind = type(layer)
        if kind.__name__ == "PruneLowMagnitude" and "model_optimization" in kind.__module__:
            inner = layer.layer
        if inner is None:
            return layer
        layer = inner


def is_graph_model(layer: Any) -> bool:
    """Whether a layer is a built Sequential or functional model, and no subclass with a `call` of its own."""
    if not isinstance(layer, backends.model_class(layer)):
        return False
    caller = next(base for base in type(layer).__mro__ if "call" in vars(base))
    return caller.__module__.partition(".")[0] in backends.NAMES and bool(
        getattr(layer, "inputs", None)
    )


@dataclass(frozen=True)
class Call:
    """One call, before names are given: `Ref.node` is a call's number as text."""

    layer: int
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Found:
    """A layer, the nested models that lead to it, and whether it and all of them may be trained."""

    layer: Any
    path: tuple[str, ...]
    trainable: bool


@dataclass
class Walk:
    """The calls of a model and the layers they call, by `id`."""

    model: Any
    calls: list[Call] = field(default_factory=list)
    layers: dict[int, Found] = field(default_factory=dict)
    wrappers: dict[int, Any] = field(default_factory=dict)
    inputs: tuple[Ref, ...] = ()
    outputs: tuple[Ref, ...] = ()
    input_structure: Any = None
    output_structure: Any = None

    def __post_init__(self) -> None:
        self._whole: set[int] = set()
        self._find_whole(self.model, set())
        bound: dict[Key, Ref] = {}
        for tensor in self.model.inputs:
            layer = tensor._keras_history[0]
            bound[_key(tensor)] = self._record(Found(layer, (), True), (), {}, [tensor])
        found = self._follow(self.model, bound, (), None, bool(self.model.trainable))
        self.inputs = tuple(bound.values())
        self.outputs = tuple(found[_key(tensor)] for tensor in self.model.outputs)
        start, end = _structures(self.model)
        self.input_structure = _map_tensors(lambda tensor: found[_key(tensor)], start)
        self.output_structure = _map_tensors(lambda tensor: found[_key(tensor)], end)

    def _find_whole(self, model: Any, seen: set[int]) -> None:
        """Notes the nested models that some call uses in a way that flattening would change."""
        seen.add(id(model))
        for node in _ordered_nodes(model):
            inner = unwrap(_layer_of(node))
            if not is_graph_model(inner):
                continue
            if not _can_flatten(inner, *_arguments(node)):
                self._whole.add(id(inner))
            elif id(inner) not in seen:
                self._find_whole(inner, seen)

    def _follow(
        self,
        model: Any,
        bound: Mapping[Key, Ref],
        path: tuple[str, ...],
        training: bool | None,
        trainable: bool,
    ) -> dict[Key, Ref]:
        """Records the calls inside a model; gives the `Ref` of every tensor in it."""
        found = dict(bound)
        for node in _ordered_nodes(model):
            outputs = _flat(node.outputs)
            if all(_key(tensor) in found for tensor in outputs):
                continue
            outer = _layer_of(node)
            layer = unwrap(outer)
            if layer is not outer:
                self.wrappers[id(layer)] = outer
            args, kwargs = _map_tensors(lambda tensor: found[_key(tensor)], _arguments(node))
            may_train = trainable and bool(getattr(layer, "trainable", True))
            if is_graph_model(layer) and id(layer) not in self._whole:
                mode = kwargs.get("training")
                results = self._follow(
                    layer,
                    self._bind(layer, _arguments(node)[0][0], found),
                    (*path, layer.name),
                    training if mode is None else mode,
                    may_train,
                )
                refs = [results[_key(tensor)] for tensor in layer.outputs]
            else:
                kwargs = _kwargs_for(layer, outer, kwargs, training)
                first = self._record(Found(layer, path, may_train), args, kwargs, outputs)
                refs = [Ref(first.node, index) for index in range(len(outputs))]
            found.update(zip(map(_key, outputs), refs, strict=True))
        return found

    def _bind(self, model: Any, argument: Any, found: Mapping[Key, Ref]) -> dict[Key, Ref]:
        """What each input of a nested model stands for in one call; a cast where it casts."""
        bound = {}
        for wanted, given in _bindings(model, argument):
            ref = found[_key(given)]
            if _dtype(given) != _dtype(wanted):
                layers = backends.module(backends.keras_name(model)).layers
                name = f"{model.name}_cast_{len(self.calls)}"
                cast = layers.Activation("linear", dtype=_dtype(wanted), name=name)
                ref = self._record(Found(cast, (), True), (ref,), {}, [wanted])
            bound[_key(wanted)] = ref
        return bound

    def _record(
        self, found: Found, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Sequence[Any]
    ) -> Ref:
        self.layers.setdefault(id(found.layer), found)
        shapes = tuple(_shape(tensor) for tensor in outputs)
        self.calls.append(Call(id(found.layer), args, kwargs, shapes))
        return Ref(str(len(self.calls) - 1))

    def layer_names(self) -> dict[int, str]:
        """A unique name for every layer: its own where that is unique, else with the nested model's before it."""
        owners: dict[str, int] = {}
        for found in self.layers.values():
            owners[found.layer.name] = owners.get(found.layer.name, 0) + 1
        taken = set(owners)
        names: dict[int, str] = {}
        for layer_id, found in self.layers.items():
            name = found.layer.name
            if owners[name] > 1 and found.path:
                stem, number = f"{found.path[-1]}__{name}", 1
                name = stem
                while name in taken:
                    number += 1
                    name = f"{stem}_{number}"
                taken.add(name)
            names[layer_id] = name
        return names

    def call_names(self) -> list[str]:
        """A unique name for every call: the layer's, then `<layer>__call2`, `<layer>__call3`."""
        names, numbers = self.layer_names(), dict.fromkeys(self.layers, 0)
        found = []
        for call in self.calls:
            numbers[call.layer] += 1
            number = numbers[call.layer]
            found.append(names[call.layer] + (f"__call{number}" if number > 1 else ""))
        return found


def _ordered_nodes(model: Any) -> list[Any]:
    """Keras's nodes that the model's outputs need, each after those it reads, without its inputs."""
    done = {_key(tensor)[:2] for tensor in model.inputs}
    order = []
    stack = [(tensor, False) for tensor in reversed(model.outputs)]
    while stack:
        tensor, ready = stack.pop()
        key = _key(tensor)[:2]
        if ready and key not in done:
            done.add(key)
            order.append(_node_of(tensor))
        elif key not in done:
            stack.append((tensor, True))
            read = list(_tensors(_arguments(_node_of(tensor))))
            stack += [(tensor, False) for tensor in reversed(read) if _key(tensor)[:2] not in done]
    return order


def _node_of(tensor: Any) -> Any:
    layer, index, _ = tensor._keras_history
    return layer._inbound_nodes[index]


def _layer_of(node: Any) -> Any:
    return node.operation if hasattr(node, "operation") else node.layer


def _arguments(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if hasattr(node, "arguments"):
        return tuple(node.arguments.args), dict(node.arguments.kwargs)
    return tuple(node.call_args), dict(node.call_kwargs)


def _key(tensor: Any) -> Key:
    """Which output of which call of which layer a symbolic tensor is."""
    layer, node, output = tensor._keras_history
    return id(layer), node, output


def _shape(tensor: Any) -> Shape:
    """Shape without the batch axis."""
    rank = getattr(tensor.shape, "rank", len(tensor.shape) if tensor.shape is not None else None)
    return tuple(tensor.shape)[1:] if rank else ()


def _structures(model: Any) -> tuple[Any, Any]:
    """How a model takes its inputs and gives its outputs."""
    if isinstance(model, backends.module(backends.keras_name(model)).Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def _map_tensors(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same nest of tuples, lists and dicts with `function` applied to symbolic tensors; constants become arrays."""
    if hasattr(structure, "_keras_history"):
        return function(structure)
    if isinstance(structure, Mapping):
        return {key: _map_tensors(function, value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        items = [_map_tensors(function, value) for value in structure]
        if hasattr(structure, "_fields"):
            return type(structure)(*items)
        return tuple(items) if isinstance(structure, tuple) else items
    if hasattr(structure, "numpy") and hasattr(structure, "shape"):
        return np.array(structure)
    return structure


def _tensors(structure: Any) -> Iterator[Any]:
    """Symbolic tensors of a nest, in order of appearance."""
    found: list[Any] = []
    _map_tensors(found.append, structure)
    return iter(found)


def _flat(outputs: Any) -> list[Any]:
    """A call's outputs in the order Keras numbers them."""
    return sorted(_tensors(outputs), key=lambda tensor: tensor._keras_history[2])


def _bindings(model: Any, argument: Any) -> list[tuple[Any, Any]]:
    """A nested model's inputs, each with the part of the argument that it receives."""
    start, _ = _structures(model)
    if isinstance(argument, Mapping) and not isinstance(start, Mapping):
        return [(t, argument[t._keras_history[0].name]) for t in _tensors(start)]
    return list(_pairs(start, argument))


def _pairs(start: Any, argument: Any) -> Iterator[tuple[Any, Any]]:
    if hasattr(start, "_keras_history"):
        while isinstance(argument, (list, tuple)) and len(argument) == 1:
            argument = argument[0]
        yield start, argument
    elif isinstance(start, Mapping):
        parts = (
            argument
            if isinstance(argument, Mapping)
            else dict(zip(sorted(start), argument, strict=True))
        )
        for key, part in start.items():
            yield from _pairs(part, parts[key])
    else:
        values = argument if isinstance(argument, (list, tuple)) else [argument]
        for part, value in zip(start, values, strict=True):
            yield from _pairs(part, value)


def _can_flatten(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of a nested model is no more than the calls inside it.

    It is more when it is given a mask, or a tensor that the model's inputs would reshape.
    """
    extra = {key: value for key, value in kwargs.items() if key != "training"}
    if len(args) != 1 or any(part is not None for part in _leaves(extra)):
        return False
    try:
        pairs = _bindings(model, args[0])
    except (KeyError, TypeError, ValueError):
        return False
    return len(pairs) == len(model.inputs) and all(
        hasattr(given, "_keras_history")
        and len(given.shape) == len(wanted.shape)
        and (given.dtype == wanted.dtype or {_dtype(given), _dtype(wanted)} <= FLOATS)
        for wanted, given in pairs
    )


def _dtype(tensor: Any) -> str:
    return str(getattr(tensor.dtype, "name", tensor.dtype))


def _leaves(structure: Any) -> Iterator[Any]:
    """What a nest of tuples, lists and dicts holds."""
    parts: Iterable[Any] = structure.values() if isinstance(structure, Mapping) else structure
    if isinstance(structure, (Mapping, list, tuple)):
        for part in parts:
            yield from _leaves(part)
    else:
        yield structure


def _kwargs_for(
    layer: Any, outer: Any, kwargs: dict[str, Any], training: bool | None
) -> dict[str, Any]:
    """Keyword arguments for a layer inside a nested model that is called with `training`.

    In tf_keras a layer's own `training` wins over the model's; in Keras 3 the model's wins, and defaults are written
    into the call. Those are left out, and so are arguments that only a pruning wrapper knows.
    """
    known = inspect.signature(layer.call).parameters
    if layer is not outer and all(value.kind != value.VAR_KEYWORD for value in known.values()):
        kwargs = {key: value for key, value in kwargs.items() if key in known}
    is_keras_3 = backends.keras_name(layer) == "keras"
    given = kwargs.get("training") is not None and not is_keras_3
    if training is not None and "training" in known and not given:
        kwargs = {**kwargs, "training": training}
    if not is_keras_3:
        return kwargs
    return {
        key: value
        for key, value in kwargs.items()
        if not (key in ("training", "mask") and key in known and value is known[key].default)
    }
