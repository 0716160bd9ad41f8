"""Opens composite layers: what a `call` does is recorded by calling it on symbolic tensors.

A composite is a layer, or a subclassed model, whose `call` uses other layers and operations. Both Keras versions record
what is done to a symbolic tensor, so `layer.call(placeholder)` gives the calls inside it, as a nested functional model
has them. What cannot be recorded stays closed, with the reason.

A `call` that reads the size of the batch cannot always be recorded with the size left open. It is recorded once more
with an unlikely size, which `keras_io.batch` then takes out again.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import INPUT
from keras_robust_prune.graph.nest import leaves, map_leaves
from keras_robust_prune.keras_io.batch import free_batch, refuse_open_sizes, settled
from keras_robust_prune.keras_io.inlining import as_symbolic, call_dtype, inlined, paths_inside
from keras_robust_prune.keras_io.layers import is_layer
from keras_robust_prune.keras_io.leading import batch_in_front
from keras_robust_prune.keras_io.quantised import is_quantised
from keras_robust_prune.keras_io.symbolic import (
    dtype_of,
    is_symbolic,
    key_of,
    layer_of,
    map_tensors,
    ordered_nodes,
    tensors_in,
)
from keras_robust_prune.layers.base import is_known

# A prime that no network has as a width: what is a multiple of it counts the samples of a batch.
BATCH = 149

# With the size of the batch open or fixed, and with inner composites as one step each or inlined.
ATTEMPTS = ((None, False), (BATCH, False), (None, True), (BATCH, True))


class Closed(Exception):
    """A composite cannot be opened; the message is the end of a sentence that starts with "it"."""


@dataclass(frozen=True, eq=False)
class Opened:
    """The calls inside one call of a composite.

    Attributes:
        layer: the composite.
        inputs: the placeholders it was called on.
        start: the same, nested as the composite took them.
        named: its keyword arguments, likewise, without the mode.
        given: the symbolic tensors that each of them stands for.
        outputs: what it gave, in the order in which Keras numbers a layer's outputs.
        structure: the same, nested as the composite gave it.
        batch: the size of the batch that it was recorded with; None if open.
        inline: whether inner composites were inlined.
        paths: what leads to the layers that it calls as if they were its own, by `id`.
    """

    layer: Any
    inputs: tuple[Any, ...]
    start: tuple[Any, ...]
    named: Mapping[str, Any]
    given: tuple[Any, ...]
    outputs: tuple[Any, ...]
    structure: Any
    batch: int | None
    inline: bool
    paths: Mapping[int, tuple[str, ...]]

    @property
    def symbolic(self) -> tuple[Any, ...]:
        """Its outputs that depend on its inputs."""
        return tuple(filter(is_symbolic, self.outputs))

    def with_batch_in_front(self) -> Opened:
        """The same calls without any that has the batch behind another axis."""
        nodes = ordered_nodes(self.inputs, self.symbolic)
        structure = batch_in_front(nodes, self.structure, self.batch or 0)
        outputs = tuple(leaves(structure))
        return replace(self, structure=structure, outputs=outputs)

    @property
    def ends(self) -> tuple[Any, Any]:
        """How it takes its inputs and gives its outputs, if it stands alone."""
        if len(list(tensors_in(self.start))) != len(self.inputs):
            return self.inputs, self.structure
        return self.start[0] if len(self.start) == 1 else self.start, self.structure

    @property
    def in_inference(self) -> dict[str, bool]:
        """The argument that calls the composite in inference mode, if it takes one."""
        return {"training": False} if takes_training(self.layer) else {}

    def holds(self, layer: Any) -> bool:
        """Whether the composite keeps a layer, and does not make it anew in every call."""
        return any(layer is other for other in self.layer._flatten_layers())

    @property
    def is_identity(self) -> bool:
        """Whether it gives out just what it is given, as layers do that act in training only."""
        return len(self.inputs) == 1 == len(self.outputs) and self.inputs[0] is self.outputs[0]


@dataclass
class Opener:
    """What is opened of one model, and what is not.

    Attributes:
        closed: reasons of the layers that stay closed, by `id`.
        opened: the composites opened so far, by `id`, with their first call.
        lost: composites that do something else in training, by `id`.
        inline: composites whose inner ones are inlined, because one of those cannot be opened alone, by `id`.
        again: whether a layer was found to stay closed after one of its calls had been opened, or one to be inlined.
    """

    closed: dict[int, str] = field(default_factory=dict)
    opened: dict[int, Opened] = field(default_factory=dict)
    lost: dict[int, Any] = field(default_factory=dict)
    inline: set[int] = field(default_factory=set)
    again: bool = False

    def start(self, model: Any) -> None:
        """Begins another walk over a model, which is itself opened if it is a subclassed one."""
        self.opened, self.lost, self.again = {}, {}, False
        if isinstance(model, Opened):
            self._note(model)

    def open(
        self,
        layer: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        training: bool | None,
        within: tuple[int, ...] = (),
    ) -> Opened | None:
        """The calls inside a call of a layer; None if the layer has a rule or stays closed.

        Args:
            layer: the layer.
            args: how it is called.
            kwargs: likewise.
            training: the mode; None if it is left open.
            within: the composites that it is called in, the outermost first, by `id`.
        """
        if id(layer) in self.closed or not is_composite(layer) or is_quantised(layer):
            return None
        try:
            attempts = ATTEMPTS[2:] + ATTEMPTS[:2] if id(layer) in self.inline else ATTEMPTS
            found = record(layer, args, kwargs, training, attempts)
        except Closed as reason:
            outer = next((other for other in reversed(within) if other not in self.inline), None)
            if outer is None:
                self.close(layer, str(reason))
            else:
                self.inline.add(outer)
                self.again = True
            return None
        if id(layer) not in self.opened:
            self._note(found)
        return found

    def lengthen(self, model: Any, args: tuple[Any, ...], training: bool | None) -> Opened | None:
        """The calls inside a nested model on tensors whose lengths are fixed; None if it cannot be called on them."""
        try:
            return record(model, args, {}, training)
        except Closed:
            return None

    def _note(self, found: Opened) -> None:
        self.opened[id(found.layer)] = found
        if acts_in_training(found):
            self.lost[id(found.layer)] = found.layer

    def refuse(self, layer: Any) -> None:
        """Closes what gives an output of the network that does not depend on the inputs.

        Raises:
            Closed: it is no composite.
        """
        reason = "returns something that does not depend on its inputs"
        if id(layer) in self.closed or not is_composite(layer):
            raise Closed(reason)
        self.close(layer, reason)
        self.again = True

    def close(self, layer: Any, reason: str) -> None:
        """Lets a layer stay closed from now on."""
        self.closed[id(layer)] = reason
        self.again |= self.opened.pop(id(layer), None) is not None
        self.lost.pop(id(layer), None)


def is_composite(layer: Any) -> bool:
    """Whether a layer might be opened: a user's own, not known to the toolkit, and with its own class."""
    kind = type(layer)
    own = kind.__module__.partition(".")[0] not in (*backends.NAMES, "tensorflow")
    return own and is_layer(layer) and not is_known(kind) and not hasattr(layer, "krp_masked_layer")


