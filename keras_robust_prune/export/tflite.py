"""From a Keras model to a checked `.tflite` file."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.adapters import KerasAdapter
from keras_robust_prune.evaluation.layout import Layout
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.keras_io import reading, writing

QUANTIZATIONS = (None, "float16", "dynamic", "int8")
NUM_POINTS = 64
NUM_CALIBRATION = 200
# A float32 file that differs by more than this share of the output scale does not compute the model.
LARGEST_DIFFERENCE = 1e-3


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export_tflite` wrote. Prints as text; `to_dict()` gives plain values.

    Attributes:
        path: the file.
        quantize: how its numbers are stored: None (float32), `"float16"`, `"dynamic"` or `"int8"`.
        num_bytes: the file's size.
        ops: how often each operator occurs.
        max_difference: largest |file - model| on points of the input range, relative to the largest |output| of the
            model there; None where it was not verified.
        latency_ms: median time of one inference of one input on one thread, in milliseconds.
    """

    path: str
    quantize: str | None
    num_bytes: int
    ops: dict[str, int]
    max_difference: float | None
    latency_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.path}, {self.quantize or 'float32'}"]
        lines.append(f"bytes       {self.num_bytes:,}")
        lines.append(f"latency     {self.latency_ms:.3f} ms (median, one input, one thread)")
        if self.max_difference is not None:
            lines.append(
                f"difference  {self.max_difference:.1e} of the model's output scale, at most, on"
                f" {NUM_POINTS} points of the input range"
            )
        lines.append("operators   " + ", ".join(f"{name} {n}" for name, n in self.ops.items()))
        return "\n".join(lines)


def export_tflite(
    model: Any,
    path: str | Path,
    quantize: str | None = None,
    calibration: Any = None,
    input_range: Any = (0.0, 1.0),
    overwrite: bool = False,
    verify: bool = True,
    trust: bool = False,
) -> ExportReport:
    """Converts a model to a `.tflite` file of builtin operators and checks it.

    The file appears whole or not at all.

    Args:
        model: a tf_keras or Keras 3 model, or the path of one.
        path: where the file goes.
        quantize: None keeps float32; `"float16"` halves the weights; `"dynamic"` stores weights as int8; `"int8"`
            computes in int8 throughout, with int8 inputs and outputs (their scales stand in the file).
        calibration: for `"int8"`: inputs to measure activations on, `(n, ...)`, a list or a mapping by name for several
            inputs; None draws points of the input range, which knows nothing of real inputs.
        input_range: valid inputs, `(lower, upper)`: numbers or arrays of one input's shape; for several inputs a
            mapping from their names to such pairs.
        overwrite: whether a file that is there may be replaced.
        verify: whether the file's outputs are compared with the model's.
        trust: whether a model's file may run code of its own; see `krp.load`.

    Returns:
        An `ExportReport`: bytes, operators, difference from the model, latency.

    Raises:
        FileExistsError: the file is there and may not be replaced.
        ValueError: an operator is no builtin one, `quantize` is unknown, or the float32 file computes something else.

    Example:
        >>> import tempfile, tf_keras
        >>> model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
        >>> report = export_tflite(model, Path(tempfile.mkdtemp()) / "model.tflite")
        >>> report.ops, report.max_difference < 1e-5
        ({'FULLY_CONNECTED': 1}, True)
    """
    if quantize not in QUANTIZATIONS:
        raise ValueError(f"quantize is {quantize!r}, but it is one of {QUANTIZATIONS}.")
    if calibration is not None and quantize != "int8":
        raise ValueError("calibration only serves quantize='int8'. Leave it out, or quantize so.")
    if not overwrite:
        writing.refuse_existing([path])
    model = reading.opened(model, trust)
    adapter = KerasAdapter(model)
    examples = None
    if quantize == "int8":
        examples = _examples(adapter, calibration, input_range)
    content = _convert(model, quantize, examples, bool(adapter.integer_inputs))
    file = LiteFile(content, adapter.layout.names, adapter.output_names)
    difference = _difference(adapter, file, input_range) if verify else None
    if quantize is None and difference is not None and not difference <= LARGEST_DIFFERENCE:
        raise ValueError(
            f"'{path}' was not written: its outputs differ from the model's by {difference:.1e} of"
            " their scale. Look for values near the end of float32's range in the model, or pass"
            " verify=False to have the file all the same."
        )
    with writing.replacing(path, overwrite) as draft:
        draft.write_bytes(content)
    return ExportReport(
        str(path), quantize, len(content), file.ops(), difference, measure_latency(content)
    )


