"""Readers: layers that mix units linearly and can be solved anew.

Dense, Conv1D and Conv2D without groups, and the pointwise part of SeparableConv2D. A reader's
weights are a matrix here: one row for every input (of a convolution: every tap of every channel),
and a last row for the constant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Layer, Ref
from keras_robust_prune.graph.tracing import CONSUMES
from keras_robust_prune.surgery.groups import ChannelGroup


def kernel_name(layer: Layer) -> str | None:
    """The kernel that can be re-solved, or None: then removal is all that is done to the layer."""
    if layer.kind == "Dense":
        return "kernel"
    if layer.kind in ("Conv1D", "Conv2D") and layer.config.get("groups", 1) == 1:
        return "kernel"
    if layer.kind == "SeparableConv2D":
        return "pointwise_kernel"
    return None


def readers(graph: Graph, groups: Sequence[ChannelGroup]) -> tuple[str, ...]:
    """Layers that read units of the given groups and can be re-solved, in the order of the graph."""
    consuming = {name for group in groups for name in group.consumers}
    found = []
    for node in graph.nodes:
        layer = graph.layer_of(node)
        if node.layer in consuming and kernel_name(layer) and node.layer not in found:
            found.append(node.layer)
    return tuple(found)


def unit_rows(group: ChannelGroup, layer: Layer) -> np.ndarray:
    """Rows of a reader's weight matrix that belong to each unit, `(num_units, rows_per_unit)`.

    Example:
        A unit before a 3x3 convolution owns 9 rows, one per tap.
    """
    name = kernel_name(layer)
    (slot,) = [s for s in group.having(CONSUMES) if (s.layer, s.weight) == (layer.name, name)]
    shape = layer.weights[slot.weight].shape
    taps = int(np.prod(shape[: slot.axis], dtype=int))
    rows = np.arange(taps)[None, :, None] * shape[slot.axis] + slot.positions[:, None, :]
    return rows.reshape(len(slot.positions), -1)


def rows_of(layer: Layer, tensor: Any) -> Any:
    """A reader's input as rows, `(positions, num_rows)`, in the order of its kernel's entries."""
    tf = backends.tensorflow()
    if layer.kind == "Dense":
        return tf.reshape(tensor, (-1, tensor.shape[-1]))
    config = layer.config
    if layer.kind == "SeparableConv2D":
        strides = [1, *_pair(config["strides"]), 1]
        padding = config["padding"].upper()
        kernel = layer.weights["depthwise_kernel"]
        dilations = _pair(config["dilation_rate"])
        rows = tf.nn.depthwise_conv2d(tensor, kernel, strides, padding, dilations=dilations)
        return tf.reshape(rows, (-1, rows.shape[-1]))
    size, stride, dilation = (
        _pair(config[key]) for key in ("kernel_size", "strides", "dilation_rate")
    )
    padding = config["padding"]
    if layer.kind == "Conv1D":
        if padding == "causal":
            tensor = tf.pad(tensor, [[0, 0], [dilation[0] * (size[0] - 1), 0], [0, 0]])
            padding = "valid"
        tensor = tensor[:, :, None, :]
        size, stride, dilation = (size[0], 1), (stride[0], 1), (dilation[0], 1)
    rows = tf.image.extract_patches(
        tensor, [1, *size, 1], [1, *stride, 1], [1, *dilation, 1], padding.upper()
    )
    return tf.reshape(rows, (-1, rows.shape[-1]))


def _pair(value: Any) -> tuple[int, int]:
    parts = (value,) if isinstance(value, int) else tuple(value)
    return (parts[0], parts[-1])


def matrix(graph: Graph, name: str) -> np.ndarray:
    """A reader's weights, `(num_rows + 1, num_targets)` float64; the last row is its constant."""
    layer = graph.layers[name]
    kernel = layer.weights[kernel_name(layer) or ""]
    rows = kernel.reshape(-1, kernel.shape[-1])
    bias = layer.weights.get("bias", np.zeros(rows.shape[1]))
    return np.concatenate([rows, bias[None]]).astype("float64")


def with_matrix(graph: Graph, name: str, values: np.ndarray) -> Graph:
    """The graph with a reader's weights replaced; the inverse of `matrix`.

    A constant that the layer has no bias for moves into the mean of the BatchNorm behind it.
    """
    layer = graph.layers[name]
    key = kernel_name(layer) or ""
    shape = layer.weights[key].shape
    changed = {(name, key): values[:-1].reshape(shape).astype("float32")}
    if "bias" in layer.weights:
        changed[name, "bias"] = values[-1].astype("float32")
    elif (norm := norm_behind(graph, name)) is not None:
        mean = norm.weights["moving_mean"] - values[-1]
        changed[norm.name, "moving_mean"] = mean.astype("float32")
    return graph.with_weights(changed)


def norm_behind(graph: Graph, name: str) -> Layer | None:
    """The BatchNorm that alone reads a layer which is called once, and which reads nothing else."""
    if len(graph.calls[name]) != 1:
        return None
    behind = graph.readers.get(graph.calls[name][0].ref, ())
    if len(behind) != 1 or graph.calls[name][0].ref in graph.outputs:
        return None
    layer = graph.layer_of(behind[0])
    single = len(graph.calls[layer.name]) == 1 and "moving_mean" in layer.weights
    return layer if layer.kind == "BatchNormalization" and single else None


def takes_constant(graph: Graph, name: str) -> bool:
    """Whether a constant can be added to what a reader computes."""
    return "bias" in graph.layers[name].weights or norm_behind(graph, name) is not None


@dataclasses.dataclass(frozen=True, eq=False)
class Branch:
    """What a reader's outputs are added to, and by what the BatchNorm between multiplies them."""

    others: tuple[Ref, ...]
    scale: np.ndarray | float


def branch_of(graph: Graph, name: str) -> Branch | None:
    """The other terms of an Add that a reader feeds, directly or through a BatchNorm.

    The reader's target then includes what the other terms lost, so that the *sum* comes closest to
    the dense one.
    """
    if len(graph.calls[name]) != 1:
        return None
    ref = graph.calls[name][0].ref
    scale: np.ndarray | float = 1.0
    norm = norm_behind(graph, name)
    if norm is not None:
        gamma = norm.weights.get("gamma", np.ones(1))
        factor = gamma / np.sqrt(norm.weights["moving_variance"] + norm.config["epsilon"])
        scale = np.where(abs(factor) < 1e-3, np.inf, factor)
        ref = graph.calls[norm.name][0].ref
    behind = graph.readers.get(ref, ())
    if len(behind) != 1 or graph.layer_of(behind[0]).kind != "Add":
        return None
    others = tuple(other for other in behind[0].inputs if other != ref)
    same = all(graph.shape(other) == graph.shape(ref) for other in others)
    return Branch(others, scale) if others and same else None
