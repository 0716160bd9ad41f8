"""Layers that work over space, channel by channel: pooling, padding, cropping, resizing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_robust_prune.graph.graph import Graph, Node
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.layers.base import (
    LayerType,
    channels_in,
    channels_out,
    known_size,
)
from keras_robust_prune.layers.calls import Call
from keras_robust_prune.layers.composing import move
from keras_robust_prune.layers.convolution import spread
from keras_robust_prune.primitives.gaussian import Gaussian
from keras_robust_prune.primitives.pooling import AveragePool, MaxPool
from keras_robust_prune.primitives.windows import Window


class Spatial(LayerType):
    """Works on the axes beside the channels, which pass."""

    homogeneous = True

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        return channels_out(graph, node, channels_in(graph, node, inputs[0]))


class Pooling(Spatial):
    """The mean or the largest of what a window reads.

    Args:
        largest: which of both.
    """

    translates = True

    def __init__(self, largest: bool) -> None:
        self.largest = largest

    def window(self, call: Call, size: Sequence[int]) -> Window:
        """What each output reads."""
        kernel = spread(call.config["pool_size"], len(size))
        strides = call.config.get("strides") or kernel
        return Window.of(size, kernel, spread(strides, len(size)), call.config["padding"])

    def count(self, graph: Graph, node: Node) -> int:
        """How many positions a window reads."""
        shape = graph.shape(node.inputs[0])
        return known_size(spread(graph.layer_of(node).config["pool_size"], len(shape) - 1))

    def lower(self, call: Call) -> int:
        (x,) = call.inputs
        *size, channels = call.shape(x)
        window = self.window(call, size)
        if self.largest:
            return call.emit(MaxPool(window), x, shape=(*window.out, channels))
        return call.emit(AveragePool(window, channels), x)

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        count = self.count(graph, node)
        return inputs[0].largest(count) if self.largest else inputs[0].averaged(count)


class GlobalPooling(Pooling):
    """The mean or the largest of all positions."""

    def window(self, call: Call, size: Sequence[int]) -> Window:
        return Window.of(size, size, size, "valid")

    def count(self, graph: Graph, node: Node) -> int:
        return known_size(graph.shape(node.inputs[0])[:-1])

    def lower(self, call: Call) -> int:
        place = super().lower(call)
        return move(call, place, lambda places: places.reshape(1, *call.out_shape))


class Alike(Spatial):
    """Positions come, go or are repeated; what is at each stays as it was, zeros at a border aside."""

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        return inputs[0]


def borders(value: object, rank: int) -> list[tuple[int, int]]:
    """Keras's padding or cropping argument as (before, after) per spatial axis."""
    if isinstance(value, int):
        return [(value, value)] * rank
    items = list(value)  # type: ignore[call-overload]
    if rank == 1 and all(isinstance(item, int) for item in items):
        return [(items[0], items[-1])]
    return [(item, item) if isinstance(item, int) else tuple(item) for item in items]


class ZeroPadding(Alike):
    """Zeros all around."""

    def lower(self, call: Call) -> int:
        (x,) = call.inputs
        rank = len(call.shape(x)) - 1
        around = [(0, 0), *borders(call.config["padding"], rank), (0, 0)]
        return move(call, x, lambda places: np.pad(places, around, constant_values=-1))


class Cropping(Alike):
    """The middle."""

    translates = True

    def lower(self, call: Call) -> int:
        (x,) = call.inputs
        size = call.shape(x)[:-1]
        around = borders(call.config["cropping"], len(size))
        spans = [slice(a, n - b) for n, (a, b) in zip(size, around, strict=True)]
        cut = (slice(None), *spans)
        return move(call, x, lambda places: places[cut])


class UpSampling(Alike):
    """Repetition of positions."""

    def lower(self, call: Call) -> int:
        (x,) = call.inputs
        if call.config.get("interpolation", "nearest") != "nearest":
            raise call.refuse(
                "interpolates between entries; only interpolation='nearest' has bounds."
            )
        factors = spread(call.config["size"], len(call.shape(x)) - 1)

        def repeated(places: np.ndarray) -> np.ndarray:
            for axis, factor in enumerate(factors):
                places = np.repeat(places, factor, axis=axis + 1)
            return places

        return move(call, x, repeated)


class Augmentation(Spatial):
    """Moves positions about in training and does nothing outside of it."""

    def lower(self, call: Call) -> int:
        return call.inputs[0]

    def moments(self, graph: Graph, node: Node, inputs: Sequence[Gaussian]) -> Gaussian | None:
        return inputs[0]


TYPES: dict[str, LayerType] = {
    **{f"MaxPooling{n}D": Pooling(largest=True) for n in (1, 2, 3)},
    **{f"AveragePooling{n}D": Pooling(largest=False) for n in (1, 2, 3)},
    **{f"GlobalMaxPooling{n}D": GlobalPooling(largest=True) for n in (1, 2, 3)},
    **{f"GlobalAveragePooling{n}D": GlobalPooling(largest=False) for n in (1, 2, 3)},
    **{f"ZeroPadding{n}D": ZeroPadding() for n in (1, 2, 3)},
    **{f"Cropping{n}D": Cropping() for n in (1, 2, 3)},
    **{f"UpSampling{n}D": UpSampling() for n in (1, 2, 3)},
    **{
        kind: Augmentation()
        for kind in ("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation")
    },
    **{kind: Spatial() for kind in ("Resizing", "CenterCrop", "RandomCrop")},
}
