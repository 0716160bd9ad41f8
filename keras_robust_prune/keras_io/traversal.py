"""Follows the calls that made a Keras model's outputs back to its inputs, through nested models.

Keras leaves on every symbolic tensor which call of which layer made it. From that a `Traversal` lists the calls in
topological order. A call of a nested model is replaced by the calls inside it, and a pruning wrapper by the layer it
wraps.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import INPUT, Ref, Shape, refs_in
from keras_robust_prune.graph.nest import leaves
from keras_robust_prune.keras_io.batch import without_batch
from keras_robust_prune.keras_io.opening import Opened, Opener, keeps_place
from keras_robust_prune.keras_io.symbolic import (
    Key,
    arguments,
    dtype_of,
    flat,
    is_symbolic,
    key_of,
    layer_of,
    map_tensors,
    node_of,
    ordered_nodes,
    shape_of,
    tensors_in,
)

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
class Place:
    """Where a call stands: which nested models and composites lead to it, and how they are called.

    Attributes:
        path: their names, the outermost first.
        opened: whether one of them is a composite that was opened.
        trainable: whether all of them may be trained.
        training: the mode that they are called in; None if it is left open.
        within: the composites among them that were opened, by `id`.
    """

    path: tuple[str, ...] = ()
    opened: bool = False
    trainable: bool = True
    training: bool | None = None
    within: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """A layer where it was found first.

    Attributes:
        layer: the layer or operation.
        place: where.
        trainable: whether it and all that leads to it may be trained.
        made_inside: whether the composite around it made it when it was recorded, so that its name counts on.
        kind: what it is in all but its class; None if it is what its class says.
    """

    layer: Any
    place: Place
    trainable: bool = True
    made_inside: bool = False
    kind: str | None = None


@dataclass
class Traversal:
    """The calls of a model and the layers they call, by `id`.

    Attributes:
        model: a Sequential or functional model, or a subclassed one as `opening` recorded it.
        opener: opens composites, and knows which stay closed.
    """

    model: Any
    opener: Opener = field(default_factory=Opener)
    calls: list[Call] = field(default_factory=list)
    layers: dict[int, Found] = field(default_factory=dict)
    wrappers: dict[int, Any] = field(default_factory=dict)
    inputs: tuple[Ref, ...] = ()
    outputs: tuple[Ref, ...] = ()
    input_structure: Any = None
    output_structure: Any = None

    @property
    def outer(self) -> Any:
        """The model that is followed."""
        return self.model.layer if isinstance(self.model, Opened) else self.model

    def __post_init__(self) -> None:
        self._whole: set[int] = set()
        subclassed = isinstance(self.model, Opened)
        self._find_whole(self.model, set())
        bound: dict[Key, Ref] = {}
        given = self.model.given if subclassed else self.model.inputs
        for tensor, seen in zip(self.model.inputs, given, strict=True):
            layer = seen._keras_history[0]
            if type(layer).__name__ != INPUT:  # a composite inside a network, followed alone
                layer = tensor._keras_history[0]
            bound[key_of(tensor)] = self._record(Found(layer, Place()), (), {}, [tensor])
        place = Place((), subclassed, bool(self.outer.trainable))
        found = self._follow(self.model, bound, place)
        self.inputs = tuple(bound.values())
        for tensor in self.model.outputs:
            if _is_array(found.get(key_of(tensor))):
                self.opener.refuse(layer_of(node_of(tensor)))
                return
        self.outputs = tuple(found[key_of(tensor)] for tensor in self.model.outputs)
        ends = self.model.ends if subclassed else _structures(self.model)
        self.input_structure, self.output_structure = (
            map_tensors(lambda tensor: found[key_of(tensor)], end) for end in ends
        )

    def _find_whole(self, model: Any, seen: set[int]) -> None:
        """Notes the nested models that some call uses in a way that flattening would change."""
        seen.add(id(model))
        ends = model.symbolic if isinstance(model, Opened) else model.outputs
        for node in ordered_nodes(model.inputs, ends):
            inner = unwrap(layer_of(node))
            if not is_graph_model(inner):
                continue
            if not _can_flatten(inner, *arguments(node)):
                self._whole.add(id(inner))
            elif id(inner) not in seen:
                self._find_whole(inner, seen)

    def _follow(self, model: Any, bound: Mapping[Key, Ref], place: Place) -> dict[Key, Ref]:
        """Records the calls inside a model or an opened composite; gives the `Ref` of every tensor in it."""
        found = dict(bound)
        ends = model.symbolic if isinstance(model, Opened) else model.outputs
        for node in ordered_nodes(model.inputs, ends):
            outputs = flat(node.outputs)
            if all(key_of(tensor) in found for tensor in outputs):
                continue
            refs = self._call(model, node, outputs, found, place)
            found.update(zip(map(key_of, outputs), refs, strict=True))
        return found

    def _call(
        self, model: Any, node: Any, outputs: Sequence[Any], found: dict[Key, Ref], place: Place
    ) -> list[Any]:
        """Records one call, or what is inside it; gives the `Ref` of every output, an array if it is constant."""
        outer = layer_of(node)
        layer = unwrap(outer)
        if layer is not outer:
            self.wrappers[id(layer)] = outer
        args, kwargs = map_tensors(
            lambda tensor: found[key_of(tensor)] if _is_array(found[key_of(tensor)]) else tensor,
            arguments(node),
        )
        trainable = place.trainable and bool(getattr(layer, "trainable", True))
        training = place.training if kwargs.get("training") is None else kwargs["training"]
        path = (*place.path, *(model.paths.get(id(layer), ()) if isinstance(model, Opened) else ()))
        place = replace(place, path=path)
        inside = replace(place, path=(*path, layer.name), trainable=trainable, training=training)
        if is_graph_model(layer) and id(layer) not in self._whole:
            pairs = _bindings(layer, args[0])
            again = self.opener.lengthen(layer, args, training) if _fixes(pairs) else None
            if again is not None:
                pairs = list(zip(again.inputs, again.given, strict=True))
                self._find_whole(again, set())
            followed = layer if again is None else again
            results = self._follow(followed, self._bind(layer, pairs, found), inside)
            return [results[key_of(tensor)] for tensor in followed.outputs]
        opened = self.opener.open(layer, args, kwargs, training, place.within)
        if opened is not None and not (opened.is_identity and keeps_place(layer)):
            pairs = list(zip(opened.inputs, opened.given, strict=True))
            bound = self._bind(layer, pairs, found)
            self._find_whole(opened, set())
            results = self._follow(
                opened, bound, replace(inside, opened=True, within=(*place.within, id(layer)))
            )
            return [
                results[key_of(x)] if is_symbolic(x) else x for x in opened.outputs if x is not None
            ]
        refs = map_tensors(lambda tensor: found[key_of(tensor)], (args, kwargs))
        kwargs = _kwargs_for(layer, outer, refs[1], place.training)
        if not refs_in(refs):
            return [np.array(value) for value in flat(layer(*refs[0], **kwargs))]
        made_inside = isinstance(model, Opened) and not model.holds(layer)
        kind = None if opened is None else "Identity"
        entry = Found(layer, place, trainable, made_inside, kind)
        batch = model.batch if isinstance(model, Opened) else None
        first = self._record(entry, refs[0], kwargs, outputs, batch)
        return [Ref(first.node, index) for index in range(len(outputs))]

    def _bind(
        self, model: Any, pairs: Iterable[tuple[Any, Any]], found: Mapping[Key, Any]
    ) -> dict[Key, Any]:
        """What each input of a nested model stands for in one call; a cast where it casts."""
        bound: dict[Key, Any] = {}
        for wanted, given in pairs:
            if _is_array(given):
                bound[key_of(wanted)] = given.astype(dtype_of(wanted))
                continue
            ref = found[key_of(given)]
            if dtype_of(given) != dtype_of(wanted):
                layers = backends.module(backends.keras_name(model)).layers
                name = f"{model.name}_cast_{len(self.calls)}"
                cast = layers.Activation("linear", dtype=dtype_of(wanted), name=name)
                ref = self._record(Found(cast, Place()), (ref,), {}, [wanted])
            bound[key_of(wanted)] = ref
        return bound

    def _record(
        self,
        found: Found,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        outputs: Sequence[Any],
        batch: int | None = None,
    ) -> Ref:
        self.layers.setdefault(id(found.layer), found)
        shapes = tuple(without_batch(shape_of(tensor), batch) for tensor in outputs)
        self.calls.append(Call(id(found.layer), args, kwargs, shapes))
        return Ref(str(len(self.calls) - 1))

    def layer_names(self) -> dict[int, str]:
        """A unique name for every layer.

        Its own where that is unique, else with the nested model's before it; inside composites, the whole path.
        """
        owners: dict[str, int] = {}
        for found in self.layers.values():
            if not found.place.opened:
                owners[found.layer.name] = owners.get(found.layer.name, 0) + 1
        taken = set(owners)
        names: dict[int, str] = {}
        for layer_id, found in self.layers.items():
            name = found.layer.name
            if found.place.opened:
                own = COUNTED.sub("", name) if found.made_inside else name
                name = _untaken(".".join((*found.place.path, own)).replace("/", "."), taken)
            elif owners[name] > 1 and found.place.path:
                name = _untaken(f"{found.place.path[-1]}__{name}", taken)
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


# The number that Keras counts the layers of a type by.
COUNTED = re.compile(r"_\d+$")


def _untaken(stem: str, taken: set[str]) -> str:
    """A name that nothing has yet, and that is taken now."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name