def takes_training(layer: Any) -> bool:
    """Whether the `call` of a layer is told the mode."""
    return "training" in inspect.signature(layer.call).parameters


def keeps_place(layer: Any) -> bool:
    """Whether a layer that gives out what it is given is more than that in training."""
    return takes_training(layer) and not layer.weights


def record_model(model: Any) -> Opened:
    """What a subclassed model does to inputs like those that it was called on.

    Raises:
        Closed: it was never called, or cannot be recorded.
    """
    keras = backends.module(backends.keras_name(model))
    specs = getattr(model, "_saved_model_arg_spec", None)
    if specs is not None:
        structure = list(specs[0])
    elif getattr(model, "inputs", None):
        structure = [model.input]
    else:
        shapes = getattr(model, "_build_shapes_dict", None) or {}
        structure = list(shapes.values()) or [getattr(model, "_build_input_shape", None)]
    names: dict[str, int] = {}

    def given(name: str, spec: Any) -> Any:
        names[name] = names.get(name, 0) + 1
        name += f"_{names[name]}" if names[name] > 1 else ""
        if hasattr(spec, "shape"):
            return keras.Input(tuple(spec.shape)[1:], dtype=dtype_of(spec), name=name)
        if isinstance(spec, Mapping):
            return {key: given(str(key), part) for key, part in spec.items()}
        if isinstance(spec, (list, tuple)) and all(isinstance(n, (int, type(None))) for n in spec):
            return keras.Input(tuple(spec)[1:], name=name)
        if isinstance(spec, (list, tuple)):
            return [given(name, part) for part in spec]
        raise Closed("was not called yet, so the shape of its inputs is unknown: call it once")

    return record(model, tuple(given("input", spec) for spec in structure), {}, None)


