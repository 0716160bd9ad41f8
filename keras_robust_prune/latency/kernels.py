"""The kernels of a network: what takes its time, and what depends on its widths.

Normalisation, activations and bias melt into the kernel before them when a network becomes a file. What is left beside
kernels (pooling, addition, softmax) is timed as a whole, with the dense network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from keras_robust_prune.graph.graph import Graph, Layer, Node
from keras_robust_prune.layers.base import layer_type

CONVOLUTION, DEPTHWISE, DENSE = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"


@dataclasses.dataclass(frozen=True, order=True)
class Kernel:
    """One multiplication of a file with a kernel; the key of a latency table.

    Attributes:
        operator: `"CONV_2D"`, `"DEPTHWISE_CONV_2D"` or `"FULLY_CONNECTED"`.
        height, width: of the kernel; 1 for a Dense layer.
        stride: likewise.
        rows, columns: of the output; a Dense layer has as many columns as it has positions.
        channels_in, channels_out: widths.

    Example:
        >>> str(Kernel("CONV_2D", 3, 3, 1, 32, 32, 16, 24))
        'CONV_2D 3x3/1 32x32 16-24'
    """

    operator: str
    height: int
    width: int
    stride: int
    rows: int
    columns: int
    channels_in: int
    channels_out: int

    def __str__(self) -> str:
        shape = f"{self.height}x{self.width}/{self.stride} {self.rows}x{self.columns}"
        return f"{self.operator} {shape} {self.channels_in}-{self.channels_out}"

    @property
    def shape(self) -> tuple[Any, ...]:
        """Everything but the widths."""
        return dataclasses.astuple(self)[:-2]

    def of_widths(self, channels_in: int, channels_out: int) -> Kernel:
        """The same kernel, narrower or wider."""
        return dataclasses.replace(self, channels_in=channels_in, channels_out=channels_out)


@dataclasses.dataclass(frozen=True)
class KernelUse:
    """A kernel of a network, and where its widths stand.

    Attributes:
        kernel: at the network's own widths.
        layer: the layer's name.
        weight: the weight's name.
        axes: which axes of the weight are the channels in and out.
    """

    kernel: Kernel
    layer: str
    weight: str
    axes: tuple[int, int]


def kernels_of(graph: Graph) -> tuple[KernelUse, ...]:
    """Every kernel, once for every call.

    Raises:
        ValueError: naming every layer that multiplies in a way that no probe has.

    Example:
        >>> import tf_keras
        >>> from keras_robust_prune.keras_io.reading import read
        >>> layers = [tf_keras.Input((8, 8, 3)), tf_keras.layers.Conv2D(4, 3, strides=2)]
        >>> [str(use.kernel) for use in kernels_of(read(tf_keras.Sequential(layers)))]
        ['CONV_2D 3x3/2 3x3 3-4']
    """
    found: list[KernelUse] = []
    unknown: list[str] = []
    for node in graph.nodes:
        layer = graph.layer_of(node)
        if not layer_type(layer).macs(graph, node):
            continue
        uses = list(_uses(graph, node, layer))
        if len(uses) == len(layer_type(layer).kernels_of(layer)):
            found += uses
        else:
            unknown.append(f"'{layer.name}' ({layer.kind})")
    if unknown:
        raise ValueError(
            f"Latency is known of convolutions, depthwise convolutions and Dense layers, but"
            f" '{graph.name}' also multiplies in {', '.join(unknown)}. Use measure='macs', or time"
            " the whole file."
        )
    return tuple(found)


def _uses(graph: Graph, node: Node, layer: Layer) -> Iterator[KernelUse]:
    weights, view = layer_type(layer).kernels_of(layer), layer_type(layer).linear(layer)
    given, made = graph.shape(node.inputs[0]), node.shapes[0]
    channels = made[-1]
    for number, weight in enumerate(weights):
        shape = layer.weights[weight].shape
        last = number == len(weights) - 1
        if len(shape) == 2:
            if last and shape[1] == channels:
                positions = math.prod(length or 1 for length in made[:-1])
                kernel = Kernel(DENSE, 1, 1, 1, 1, positions, *shape)
                yield KernelUse(kernel, layer.name, weight, (0, 1))
            continue
        stride = _stride(layer) if not number else 1
        size = (1, *shape)[-4:-2]  # a one-dimensional kernel has height 1
        places = [length for length in (1, *made[:-1])[-2:] if length is not None]
        if len(places) < 2 or given[-1] is None or _grows(given, made):
            continue
        where = (size[0], size[1], stride, places[0], places[1])
        # By its shape alone the kernel of a depthwise layer of one channel is that of a convolution.
        mixes = view is not None and view.kernel == weight
        if mixes and shape[-1] == channels and last and (shape[-2] == given[-1] or number):
            kernel = Kernel(CONVOLUTION, *where, shape[-2], shape[-1])
            yield KernelUse(kernel, layer.name, weight, (len(shape) - 2, len(shape) - 1))
        elif shape[-2] == given[-1] and (not last or shape[-2] * shape[-1] == channels):
            kernel = Kernel(DEPTHWISE, *where, shape[-2], shape[-2] * shape[-1])
            yield KernelUse(kernel, layer.name, weight, (len(shape) - 2, len(shape) - 2))


def _grows(given: tuple[int | None, ...], made: tuple[int | None, ...]) -> bool:
    """Whether the output is larger than the input: a transposed convolution."""
    return any((a or 0) < (b or 0) for a, b in zip(given[:-1], made[:-1], strict=True))


def _stride(layer: Layer) -> int:
    strides = layer.config.get("strides", 1)
    return int(max(strides) if isinstance(strides, (list, tuple)) else strides)
