"""A layer as `rows @ matrix`: the view in which repair solves it anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Layer
from keras_robust_prune.primitives.gaussian import Gaussian


@dataclasses.dataclass(frozen=True, eq=False)
class LinearView:
    """What a layer computes, before its activation, as rows of numbers times one matrix.

    The matrix has one row for every entry that its kernel multiplies (of a convolution: every tap of every channel,
    channels running fastest), and a last row for the constant.

    Attributes:
        kernel: name of the weight that the matrix is made of.
        rows: the layer's input, a TensorFlow tensor `(batch, ...)`, as rows `(positions, num_rows)`, in the order of
            the kernel's entries.
        unit_axis: the axis of the kernel along which the layer's own units lie.
        bias: name of the weight that holds the constant; a layer may lack it.
        moments: moments of the rows from those of the input; None if they are the input's positions side by side.

    Example:
        Of a Dense layer: `LinearView("kernel", lambda x: tf.reshape(x, (-1, x.shape[-1])))`.
    """

    kernel: str
    rows: Callable[[Any], Any]
    unit_axis: int = -1
    bias: str = "bias"
    moments: Callable[[Gaussian], Gaussian | None] | None = None

    def matrix(self, layer: Layer) -> np.ndarray:
        """The weights, `(num_rows + 1, num_units)` float64; the last row is the constant, 0 without a bias."""
        kernel = np.moveaxis(layer.weights[self.kernel], self.unit_axis, -1)
        rows = kernel.reshape(-1, kernel.shape[-1])
        bias = layer.weights.get(self.bias, np.zeros(rows.shape[1]))
        return np.concatenate([rows, bias[None]]).astype("float64")

    def weights(self, layer: Layer, matrix: np.ndarray) -> dict[str, np.ndarray]:
        """The layer's weights, by name, with which it has this matrix; its constant only where there is a bias."""
        shape = np.moveaxis(layer.weights[self.kernel], self.unit_axis, -1).shape
        kernel = np.moveaxis(matrix[:-1].reshape(shape), -1, self.unit_axis)
        changed = {self.kernel: np.ascontiguousarray(kernel, "float32")}
        if self.bias in layer.weights:
            changed[self.bias] = matrix[-1].astype("float32")
        return changed

    def rows_of_units(self, layer: Layer, axis: int, positions: np.ndarray) -> np.ndarray:
        """Rows of the matrix that belong to each unit that the layer reads, `(num_units, rows_per_unit)`.

        Args:
            layer: the layer.
            axis: the axis of the kernel that those units index.
            positions: their entries along it, `(num_units, multiplicity)`.

        Example:
            A unit before a 3x3 convolution owns 9 rows, one per tap.
        """
        shape = layer.weights[self.kernel].shape
        unit = self.unit_axis % len(shape)
        numbers = np.arange(np.prod(shape) // shape[unit]).reshape(shape[:unit] + shape[unit + 1 :])
        taken = np.take(numbers, positions, axis - (unit < axis))
        return np.moveaxis(taken, axis - (unit < axis), 0).reshape(len(positions), -1)

    def moments_of_rows(self, layer: Layer, inner: Gaussian) -> Gaussian | None:
        """Moments of the rows from those of the layer's input; None if they are not known."""
        if self.moments is not None:
            return self.moments(inner)
        copies = self._copies(layer, inner)
        return inner.tiled(copies) if copies else None

    def moments_of_units(self, layer: Layer, inner: Gaussian) -> Gaussian | None:
        """Moments of what the layer computes from those of its input; None if they are not known."""
        matrix = self.matrix(layer)
        if self.moments is not None:
            rows = self.moments(inner)
            return None if rows is None else rows.times(matrix[:-1], matrix[-1])
        copies = self._copies(layer, inner)
        taps = matrix[:-1].reshape(copies or 1, -1, matrix.shape[1])
        return inner.filtered(taps, matrix[-1]) if copies else None

    def _copies(self, layer: Layer, inner: Gaussian) -> int:
        """How many positions of the input stand side by side in a row; 0 if it is not made of whole ones."""
        kernel = layer.weights[self.kernel]
        copies, rest = divmod(kernel.size // kernel.shape[self.unit_axis], len(inner.mean))
        return 0 if rest else copies


def between(
    layer: Layer, kernel: str, inputs: np.ndarray, outputs: np.ndarray
) -> dict[str, np.ndarray]:
    """Weights of a layer whose inputs and outputs are multiplied; see `LayerType.rescaled`.

    Args:
        layer: the layer.
        kernel: the weight whose last two axes are inputs and outputs.
        inputs: a number per input.
        outputs: a number per output.
    """
    changed = {kernel: layer.weights[kernel] * (outputs / inputs[:, None])}
    if "bias" in layer.weights:
        changed["bias"] = layer.weights["bias"] * outputs
    return changed


def positions(tensor: Any) -> Any:
    """A tensor's last axis as rows, one per position."""
    return backends.tensorflow().reshape(tensor, (-1, tensor.shape[-1]))


def patches(
    tensor: Any,
    size: Sequence[int],
    strides: Sequence[int] = (1, 1),
    padding: str = "valid",
    dilation: Sequence[int] = (1, 1),
) -> Any:
    """What a convolution over one or two axes reads, as rows in the order of its kernel's entries.

    Args:
        tensor: a TensorFlow tensor `(batch, *space, channels)`.
        size: of the kernel, one number per axis of space.
        strides: steps between windows.
        padding: `"valid"`, `"same"` or, over one axis, `"causal"`.
        dilation: steps between taps.

    Returns:
        `(positions, taps * channels)`.
    """
    tf = backends.tensorflow()
    size, strides, dilation = (tuple(part) for part in (size, strides, dilation))
    if len(size) == 1:
        if padding == "causal":
            tensor = tf.pad(tensor, [[0, 0], [dilation[0] * (size[0] - 1), 0], [0, 0]])
            padding = "valid"
        tensor = tensor[:, :, None, :]
        size, strides, dilation = ((part[0], 1) for part in (size, strides, dilation))
    rows = tf.image.extract_patches(
        tensor, [1, *size, 1], [1, *strides, 1], [1, *dilation, 1], padding.upper()
    )
    return positions(rows)