def record(
    layer: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    training: bool | None,
    attempts: Iterable[tuple[int | None, bool]] = ATTEMPTS,
) -> Opened:
    """Calls a composite on placeholders in inference mode.

    Raises:
        Closed: it cannot be recorded.
    """
    if any(
        getattr(tensor, "_keras_mask", None) is not None for tensor in tensors_in((args, kwargs))
    ):
        raise Closed("is given a mask of time steps along with its input")
    for batch, inline in attempts:
        try:
            found = _call(layer, args, kwargs, training, batch, inline)
            if batch is None:
                refuse_open_sizes(ordered_nodes(found.inputs, found.symbolic))
            else:
                found = found.with_batch_in_front()
                free_batch(ordered_nodes(found.inputs, found.symbolic), batch)
            break
        except Closed:
            raise
        except Exception as error:
            reason = error
    else:
        lines = str(reason).strip().splitlines() or [type(reason).__name__]
        raise Closed(f"cannot be traced: {textwrap.shorten(lines[0], 120)}") from reason
    for node in ordered_nodes(found.inputs, found.symbolic):
        inner = layer_of(node)
        if getattr(inner, "weights", ()) and not found.holds(inner):
            raise Closed(f"calls a layer with weights that it does not hold, '{inner.name}'")
        if type(inner).__name__ == INPUT:
            raise Closed("reads a tensor that it is not given")
    return found


def _call(
    layer: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    training: Any,
    batch: int | None,
    inline: bool,
) -> Opened:
    keras = backends.module(backends.keras_name(layer))
    places: dict[Any, Any] = {}
    given: list[Any] = []

    def placeholder(tensor: Any) -> Any:
        if key_of(tensor) not in places:
            shape = tuple(tensor.shape)
            if not shape:
                raise Closed("is given a tensor without a batch axis")
            dtype = call_dtype(layer, tensor)
            places[key_of(tensor)] = keras.Input(shape[1:], batch_size=batch, dtype=dtype)
            given.append(tensor)
        return places[key_of(tensor)]

    args, kwargs = map_tensors(placeholder, (args, dict(kwargs)))
    kwargs = {key: value for key, value in kwargs.items() if key != "training"}
    mode = {"training": training} if takes_training(layer) else {}
    inner = [
        part
        for part in layer._flatten_layers()
        if part is not layer and is_composite(part) and not is_quantised(part)
    ]
    with _quiet(), as_symbolic(layer, keras), inlined(inner if inline else (), training):
        structure = layer.call(*args, **kwargs, **mode)
    inputs, paths = tuple(places.values()), paths_inside(layer) if inline else {}
    structure = map_leaves(lambda part: settled(part, inputs, batch), structure)
    flat = keras.tree.flatten if hasattr(keras, "tree") else backends.tensorflow().nest.flatten
    outputs = tuple(flat(structure))
    return Opened(
        layer, inputs, args, kwargs, tuple(given), outputs, structure, batch, inline, paths
    )


def acts_in_training(found: Opened) -> bool:
    """Whether a composite calls other layers or operations in training than those recorded."""
    if not takes_training(found.layer) or found.is_identity:
        return False
    try:
        other = _call(found.layer, found.start, found.named, True, found.batch, found.inline)
        return _signature(other) != _signature(found)
    except Exception:
        return True


def _signature(found: Opened) -> list[Any]:
    called = [layer_of(node) for node in ordered_nodes(found.inputs, found.symbolic)]
    return [id(inner) if found.holds(inner) else type(inner) for inner in called]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without tf_keras's warning that an operation uses a variable: it becomes a constant."""
    logger = logging.getLogger("tensorflow")
    quiet = lambda record: "Variables were used in a Lambda layer" not in record.getMessage()  # noqa: E731
    logger.addFilter(quiet)
    try:
        yield
    finally:
        logger.removeFilter(quiet)


@contextlib.contextmanager
def unchanged(model: Any) -> Iterator[None]:
    """Takes from a model's layers, afterwards, the calls that recording left on them."""
    layers = list(model._flatten_layers()) if hasattr(model, "_flatten_layers") else []
    called = [part for layer in layers for part in (layer, *getattr(layer, "operations", ()))]
    lists = [
        getattr(layer, name)
        for layer in {id(part): part for part in called}.values()
        for name in ("_inbound_nodes", "_outbound_nodes")
        if isinstance(getattr(layer, name, None), list)
    ]
    lengths = [len(nodes) for nodes in lists]
    try:
        yield
    finally:
        for nodes, length in zip(lists, lengths, strict=True):
            del nodes[length:]
