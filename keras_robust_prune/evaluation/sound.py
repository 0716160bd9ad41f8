"""A `.tflite` file from anywhere, made fit for the interpreter, which believes every number that it reads.

Offsets and lengths that lead out of a file crash the process. So a file is read in Python, where they raise, checked,
and written anew: what the interpreter is given is well-formed whatever the file was.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_robust_prune import backends

# What the tensors of one run may hold together: far more than a phone has.
_MOST_BYTES = 8 << 30
# What reading damaged bytes raises.
UNREADABLE = (
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    ValueError,
    OverflowError,
)


def sound(path: str | os.PathLike[str]) -> bytes:
    """The content of a `.tflite` file, written anew.

    Args:
        path: the file.

    Raises:
        ValueError: there is no such file, it is no `.tflite` file, or it is damaged.
    """
    place = Path(path)
    if not place.is_file():
        raise ValueError(f"'{place}' is no file. Write one with krp.export_tflite.")
    content = place.read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError(f"'{place}' is no .tflite file. Write one with krp.export_tflite.")
    try:
        model = backends.file_schema().ModelT.InitFromPackedBuf(content, 0)
        problem = next(_problems(model), "")
        written = b"" if problem else backends.pack_file(model)
    except (*UNREADABLE, MemoryError) as error:
        problem = str(error) or type(error).__name__
    if problem:
        raise ValueError(f"'{place}' is damaged ({problem}). Write or copy it once more.")
    return written


def _problems(model: Any) -> Iterator[str]:
    """What in a file's objects leads out of it, or asks for more than any machine has."""
    types = vars(backends.file_schema().TensorType)
    sizes = {number: _SIZES.get(name, 1) for name, number in types.items() if name[:1] != "_"}
    num_buffers, num_codes = len(model.buffers or ()), len(model.operatorCodes or ())
    if not model.subgraphs:
        yield "it holds no network"
    for name in _names(model):
        if isinstance(name, bytes):
            name.decode()  # the interpreter's answers would raise
    for graph in model.subgraphs or ():
        num_tensors, total = len(graph.tensors or ()), 0.0
        for tensor in graph.tensors or ():
            shape = [] if tensor.shape is None else [int(length) for length in tensor.shape]
            if (
                tensor.type not in sizes
                or not 0 <= tensor.buffer < num_buffers
                or min(shape, default=0) < 0
            ):
                yield "a tensor's type, shape or buffer is none"
            total += math.prod(map(float, shape)) * sizes.get(tensor.type, 1)
        if total > _MOST_BYTES:
            yield f"its tensors would take {total:.3g} bytes"
        for operator in graph.operators or ():
            if not 0 <= operator.opcodeIndex < num_codes:
                yield "an operator is of no kind"
        used = [(graph.inputs, 0), (graph.outputs, 0)]
        for operator in graph.operators or ():
            used += [(operator.inputs, -1), (operator.outputs, 0), (operator.intermediates, 0)]
        for numbers, least in used:
            if any(
                not least <= int(number) < num_tensors
                for number in (() if numbers is None else numbers)
            ):
                yield "an operator reads or writes a tensor that is not there"
    for signature in model.signatureDefs or ():
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            yield "a signature is of a network that is not there"
        num_tensors = len(model.subgraphs[signature.subgraphIndex].tensors or ())
        if any(not 0 <= port.tensorIndex < num_tensors for port in _ports(signature)):
            yield "a signature names a tensor that is not there"


def _ports(signature: Any) -> list[Any]:
    """Named inputs and outputs of a signature."""
    return [*(signature.inputs or ()), *(signature.outputs or ())]


def _names(model: Any) -> Iterator[bytes | str | None]:
    """Every name in a file."""
    for code in model.operatorCodes or ():
        yield code.customCode
    for graph in model.subgraphs or ():
        yield graph.name
        yield from (tensor.name for tensor in graph.tensors or ())
    for signature in model.signatureDefs or ():
        yield signature.signatureKey
        yield from (port.name for port in _ports(signature))


_SIZES = {
    "FLOAT64": 8,
    "INT64": 8,
    "UINT64": 8,
    "COMPLEX64": 8,
    "COMPLEX128": 16,
    "FLOAT32": 4,
    "INT32": 4,
    "UINT32": 4,
}
_SIZES |= {"FLOAT16": 2, "INT16": 2, "UINT16": 2, "BFLOAT16": 2}