def measure_latency(
    file: str | Path | bytes, num_threads: int = 1, min_runs: int = 20, seconds: float = 0.3
) -> float:
    """Median time of one inference of one input, in milliseconds.

    Args:
        file: the path of a `.tflite` file, or its content.
        num_threads: how many threads compute.
        min_runs: how often it runs at least.
        seconds: how long it runs at least.
    """
    interpreter = backends.interpreter(file, num_threads)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    for _ in range(3):
        interpreter.invoke()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < min_runs or time.perf_counter() < end:
        begin = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1000


def range_points(layout: Layout, input_range: Any, num: int, seed: int = 0) -> np.ndarray:
    """Points of the input range, rows `(num, num_features)`: its two ends and middle, dense and sparse random ones."""
    lower, upper = layout.range_rows(input_range)
    rng = np.random.default_rng(seed)
    place = rng.uniform(size=(num, layout.num_features))
    sparse = rng.uniform(size=(num, 1)) * (np.arange(num) % 2)[:, np.newaxis]
    place *= rng.uniform(size=place.shape) >= sparse
    place[:3] = np.array([0.0, 1.0, 0.5])[:num, np.newaxis]
    return (lower + place * (upper - lower)).astype(np.float32)


def _examples(adapter: KerasAdapter, calibration: Any, input_range: Any) -> list[Any]:
    """Single inputs, as the converter takes them: several inputs go by name, for it orders them its own way."""
    layout = adapter.layout
    if calibration is None:
        rows = range_points(layout, input_range, NUM_CALIBRATION)
    else:
        rows = layout.pack(calibration)
    if not len(rows):
        raise ValueError("calibration holds no input. Give some, or None for random points.")
    parts = [
        part.astype(dtype) for part, dtype in zip(layout.unpack(rows), adapter.dtypes, strict=True)
    ]
    if len(parts) == 1:
        return [[parts[0][i : i + 1]] for i in range(len(rows))]
    return [
        {name: part[i : i + 1] for name, part in zip(layout.names, parts, strict=True)}
        for i in range(len(rows))
    ]


def _convert(
    model: Any,
    quantize: str | None,
    examples: Sequence[Any] | None,
    integer_inputs: bool,
) -> bytes:
    tf = backends.tensorflow()
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: iter(examples or ())
        if not integer_inputs:
            converter.inference_input_type = converter.inference_output_type = tf.int8
    try:
        with _quietly():
            return bytes(converter.convert())
    except Exception as error:
        if type(error).__name__ != "ConverterError":
            raise
        raise ValueError(_explain(str(error), model.name, quantize)) from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the converter prints about its own progress."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _explain(text: str, name: str, quantize: str | None) -> str:
    """What a converter error means."""
    listed = re.findall(r"^(?:TF Select|Flex|Custom) ops: (.+)$", text, re.MULTILINE)
    ops = sorted({op.strip() for line in listed for op in line.split(",")})
    ops = ops or sorted(set(re.findall(r"'(?:tf|tfl)\.(\w+)' op", text)))
    if ops:
        what = f"the operators {ops} have no builtin counterpart in TFLite"
        if quantize == "int8":
            what += ", or none in int8"
    else:
        what = text.strip().splitlines()[0]
    return (
        f"'{name}' cannot become a .tflite file of builtin operators: {what}. Exchange the layers"
        " that use them"
        + (
            ", or use quantize='dynamic', which computes them in float."
            if quantize == "int8"
            else "."
        )
    )


def _difference(adapter: KerasAdapter, file: LiteFile, input_range: Any) -> float:
    """Largest |file - model| over the largest |model|, the worst of all outputs."""
    rows = range_points(adapter.layout, input_range, NUM_POINTS)
    wanted, _ = adapter.run(rows, NUM_POINTS)
    found = file(rows, NUM_POINTS)
    shares = []
    for want, have in zip(wanted, found, strict=True):
        scale = max(float(np.abs(want).max()), float(np.finfo(np.float32).tiny))
        shares.append(float(np.abs(have.reshape(want.shape) - want).max()) / scale)
    return max(shares)
