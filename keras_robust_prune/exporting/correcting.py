"""Bias correction: what quantised weights add to a layer's output on average is taken from its bias.

A rounded kernel multiplies inputs that are seldom zero on average: the mean of its error, `(W - Wq) E[x]`, is the same
for every input, and a bias can take it. It is computed from the two files alone, weights as they are stored and inputs
as the float32 file has them on calibration inputs.

Reference:
    [Nagel et al., 2019](https://arxiv.org/abs/1906.04721), section 4.2, with measured means in place of estimated ones.
"""

from __future__ import annotations

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.layout import Layout
from keras_robust_prune.exporting.checking import every_tensor

# Means are taken over so many inputs.
NUM_INPUTS = 64


def corrected(content: bytes, reference: bytes, layout: Layout, rows: np.ndarray) -> bytes:
    """An int8 file with corrected biases.

    Args:
        content: the file.
        reference: the float32 file of the same network.
        layout: of the inputs.
        rows: calibration inputs, `(num, num_features)`.

    Returns:
        The file; layers without a bias stay as they are. Both files hold their kernels in the same order.
    """
    file, other = _Model(content), _Model(reference)
    rows = rows[:NUM_INPUTS]
    tensors = every_tensor(reference, layout, rows)
    given = other.input_names()
    parts = layout.unpack(rows)
    if len(given) == 1:
        tensors[given[0]] = parts[0]
    pairs = list(zip(other.kernels(), file.kernels(), strict=False))
    for (name, exact, _), (_, rounded, bias) in pairs:
        wanted, stored = other.values(exact), file.values(rounded)
        if bias < 0 or name not in tensors or wanted.shape != stored.shape:
            continue
        inputs = tensors[name]
        mean = inputs.reshape(-1, inputs.shape[-1]).mean(0, dtype=float)
        error = _through(wanted - stored, mean)
        if error is not None:
            file.add(bias, error)
    return file.content()


def _through(kernel: np.ndarray, mean: np.ndarray) -> np.ndarray | None:
    """What a kernel makes of the mean of its inputs, in the middle of a picture; None if the shapes say nothing."""
    if kernel.ndim == 2:
        return np.asarray(kernel @ mean) if kernel.shape[1] == len(mean) else None
    taps = kernel.sum((1, 2))  # (out, in), or (1, channels) of a depthwise kernel
    if kernel.shape[3] == len(mean) and kernel.shape[0] > 1:
        return np.asarray(taps @ mean)
    if kernel.shape[0] == 1 and kernel.shape[3] % len(mean) == 0:
        return np.asarray(taps[0] * np.repeat(mean, kernel.shape[3] // len(mean)))
    return None


class _Model:
    """The objects of a file."""

    def __init__(self, content: bytes) -> None:
        self._schema = backends.file_schema()
        self._model = self._schema.ModelT.InitFromPackedBuf(content, 0)
        self._graph = self._model.subgraphs[0]

    def kernels(self) -> list[tuple[str, int, int]]:
        """Of every operator with a kernel: its input's name, its kernel, and its bias or -1."""
        operators = self._schema.BuiltinOperator
        known = (operators.CONV_2D, operators.DEPTHWISE_CONV_2D, operators.FULLY_CONNECTED)
        found = []
        for operator in self._graph.operators:
            code = self._model.operatorCodes[operator.opcodeIndex]
            if max(code.builtinCode, code.deprecatedBuiltinCode) in known:
                given, weights, *bias = (int(index) for index in operator.inputs)
                found.append((self._name(given), weights, bias[0] if bias else -1))
        return found

    def input_names(self) -> list[str]:
        """Names of the tensors that go in."""
        return [self._name(int(index)) for index in self._graph.inputs]

    def _name(self, index: int) -> str:
        return bytes(self._graph.tensors[index].name).decode()

    def values(self, index: int) -> np.ndarray:
        """A constant tensor in float64; empty if it is none."""
        tensor = self._graph.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        types = self._schema.TensorType
        kinds = {types.FLOAT32: np.float32, types.INT8: np.int8, types.INT32: np.int32}
        if data is None or tensor.type not in kinds:
            return np.empty(0)
        values = np.frombuffer(bytes(data), kinds[tensor.type]).reshape(tensor.shape).astype(float)
        scales = self._scales(index)
        if len(scales) == 0:
            return values
        shape = [1] * values.ndim
        if len(scales) > 1:
            shape[tensor.quantization.quantizedDimension] = len(scales)
        return values * scales.reshape(shape)

    def _scales(self, index: int) -> np.ndarray:
        """Scales of a quantised tensor; none of another."""
        given = self._graph.tensors[index].quantization
        return np.asarray(() if given is None or given.scale is None else given.scale, float)

    def add(self, index: int, error: np.ndarray) -> None:
        """Adds to a bias, rounded to its steps."""
        tensor = self._graph.tensors[index]
        scales = self._scales(index)
        data = self._model.buffers[tensor.buffer].data
        if tensor.type != self._schema.TensorType.INT32 or not len(scales) or data is None:
            return
        stored = np.frombuffer(bytes(data), np.int32)
        moved = stored + np.round(error / scales).astype(np.int64)
        limits = np.iinfo(np.int32)
        moved = np.clip(moved, limits.min, limits.max).astype(np.int32)
        buffer = self._schema.BufferT()  # the old one may be that of another bias, too
        buffer.data = np.frombuffer(moved.tobytes(), np.uint8)
        tensor.buffer = len(self._model.buffers)
        self._model.buffers.append(buffer)

    def content(self) -> bytes:
        """The file."""
        return backends.pack_file(self._model)
