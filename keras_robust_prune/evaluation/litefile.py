"""A `.tflite` file as a function: batches in and out, integer inputs and outputs translated."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.layout import Layout
from keras_robust_prune.evaluation.sound import sound

# Operators that pass values on; looking for the last activation goes through them.
_TRANSPARENT = frozenset(["QUANTIZE", "DEQUANTIZE", "RESHAPE"])
_ACTIVATIONS = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}


class LiteFile:
    """Runs a `.tflite` file on batches.

    Args:
        path: the file, or its bytes.
        input_names, output_names: the order in which inputs and outputs are wanted, by the names in the file's
            signature; the file's own order where these are not its names.
        keep_tensors: whether `tensors` can be asked for.

    Raises:
        ValueError: the file is missing or is no readable `.tflite` file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | bytes,
        input_names: Sequence[str] = (),
        output_names: Sequence[str] = (),
        keep_tensors: bool = False,
    ) -> None:
        content = path if isinstance(path, bytes) else sound(path)
        try:
            self._interpreter = backends.interpreter(content, keep_tensors=keep_tensors)
        except (ValueError, RuntimeError, MemoryError) as error:
            name = "These bytes are" if isinstance(path, bytes) else f"{os.fspath(path)!r} is"
            raise ValueError(
                f"{name} no .tflite file that the interpreter can read ({error}). Write one with"
                " krp.export_tflite."
            ) from error
        inputs, outputs = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        by_name = self._signature()
        self._inputs = _ordered(inputs, by_name["inputs"], input_names)
        self._outputs = _ordered(outputs, by_name["outputs"], output_names)
        self.output_names = tuple(self._outputs)
        shapes = tuple(tuple(int(s) for s in d["shape"][1:]) for d in self._inputs.values())
        self.layout = Layout(tuple(self._inputs), shapes)
        self.integer_inputs = tuple(
            name
            for name, detail in self._inputs.items()
            if np.issubdtype(detail["dtype"], np.integer) and not detail["quantization"][0]
        )
        self._batch = int(inputs[0]["shape"][0])
        self._resizable = all(d["shape_signature"][0] == -1 for d in inputs)

    def _signature(self) -> dict[str, dict[str, int]]:
        """Tensor numbers of inputs and outputs by the names they had in Keras; empty without a signature."""
        if not self._interpreter.get_signature_list():
            return {"inputs": {}, "outputs": {}}
        runner = self._interpreter.get_signature_runner()
        return {
            "inputs": {k: int(d["index"]) for k, d in runner.get_input_details().items()},
            "outputs": {k: int(d["index"]) for k, d in runner.get_output_details().items()},
        }

    def ops(self) -> dict[str, int]:
        """How often each operator occurs, most frequent first."""
        counts = Counter(op["op_name"] for op in self._ops())
        return dict(counts.most_common())

    def _ops(self) -> list[dict[str, Any]]:
        return [op for op in self._interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]

    def activations(self) -> tuple[str, ...]:
        """The last activation of each output: `"softmax"`, `"sigmoid"` or `"linear"`."""
        writer = {int(index): op for op in self._ops() for index in op["outputs"]}
        found = []
        for detail in self._outputs.values():
            op = writer.get(int(detail["index"]))
            while op is not None and op["op_name"] in _TRANSPARENT:
                op = writer.get(int(op["inputs"][0]))
            found.append(_ACTIVATIONS.get(op["op_name"], "linear") if op else "linear")
        return tuple(found)

    def resolution(self) -> tuple[float, ...]:
        """The smallest step of each output: the scale of an integer output, 0 for a float one."""
        return tuple(float(detail["quantization"][0]) for detail in self._outputs.values())

    def __call__(self, rows: np.ndarray, batch_size: int = 256) -> list[np.ndarray]:
        """Outputs, as float32 `(num_inputs, ...)`, of inputs given as rows."""
        size = batch_size if self._resizable else self._batch
        chunks: list[list[np.ndarray]] = []
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            short = 0 if self._resizable else size - len(chunk)
            padded = np.concatenate([chunk, np.repeat(chunk[-1:], short, 0)]) if short else chunk
            chunks.append([value[: len(chunk)] for value in self._run(padded)])
        if not chunks:
            return [np.zeros((0, *d["shape"][1:]), np.float32) for d in self._outputs.values()]
        return [np.concatenate(values) for values in zip(*chunks, strict=True)]

    def tensors(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What every operator computes on inputs given as rows, as float32, by the tensor's name."""
        self._run(rows)
        details = {int(d["index"]): d for d in self._interpreter.get_tensor_details()}
        found = {}
        for operator in self._ops():
            for index in map(int, operator["outputs"]):
                value = self._interpreter.get_tensor(index)
                found[str(details[index]["name"])] = _dequantize(value, details[index])
        return found

    def _run(self, rows: np.ndarray) -> list[np.ndarray]:
        self._resize(len(rows))
        for value, detail in zip(self.layout.unpack(rows), self._inputs.values(), strict=True):
            self._interpreter.set_tensor(detail["index"], _quantize(value, detail))
        try:
            self._interpreter.invoke()
        except (RuntimeError, MemoryError) as error:
            raise ValueError(
                f"The interpreter cannot compute the .tflite file ({error})."
            ) from error
        return [
            _dequantize(self._interpreter.get_tensor(detail["index"]), detail)
            for detail in self._outputs.values()
        ]

    def _resize(self, batch: int) -> None:
        if batch == self._batch:
            return
        for detail in self._inputs.values():
            shape = [batch, *(int(size) for size in detail["shape"][1:])]
            self._interpreter.resize_tensor_input(detail["index"], shape)
        self._interpreter.allocate_tensors()
        self._batch = batch


def _ordered(
    details: list[dict[str, Any]], named: dict[str, int], wanted: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Tensor details by name, in the wanted order if these are their names."""
    by_index = {int(detail["index"]): detail for detail in details}
    if set(named.values()) != set(by_index):
        return {str(detail["name"]).split(":")[0]: detail for detail in details}
    names = list(wanted) if set(wanted) == set(named) else sorted(named, key=_natural)
    return {name: by_index[named[name]] for name in names}


def _natural(name: str) -> tuple[str, int]:
    """Sorts `output_10` behind `output_9`."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)


def _quantize(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    dtype = detail["dtype"]
    if not scale or not np.issubdtype(dtype, np.integer):
        return value.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(value / scale) + zero, limits.min, limits.max).astype(dtype)


def _dequantize(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale or not np.issubdtype(detail["dtype"], np.integer):
        return value.astype(np.float32)
    return ((value.astype(np.float32) - zero) * scale).astype(np.float32)
