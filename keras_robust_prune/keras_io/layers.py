"""One Keras layer <-> one `Layer`: configuration, weights by name, and how to make it again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Layer
from keras_robust_prune.keras_io.copying import copied
from keras_robust_prune.keras_io.quantised import is_quantised, made_again
from keras_robust_prune.layers.base import named

UNNAMED = re.compile(r"\bvariable(_\d+)?(?=$|:)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a layer is made again when its class and configuration do not suffice.

    Attributes:
        layer_class: the layer's class.
        from_config: makes a layer from a configuration.
    """

    layer_class: type
    from_config: Callable[[Mapping[str, Any]], Any]


def describe(
    layer: Any, name: str, trainable: bool = True, kind: str | None = None, closed: str = ""
) -> Layer:
    """What a built Keras layer, or Keras 3 operation, is, under the name it is to have.

    Args:
        layer: the layer.
        name: the name that it has in the graph.
        trainable: whether training may change it.
        kind: the layer of Keras that it is like, where its class says nothing.
        closed: why it could not be opened.

    Raises:
        ValueError: it cannot be made again.
    """
    config, origin = _origin(layer)
    if kind is not None:
        same = getattr(backends.module(backends.keras_name(layer)).layers, kind)
        origin = Recipe(same, origin.from_config)
    return Layer(
        name=name,
        kind=kind or kind_of(layer),
        config={**config, "name": name},
        weights=read_weights(layer),
        origin=origin,
        trainable=trainable,
        closed=closed,
    )


def kind_of(layer: Any) -> str:
    """A layer's class name; `"ops.<Class>"` for an operation of Keras 3."""
    kind = type(layer).__name__
    return kind if is_layer(layer) else f"ops.{kind}"


def is_layer(layer: Any) -> bool:
    """Whether it is a layer, and not an operation of Keras 3."""
    return isinstance(layer, backends.module(backends.keras_name(layer)).layers.Layer)


def make(layer: Layer, keras: str) -> Any:
    """A fresh Keras layer, not built yet."""
    module = backends.module(keras)
    origin = layer.origin
    if origin is None:
        origin = getattr(module.layers, layer.kind, None)
        if origin is None:
            raise ValueError(f"{keras} has no layer '{layer.kind}'.")
    made = origin.from_config(dict(layer.config))
    if made.name != layer.name:
        setattr(made, "name" if keras == "keras" else "_name", layer.name)
    if getattr(made, "trainable", layer.trainable) != layer.trainable:
        made.trainable = layer.trainable
    return made


def weight_names(layer: Any) -> list[str]:
    """The names of a layer's weights, in its order: as few last components of Keras's names as make them unique.

    A weight that its layer gives no name is a `"variable"`, without the number that Keras counts it by.
    """
    paths = [
        UNNAMED.sub("variable", getattr(weight, "path", None) or weight.name)
        .split(":")[0]
        .split("/")
        for weight in getattr(layer, "weights", ())
    ]
    depth = 1
    names = ["/".join(path[-1:]) for path in paths]
    while len(set(names)) < len(names) and depth < max(map(len, paths)):
        depth += 1
        count = Counter(names)
        names = [
            "/".join(path[-depth:]) if count[name] > 1 else name
            for path, name in zip(paths, names, strict=True)
        ]
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[index] = f"{name}#{seen[name]}"
    known = named(type(layer).__name__).weight_names
    return [known.get(name, name) for name in names]


def read_weights(layer: Any) -> dict[str, np.ndarray]:
    """Copies of a layer's weights by name; they cannot be written to."""
    found = {}
    for name, weight in zip(weight_names(layer), getattr(layer, "weights", ()), strict=True):
        value = np.array(weight.numpy())
        value.setflags(write=False)
        found[name] = value
    return found


def written_weights(made: Any, layer: Layer) -> dict[str, np.ndarray]:
    """The weights of a Keras layer that `write_weights` gave those of a layer, by that one's names."""
    return dict(zip(_names(made, layer), read_weights(made).values(), strict=True))


