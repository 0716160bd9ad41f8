"""Probes: `.tflite` files of one kernel, several times over, put together without a converter.

All copies read the same input and have weights of their own, so the time of the file over their number is that of one
kernel, with the weights coming from memory as they do in a network. What a network writes goes into memory that is used
again and stays in the caches: copies that write much are fewer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.latency.kernels import CONVOLUTION, DENSE, DEPTHWISE, Kernel

_MOST_COPIES = 6
_MOST_WRITTEN = 2**20  # bytes of all copies, where there is more than one
DTYPES = ("float32", "int8")
# Version of each operator in float32 and int8.
_VERSIONS = {CONVOLUTION: (1, 3), DEPTHWISE: (1, 3), DENSE: (1, 4)}


def copies_of(kernel: Kernel, dtype: str) -> int:
    """How many times a kernel stands in its probe.

    Args:
        kernel: the kernel.
        dtype: `"float32"` or `"int8"`.

    Example:
        >>> small = Kernel("CONV_2D", 1, 1, 1, 7, 7, 192, 64)
        >>> copies_of(small, "float32"), copies_of(small.of_widths(192, 2048), "float32")
        (6, 2)
    """
    written = kernel.rows * kernel.columns * kernel.channels_out * (1 if dtype == "int8" else 4)
    return min(max(_MOST_WRITTEN // written, 1), _MOST_COPIES)


def probe(kernel: Kernel, dtype: str, copies: int) -> bytes:
    """A file of one kernel, several times.

    Args:
        kernel: what it multiplies with; weights are random.
        dtype: `"float32"` or `"int8"`.
        copies: how often.
    """
    file = _File(dtype)
    rows, columns = kernel.rows * kernel.stride, kernel.columns * kernel.stride
    if kernel.operator == DENSE:
        given = file.tensor([kernel.columns, kernel.channels_in])
        weight = [kernel.channels_out, kernel.channels_in]
        made = [kernel.columns, kernel.channels_out]
    else:
        given = file.tensor([1, rows, columns, kernel.channels_in])
        ends = (1, kernel.channels_out)
        if kernel.operator == CONVOLUTION:
            ends = (kernel.channels_out, kernel.channels_in)
        weight = [ends[0], kernel.height, kernel.width, ends[1]]
        made = [1, kernel.rows, kernel.columns, kernel.channels_out]
    outputs = []
    for _ in range(copies):
        axis = 3 if kernel.operator == DEPTHWISE else 0
        inputs = [given, file.weight(weight, axis), file.bias(kernel.channels_out)]
        outputs.append(file.tensor(made))
        file.operator(kernel, inputs, outputs[-1])
    return file.content([given], outputs)


class _File:
    """A `.tflite` file in the making."""

    def __init__(self, dtype: str) -> None:
        self.schema = backends.file_schema()
        self.int8 = dtype == "int8"
        self.rng = np.random.default_rng(0)
        self.tensors: list[Any] = []
        self.buffers = [self.schema.BufferT()]
        self.operators: list[Any] = []
        self.code: Any = None

    def _add(self, shape: list[int], kind: int, values: np.ndarray | None = None) -> Any:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type = f"t{len(self.tensors)}", shape, kind
        if values is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return tensor

    def _scaled(self, tensor: Any, scales: list[float], axis: int = 0) -> int:
        if self.int8:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = [0] * len(scales)
            tensor.quantization.quantizedDimension = axis
        return len(self.tensors) - 1

    def tensor(self, shape: list[int]) -> int:
        """An activation."""
        types = self.schema.TensorType
        return self._scaled(self._add(shape, types.INT8 if self.int8 else types.FLOAT32), [0.05])

    def weight(self, shape: list[int], axis: int) -> int:
        """A kernel with a scale per output channel."""
        types = self.schema.TensorType
        if self.int8:
            values = self.rng.integers(-127, 128, shape).astype(np.int8)
            return self._scaled(self._add(shape, types.INT8, values), [0.01] * shape[axis], axis)
        values = self.rng.normal(size=shape).astype(np.float32)
        return self._scaled(self._add(shape, types.FLOAT32, values), [])

    def bias(self, length: int) -> int:
        """Zeros."""
        types = self.schema.TensorType
        kind = types.INT32 if self.int8 else types.FLOAT32
        values = np.zeros(length, np.int32 if self.int8 else np.float32)
        return self._scaled(self._add([length], kind, values), [0.0005] * length)

    def operator(self, kernel: Kernel, inputs: list[int], output: int) -> None:
        """One multiplication, followed by ReLU, which costs nothing."""
        s = self.schema
        relu = s.ActivationFunctionType.RELU
        options: Any
        if kernel.operator == DENSE:
            options, kind = s.FullyConnectedOptionsT(), s.BuiltinOptions.FullyConnectedOptions
        elif kernel.operator == DEPTHWISE:
            options, kind = s.DepthwiseConv2DOptionsT(), s.BuiltinOptions.DepthwiseConv2DOptions
            options.depthMultiplier = kernel.channels_out // kernel.channels_in
        else:
            options, kind = s.Conv2DOptionsT(), s.BuiltinOptions.Conv2DOptions
        if kernel.operator != DENSE:
            options.strideH = options.strideW = kernel.stride
        options.fusedActivationFunction = relu
        found = s.OperatorT()
        found.inputs, found.outputs = inputs, [output]
        found.builtinOptionsType, found.builtinOptions = kind, options
        self.operators.append(found)
        if self.code is None:
            self.code = s.OperatorCodeT()
            number = getattr(s.BuiltinOperator, kernel.operator)
            self.code.builtinCode = self.code.deprecatedBuiltinCode = number
            self.code.version = _VERSIONS[kernel.operator][self.int8]

    def content(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file."""
        graph = self.schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = inputs, outputs
        model = self.schema.ModelT()
        model.version, model.operatorCodes, model.subgraphs = 3, [self.code], [graph]
        model.buffers = self.buffers
        return backends.pack_file(model)
