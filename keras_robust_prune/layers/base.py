"""What the toolkit knows of a layer type, and the table of them.

One class answers every question about one layer type or family: how units pass through it and which weights they index
(`trace`), how its configuration reads once units are gone (`resize`), what it costs (`macs`), how it computes in the
few primitives that bounds pass (`lower`), how repair may solve it anew (`linear`), how moments pass (`moments`).
Nothing else asks of what class a layer is. Layers are recognised by type and configuration, never by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Layer, Node, Shape
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.layers.answers import InputHint, Kept, Renumbered, Statistics
from keras_robust_prune.layers.calls import Call, is_operator, operator_name
from keras_robust_prune.layers.linear import LinearView
from keras_robust_prune.primitives.elementwise import Elementwise
from keras_robust_prune.primitives.gaussian import Gaussian

Lengths = Mapping[tuple[str, int], int]


class Unsupported(Exception):
    """Raised by `trace` when units that reach a layer cannot be removed.

    Args:
        code: one word for programs.
        reason: the end of a sentence that starts with the layer's name.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class LayerType:
    """What the toolkit knows of one type of layer. The base class knows nothing and says so.

    Subclass it for a layer of your own and hand it to `register_layer`. Implement what you can: `trace` and `resize`
    make the layer prunable, `linear` lets repair solve it anew, `lower` gives it bounds and certificates.

    Attributes:
        kernels: names of the weights whose entries are multiplied with activations; they count as
            multiply-accumulate operations.
        activation: the entry of the configuration that names an activation which the layer applies last; None if it
            applies none. Whatever is said of the layer then holds without it.
        bias: the weight that is added to the outputs, one number per unit; None if there is no such thing. A layer
            that lacks it gets it with `use_bias=True` in its configuration.
        transparent: outside of training its output is its input, at most in another shape.
        sums: its output is the sum of its inputs.
        homogeneous: what multiplies every unit of its inputs by a positive number of its own multiplies its outputs
            alike.
        translates: what is added to a unit of its input everywhere is added to its output everywhere.
        over_units: it normalises over all units of its input, and sees a zero for each that is gone.
        keeps_entries: its output holds the numbers of its input and no others.
        weight_names: its own names for weights that the toolkit calls otherwise.
    """

    kernels: tuple[str, ...] = ()
    activation: str | None = None
    bias: str | None = None
    transparent: bool = False
    sums: bool = False
    homogeneous: bool = False
    translates: bool = False
    over_units: bool = False
    keeps_entries: bool = False
    weight_names: ClassVar[Mapping[str, str]] = {}

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        """Pass the inputs' labels on to the outputs.

        Args:
            graph: the whole network.
            node: the call.
            inputs: labels of each tensor in `node.inputs`.
            tracing: where weights' labels, and what shares a fate or has to stay, are noted.

        Returns:
            Labels of each output.

        Raises:
            Unsupported: units that reach this layer have to stay.
        """
        layer = graph.layer_of(node)
        why = f" (it stays closed, because it {layer.closed})" if layer.closed else ""
        reason = f"is of a type that is not known, {layer.kind}: krp.register_layer describes it"
        raise Unsupported("no_rule", reason + why)

    def resize(self, layer: Layer, lengths: Lengths) -> Mapping[str, Any]:
        """Changes of the configuration once axes have become shorter.

        Args:
            layer: before the cut.
            lengths: the new length of every labelled axis, by `(weight, axis)`.
        """
        return {}

    def resize_call(
        self, graph: Graph, node: Node, shapes: Sequence[Shape]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Positional and keyword arguments of a call once axes have become shorter.

        Args:
            graph: before the cut.
            node: the call, before the cut.
            shapes: its outputs' shapes after it.
        """
        return node.args, node.kwargs

    def renumber(self, graph: Graph, node: Node, kept: Sequence[Kept]) -> Renumbered:
        """A call, once entries of its inputs are gone: what slices and splits say of places.

        Args:
            graph: before the cut.
            node: the call, with the arguments that `resize_call` gave.
            kept: what stays of each input.
        """
        return Renumbered(node.args, node.kwargs, {})

    def homogeneous_to(self, layer: Layer, keras: str) -> float:
        """Up to which value of its inputs it is `homogeneous`; 0 if it is not at all.

        Args:
            layer: the layer.
            keras: `"tf_keras"` or `"keras"`, where they differ.
        """
        return math.inf if self.homogeneous else 0.0

    def rescaled(
        self, layer: Layer, inputs: np.ndarray, outputs: np.ndarray
    ) -> Mapping[str, np.ndarray] | None:
        """Weights with which it gives `outputs` times its outputs, of `inputs` times its inputs; None if it cannot.

        Args:
            layer: the layer, without its activation.
            inputs: a positive number for every entry of its input's last axis.
            outputs: likewise of its output.
        """
        return None

    def constant(self, layer: Layer, inputs: np.ndarray) -> np.ndarray | None:
        """What a constant per unit of its input adds to the units of its output; None unless that is one number each.

        Args:
            layer: the layer, without its activation.
            inputs: what is added to every entry of its input's last axis, everywhere.
        """
        return None

    def factors(self, before: Layer, after: Layer) -> Mapping[str, float]:
        """Numbers by which weights are multiplied when the smaller layer scales otherwise; none by default.

        Args:
            before: the layer before the cut.
            after: with the configuration that it has afterwards.
        """
        return {}

    def kernels_of(self, layer: Layer) -> tuple[str, ...]:
        """Names of a layer's weights whose entries are multiplied with activations."""
        return tuple(name for name in self.kernels if name in layer.weights)

    def positions(self, graph: Graph, node: Node) -> int:
        """How many times each entry of the kernels is multiplied in one call."""
        return 1

    def macs(self, graph: Graph, node: Node) -> int:
        """Multiply-accumulate operations of one call on one sample of its input."""
        layer = graph.layer_of(node)
        size = sum(int(layer.weights[name].size) for name in self.kernels_of(layer))
        return size * self.positions(graph, node) if size else 0

    def lower(self, call: Call) -> int:
        """Write the call as primitives, for bounds.

        Args:
            call: gives weights, configuration and shapes; `call.emit(primitive, *places)` writes.

        Returns:
            The place of the first output.

        Raises:
            LoweringError: the layer has no bounds.
        """
        what = (
            f"operator '{operator_name(call.layer)}'" if is_operator(call.layer) else "layer type"
        )
        raise call.refuse(f"is a{'n' * is_operator(call.layer)} {what} without bounds.")

    def linear(self, layer: Layer) -> LinearView | None:
        """The layer as rows times a matrix, which repair can solve anew; None if it is not that."""
        return None

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        """Estimated moments of the first output from those of the inputs; None if they are not known.

        By default what the linear view says.
        """
        layer = graph.layer_of(node)
        view = self.linear(layer)
        return None if view is None else view.moments_of_units(layer, inputs[0])

    def function(self, layer: Layer, keras: str) -> Elementwise | None:
        """The function that the layer applies if it is an activation and nothing else.

        Args:
            layer: the layer.
            keras: `"tf_keras"` or `"keras"`, where they differ.
        """
        return None

    def closing(self, graph: Graph, node: Node) -> str | None:
        """Name of the function that it applies, if the order of the classes is the same before it: `"softmax"`."""
        return None

    def gives_probabilities(self, layer: Layer) -> bool:
        """Whether it makes probabilities of scores, by a softmax or a sigmoid; gradients of those vanish."""
        return False

    def statistics(self, layer: Layer) -> Statistics | None:
        """Where it stores what its input was like in training; None if it does not."""
        return None

    def scale_and_shift(self, layer: Layer) -> tuple[Any, Any] | None:
        """What it multiplies by and then adds, numbers or one per channel; None if it does something else."""
        return None

    def num_tokens(self, layer: Layer) -> int:
        """How many different integers it takes as inputs; 0 if it takes numbers."""
        return 0

    def made_for(self, layer: Layer, rank: int) -> InputHint | None:
        """The inputs that a network which begins with it was trained on; None if it does not tell.

        Args:
            layer: the layer.
            rank: how many axes its input has beside the batch.
        """
        return None

    def marks_steps(self, layer: Layer) -> bool:
        """Whether it sends a mask of time steps along with its output."""
        return bool(layer.config.get("mask_zero"))


class Opaque(LayerType):
    """A layer that a SavedModel brought back without its class."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        raise Unsupported(
            "opaque",
            "was loaded without its class: load the model with custom_objects and pass it in memory",
        )


KERAS: dict[str, LayerType] = {}
"""Keras's own layers by class name; each file of this room adds its family."""

OPERATORS: dict[str, LayerType] = {}
"""Operators on tensors by `operator_name`, likewise."""

_USERS: dict[str, LayerType] = {}
_UNKNOWN, _OPAQUE = LayerType(), Opaque()


def register_layer(kind: str | type, description: LayerType | type[LayerType]) -> None:
    """Tell the toolkit what a layer type of your own is.

    From then on it is traced, cut, repaired, bounded, certified, counted and exported like one of Keras's, as far as
    the description answers.

    Args:
        kind: the layer's class, or its name. It replaces a description that was there.
        description: a subclass of `LayerType`, or an instance of one.

    Raises:
        TypeError: `description` is no `LayerType`.

    Example:
        A layer that multiplies every channel by a gain of its own, and keeps its width in its configuration:

        >>> from keras_robust_prune.layers import LayerType
        >>> from keras_robust_prune.primitives.linear import Scale
        >>> class Gain(LayerType):
        ...     def trace(self, graph, node, inputs, tracing):
        ...         (labels,) = inputs
        ...         tracing.use(node.layer, "gain", 0, "carries", labels.ids)
        ...         return (labels,)
        ...
        ...     def resize(self, layer, lengths):
        ...         return {"width": lengths["gain", 0]}
        ...
        ...     def lower(self, call):
        ...         (x,) = call.inputs
        ...         return call.emit(Scale(call.shape(x), call.weight("gain")), x)
        >>> register_layer("Gain", Gain)
    """
    if isinstance(description, type) and issubclass(description, LayerType):
        description = description()
    if not isinstance(description, LayerType):
        raise TypeError(
            f"register_layer expects a subclass of LayerType or an instance of one, got {description!r}."
        )
    _USERS[kind if isinstance(kind, str) else kind.__name__] = description


def layer_type(layer: Layer) -> LayerType:
    """What is known of a layer's type; the base class, which knows nothing, if there is nothing.

    What is said of Keras's classes serves Keras's own: a user's class of the same name needs one of its own.
    """
    origin = backends.without_aliases(getattr(layer.origin, "layer_class", layer.origin))
    module = getattr(origin, "__module__", None) or "keras"
    if module.endswith("saved_model.load"):
        return _OPAQUE
    if layer.kind in _USERS:
        return _USERS[layer.kind]
    if module.partition(".")[0] not in backends.NAMES:
        return _UNKNOWN
    if is_operator(layer):
        return OPERATORS.get(operator_name(layer), _UNKNOWN)
    return named(layer.kind)


def is_known(layer_class: type) -> bool:
    """Whether anything is known of a layer type, be it Keras's or the user's."""
    return layer_type(Layer("", layer_class.__name__, {}, origin=layer_class)) is not _UNKNOWN


def named(kind: str) -> LayerType:
    """What is known of Keras's layer of a class name."""
    return KERAS.get(kind, _UNKNOWN)


def last_axis(graph: Graph, node: Node, labels: Labels, index: int = 0) -> np.ndarray:
    """The ids of an input whose units must lie on its last axis."""
    if labels.axis != len(graph.shape(node.inputs[index])) - 1:
        raise Unsupported("other_axis", "works along another axis than the one the units lie on")
    return labels.ids


def one_output(node: Node, ids: np.ndarray) -> tuple[Labels]:
    """Labels on the last axis of a single output."""
    return (Labels(len(node.shapes[0]) - 1, ids),)


def channel_axis(layer: Layer, rank: int) -> int:
    """Where a layer with a `data_format` has its channels, without the batch axis."""
    return 0 if layer.config.get("data_format") == "channels_first" else rank - 1


def channels_in(graph: Graph, node: Node, labels: Labels) -> np.ndarray:
    """The ids of an input whose units must be its channels."""
    if labels.axis != channel_axis(graph.layer_of(node), len(graph.shape(node.inputs[0]))):
        raise Unsupported("other_axis", "works along another axis than the one the units lie on")
    return labels.ids


def channels_out(graph: Graph, node: Node, ids: np.ndarray) -> tuple[Labels]:
    """Labels on the channels of a single output."""
    return (Labels(channel_axis(graph.layer_of(node), len(node.shapes[0])), ids),)


def known_weights(layer: Layer, *names: str) -> None:
    """Refuses a layer that has other weights than these."""
    unknown = [name for name in layer.weights if name not in names]
    if unknown:
        listed = ", ".join(f"'{name}'" for name in unknown)
        raise Unsupported(
            "unknown_weights", f"has weights that its type is not known for: {listed}"
        )


def known_size(shape: Sequence[int | None]) -> int:
    """Product of a shape's known lengths; unknown ones count as 1."""
    return int(np.prod([length or 1 for length in shape], dtype=np.int64))


def places(layer: Layer, shape: Sequence[int | None]) -> int:
    """How many positions a tensor has beside its channels; unknown lengths count as 1."""
    axis = channel_axis(layer, len(shape))
    return known_size([length for k, length in enumerate(shape) if k != axis])
