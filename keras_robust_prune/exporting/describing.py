"""What a `.tflite` file is, read from the file alone: operators, types, the runtime that it needs."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.evaluation.sound import UNREADABLE
from keras_robust_prune.exporting.runtimes import (
    GPU_RANK,
    ON_GPU,
    PER_CHANNEL_DENSE,
    as_numbers,
    runtime_of,
)
from keras_robust_prune.reporting.tables import Table


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a file.

    Attributes:
        name: such as `"CONV_2D"`.
        version: of the operator, as the file states it.
        count: how often it occurs.
        runtime: the first TensorFlow Lite runtime that has it; None if that is not known.
    """

    name: str
    version: int
    count: int
    runtime: str | None


@dataclasses.dataclass(frozen=True)
class Port:
    """An input or an output of a file.

    Attributes:
        name: in the file's signature; that of its tensor if the file has none.
        shape: with the batch axis.
        dtype: such as `"float32"` or `"int8"`.
        scale, zero_point: a number q stands for `(q - zero_point) * scale`; a scale of 0 for itself.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int

    def __str__(self) -> str:
        text = f"{self.name} {list(self.shape)} {self.dtype}"
        if self.scale:
            text += f", scale {self.scale:.6g}, zero point {self.zero_point}"
        return text


@dataclasses.dataclass(frozen=True)
class FileDescription:
    """What stands in a `.tflite` file. Prints as text; `to_dict()` gives plain values.

    Attributes:
        path: the file.
        num_bytes: its size.
        inputs, outputs: names, shapes, types, scales.
        operators: in alphabetical order.
        runtime: the oldest TensorFlow Lite runtime that runs it, computed from its operators; None if one is unknown.
        stated_runtime: what the file's own field says, which may be too old.
        gpu: what the GPU delegate is known to refuse, a sentence each.
    """

    path: str
    num_bytes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: tuple[Operator, ...]
    runtime: str | None
    stated_runtime: str | None
    gpu: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.path}, {self.num_bytes:,} bytes"]
        lines += [f"input    {port}" for port in self.inputs]
        lines += [f"output   {port}" for port in self.outputs]
        stated = f" (its own field says {self.stated_runtime})" if self.stated_runtime else ""
        lines.append(f"runtime  TensorFlow Lite {self.runtime or 'unknown'} or newer{stated}")
        lines += [
            f"GPU      {sentence}" for sentence in self.gpu or ("nothing is known against it",)
        ]
        rows = [
            (op.name, str(op.count), str(op.version), op.runtime or "unknown")
            for op in self.operators
        ]
        return "\n".join(
            [*lines, "", str(Table(("operator", "times", "version", "runtime"), rows))]
        )


def describe_tflite(path: str | os.PathLike[str]) -> FileDescription:
    """Reads what a `.tflite` file, of whatever origin, needs and holds. It is not run.

    Args:
        path: the file.

    Returns:
        A `FileDescription`; `print` it.

    Raises:
        ValueError: there is no such file, or it is no `.tflite` file.

    Example:
        >>> import tempfile, tf_keras
        >>> import keras_robust_prune as krp
        >>> model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
        >>> path = Path(tempfile.mkdtemp()) / "model.tflite"
        >>> _ = krp.export_tflite(model, path)
        >>> described = describe_tflite(path)
        >>> described.operators, described.runtime
        ((Operator(name='FULLY_CONNECTED', version=1, count=1, runtime='1.5'),), '1.5')
    """
    place = Path(path)
    if not place.is_file():
        raise ValueError(f"'{place}' is no file. Write one with krp.export_tflite.")
    return describe(place.read_bytes(), str(place))


def describe(content: bytes, path: str) -> FileDescription:
    """The same of a file's bytes; `path` is only what it is called."""
    if content[4:8] != b"TFL3":
        raise ValueError(f"'{path}' is no .tflite file. Write one with krp.export_tflite.")
    try:
        return _describe(content, path)
    except UNREADABLE as error:
        raise ValueError(f"'{path}' is damaged ({error}). Write or copy it once more.") from error