def write_weights(made: Any, layer: Layer) -> list[str]:
    """Gives a built Keras layer its weights; returns what is wrong instead where names or shapes differ.

    The weights of sublayers that have no names of their own are called by a number that Keras counts on with every
    layer: as many weights under other names are taken in order.
    """
    names = _names(made, layer)
    if not names and not layer.weights:
        return []
    if set(names) != set(layer.weights):
        return [
            f"layer '{layer.name}' ({layer.kind}) has the weights {_listed(names)}, "
            f"but is given {_listed(layer.weights)}."
        ]
    problems = [
        f"weight '{name}' of layer '{layer.name}' ({layer.kind}) has shape {tuple(weight.shape)}, but is given "
        f"{layer.weights[name].shape}; its configuration and its weights must agree."
        for name, weight in zip(names, made.weights, strict=True)
        if tuple(weight.shape) != layer.weights[name].shape
    ]
    if problems:
        return problems
    made.set_weights([layer.weights[name] for name in names])
    if hasattr(made, "finalize_state"):
        made.finalize_state()
    return []


def _names(made: Any, layer: Layer) -> list[str]:
    """What a layer calls the weights of a Keras layer, in that one's order."""
    names = weight_names(made)
    as_many = set(names) != set(layer.weights) and len(names) == len(layer.weights)
    return list(layer.weights) if as_many else names


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names)) or "none"


def _origin(layer: Any) -> tuple[dict[str, Any], Any]:
    """A layer's configuration and the class or recipe that makes it again."""
    kind = type(layer)
    if not is_layer(layer):
        return _operation_origin(layer)
    if isinstance(layer, backends.module(backends.keras_name(layer)).layers.Lambda):
        return _lambda_origin(layer)
    if kind.__module__.endswith("saved_model.load"):
        return {}, Recipe(kind, lambda config: layer)
    if is_quantised(layer):
        return layer.get_config(), Recipe(kind, partial(made_again, kind))
    try:
        config = dict(layer.get_config())
        config.update(_own_functions(layer, config))
        origin = _class_origin(layer)
        if _is_foreign(kind):
            origin.from_config(dict(config))
    except Exception:
        # It has not changed, so it need not be made from its description.
        kept = copied(layer)
        return {}, Recipe(kind, lambda config: copied(kept))
    return config, origin


FUNCTIONS = ("activation", "initializer", "regularizer", "constraint")


def _own_functions(layer: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The user's own activations, initializers and the like, which Keras could not find by name."""
    found = {}
    for key in config:
        value = getattr(layer, key, None)
        if key.endswith(FUNCTIONS) and callable(value) and _is_foreign(value):
            found[key] = value
    return found


def _is_foreign(thing: Any) -> bool:
    """Whether a class, function or object comes from neither Keras nor TensorFlow."""
    source = getattr(thing, "__module__", None) or type(thing).__module__
    return source.partition(".")[0] not in (*backends.NAMES, "tensorflow")


def _class_origin(layer: Any) -> Any:
    """The class; where the user's own classes are inside, a recipe that knows them."""
    kind = backends.without_aliases(type(layer))
    own: dict[str, Any] = {}
    inner = [part for part in layer._flatten_layers() if part is not layer]
    for part in inner:
        if _is_foreign(type(part)):
            own[type(part).__name__] = type(part)
        activation = getattr(part, "activation", None)
        if callable(activation) and _is_foreign(activation):
            own[getattr(activation, "__name__", part.name)] = activation
    if not own:
        return kind
    scope = backends.module(backends.keras_name(layer)).utils.custom_object_scope

    def from_config(config: Mapping[str, Any]) -> Any:
        with scope(own):
            return kind.from_config(dict(config))

    return Recipe(kind, from_config)


def _operation_origin(operation: Any) -> tuple[dict[str, Any], Any]:
    """The class of an operation; a copy of it where its class does not take all it has, or no name."""
    kind: Any = type(operation)
    try:
        if "name" in (config := dict(operation.get_config())):
            return config, kind
    except NotImplementedError:
        pass

    def again(config: Mapping[str, Any]) -> Any:
        made = kind.__new__(kind)
        vars(made).update(
            {**vars(operation), **config, "_inbound_nodes": [], "_outbound_nodes": []}
        )
        return made

    public = {key: value for key, value in vars(operation).items() if not key.startswith("_")}
    return public, Recipe(kind, again)


def _lambda_origin(layer: Any) -> tuple[dict[str, Any], Any]:
    """A `Lambda` is made again around the same function."""
    kind = type(layer)
    given = {
        "function": layer.function,
        "output_shape": layer._output_shape,
        "mask": layer.mask,
        "arguments": layer.arguments,
    }
    base = super(kind, layer).get_config()
    return base, Recipe(kind, lambda config: kind(**given, **config))