def _structures(model: Any) -> tuple[Any, Any]:
    """How a model takes its inputs and gives its outputs."""
    if isinstance(model, backends.module(backends.keras_name(model)).Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def _bindings(model: Any, argument: Any) -> list[tuple[Any, Any]]:
    """A nested model's inputs, each with the part of the argument that it receives."""
    start, _ = _structures(model)
    if isinstance(argument, Mapping) and not isinstance(start, Mapping):
        return [(t, argument[t._keras_history[0].name]) for t in tensors_in(start)]
    return list(_pairs(start, argument))


def _pairs(start: Any, argument: Any) -> Iterator[tuple[Any, Any]]:
    if is_symbolic(start):
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


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _fixes(pairs: Iterable[tuple[Any, Any]]) -> bool:
    """Whether a nested model is given tensors of a length that its own inputs leave open."""
    return any(
        theirs is None and ours is not None
        for wanted, given in pairs
        for theirs, ours in zip(shape_of(wanted), tuple(given.shape)[1:], strict=True)
    )


def _can_flatten(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of a nested model is no more than the calls inside it.

    It is more when it is given a mask, or a tensor that the model's inputs would reshape.
    """
    extra = {key: value for key, value in kwargs.items() if key != "training"}
    if len(args) != 1 or any(part is not None for part in leaves(extra)):
        return False
    try:
        pairs = _bindings(model, args[0])
    except (KeyError, TypeError, ValueError):
        return False
    return len(pairs) == len(model.inputs) and all(
        is_symbolic(given)
        and len(given.shape) == len(wanted.shape)
        and (given.dtype == wanted.dtype or {dtype_of(given), dtype_of(wanted)} <= FLOATS)
        for wanted, given in pairs
    )


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