def _describe(content: bytes, path: str) -> FileDescription:
    schema = backends.file_schema()
    model = schema.Model.GetRootAs(content, 0)
    names = {
        number: name for name, number in vars(schema.BuiltinOperator).items() if name[:1] != "_"
    }
    counts: Counter[tuple[str, int]] = Counter()
    per_channel_dense = False
    for graph, operator in _operators(model):
        code = model.OperatorCodes(operator.OpcodeIndex())
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = (
            names[number] if number != schema.BuiltinOperator.CUSTOM else _text(code.CustomCode())
        )
        counts[name, code.Version()] += 1
        if name == "FULLY_CONNECTED":
            kernel = graph.Tensors(operator.Inputs(1)).Quantization()
            per_channel_dense |= kernel is not None and kernel.ScaleLength() > 1
    found = tuple(Operator(*key, n, runtime_of(*key)) for key, n in sorted(counts.items()))
    needed = [op.runtime for op in found] + [PER_CHANNEL_DENSE] * per_channel_dense
    known = [runtime for runtime in needed if runtime is not None]
    runtime = max(known, key=as_numbers) if known and len(known) == len(needed) else None
    inputs, outputs = _ports(schema, model)
    return FileDescription(
        path,
        len(content),
        inputs,
        outputs,
        found,
        runtime,
        _stated_runtime(model),
        tuple(_refused_by_gpu(schema, model, found)),
    )


def _operators(model: Any) -> Iterator[tuple[Any, Any]]:
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        for number in range(graph.OperatorsLength()):
            yield graph, graph.Operators(number)


def _ports(schema: Any, model: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    graph = model.Subgraphs(0)
    named: tuple[dict[int, str], dict[int, str]] = ({}, {})
    if model.SignatureDefsLength():
        signature = model.SignatureDefs(0)
        for k in range(signature.InputsLength()):
            named[0][signature.Inputs(k).TensorIndex()] = _text(signature.Inputs(k).Name())
        for k in range(signature.OutputsLength()):
            named[1][signature.Outputs(k).TensorIndex()] = _text(signature.Outputs(k).Name())
    return (
        tuple(
            _port(schema, graph.Tensors(graph.Inputs(k)), named[0].get(graph.Inputs(k)))
            for k in range(graph.InputsLength())
        ),
        tuple(
            _port(schema, graph.Tensors(graph.Outputs(k)), named[1].get(graph.Outputs(k)))
            for k in range(graph.OutputsLength())
        ),
    )


def _port(schema: Any, tensor: Any, name: str | None) -> Port:
    quantization = tensor.Quantization()
    scaled = quantization is not None and quantization.ScaleLength() > 0
    types = {number: name for name, number in vars(schema.TensorType).items() if name[:1] != "_"}
    return Port(
        name or _text(tensor.Name()),
        tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength())),
        types[tensor.Type()].lower(),
        float(quantization.Scale(0)) if scaled else 0.0,
        int(quantization.ZeroPoint(0)) if scaled else 0,
    )


def _stated_runtime(model: Any) -> str | None:
    for index in range(model.MetadataLength()):
        item = model.Metadata(index)
        if _text(item.Name()) == "min_runtime_version":
            return _text(model.Buffers(item.Buffer()).DataAsNumpy().tobytes()) or None
    return None


def _refused_by_gpu(schema: Any, model: Any, operators: tuple[Operator, ...]) -> Iterator[str]:
    unknown = [op.name for op in operators if op.name not in ON_GPU]
    if unknown:
        yield f"{', '.join(unknown)}: computed on the CPU, with a copy each way"
    ranks = [
        graph.Tensors(index).ShapeLength()
        for graph, operator in _operators(model)
        for index in operator.OutputsAsNumpy()
    ]
    if max(ranks, default=0) > GPU_RANK:
        yield f"tensors with {max(ranks)} axes: it takes {GPU_RANK} at most"
    integers = (schema.TensorType.INT32, schema.TensorType.INT64)
    graph = model.Subgraphs(0)
    if any(graph.Tensors(index).Type() in integers for index in graph.InputsAsNumpy()):
        yield "an input of whole numbers: it takes float inputs"
    if any(op.name == "CONV_2D" and op.version == 6 for op in operators):
        yield "grouped convolution"
    int8 = schema.TensorType.INT8
    if any(
        graph.Tensors(index).Type() == int8
        for graph, operator in _operators(model)
        for index in operator.OutputsAsNumpy()
    ):
        yield "int8 is computed in float16 there, so it is no faster than a float16 file"


def _text(found: bytes | None) -> str:
    return (found or b"").rstrip(b"\0").decode()
