"""From a Keras model to checked `.tflite` files."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.adapters import KerasAdapter
from keras_robust_prune.evaluation.sound import sound
from keras_robust_prune.exporting.checking import LayerNoise
from keras_robust_prune.exporting.describing import FileDescription, describe
from keras_robust_prune.exporting.drafting import (
    ADJUSTMENTS,
    Draft,
    draft_of,
    with_softmax,
)
from keras_robust_prune.exporting.metadata import Metadata
from keras_robust_prune.exporting.quantization import Quantization, quantization_for
from keras_robust_prune.exporting.runtimes import as_numbers
from keras_robust_prune.exporting.source import NUM_POINTS, Source
from keras_robust_prune.keras_io import outputs, reading, writing
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.reporting.tables import Table, as_html

MIN_AGREEMENT = 0.9


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was written to one `.tflite` file. Prints as text; `to_dict()` gives plain values.

    Attributes:
        path: the file.
        quantize: how its numbers are stored, a registered name; None for float32.
        num_bytes: the file's size.
        ops: how often each operator occurs.
        max_difference: largest `|file - model|` on points of the input range, relative to the largest `|output|` of the
            model there; None where it was not verified.
        latency_ms: median time of one inference of one input on one thread, in milliseconds.
        agreement: share of held-out inputs on which file and model say the same, in [0, 1]; None if not verified.
        num_held_out: how many held-out inputs these are.
        decibels: signal-to-noise ratio of the outputs there.
        layers: noise of every layer against the float32 file, the worst first; for calibrated files.
        adjusted: what was done before or behind the conversion, and how many decibels of the outputs each gained.
        description: operators, types and the runtime that the file needs.
        mediapipe: what keeps MediaPipe's ImageClassifier from taking it; None if it holds no metadata.
        spread_ms: between which times nine of ten inferences lie, 5 and 95 %, in milliseconds.
    """

    path: str
    quantize: str | None
    num_bytes: int
    ops: dict[str, int]
    max_difference: float | None
    latency_ms: float
    agreement: float | None = None
    num_held_out: int = 0
    decibels: float | None = None
    layers: tuple[LayerNoise, ...] = ()
    adjusted: Mapping[str, float] = dataclasses.field(default_factory=dict)
    description: FileDescription | None = None
    mediapipe: tuple[str, ...] | None = None
    spread_ms: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @property
    def title(self) -> str:
        """The file, and how its numbers are stored."""
        return f"{self.path}, {self.quantize or 'float32'}"

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """Everything there is to say of the file: what, and how much or how."""
        found = [("bytes", f"{self.num_bytes:,}"), ("latency", self._latency)]
        if self.max_difference is not None:
            scale = f"{self.max_difference:.1e} of the model's output scale, at most"
            found.append(("difference", f"{scale}, on {NUM_POINTS} points of the input range"))
        if self.agreement is not None:
            share = f"{self.agreement:.3f} with the model on {self.num_held_out} held-out inputs"
            found.append(("agreement", f"{share}, {self.decibels:.1f} dB"))
        if self.adjusted:
            gains = ", ".join(f"{name} {gain:+.1f} dB" for name, gain in self.adjusted.items())
            found.append(("adjusted", gains))
        if self.layers:
            worst = ", ".join(f"{item.layer} {item.decibels:.1f} dB" for item in self.layers[:3])
            found.append(("worst layers", worst))
        found.append(("operators", ", ".join(f"{name} {n}" for name, n in self.ops.items())))
        if self.description is not None:
            runtime = f"TensorFlow Lite {self.description.runtime or 'unknown'} or newer"
            found.append(("runtime", runtime))
            found += [("input", str(port)) for port in self.description.inputs]
            found += [("output", str(port)) for port in self.description.outputs]
            found += [("GPU", sentence) for sentence in self.description.gpu]
        if self.mediapipe is not None:
            sentences = self.mediapipe or ("takes it as an image classifier",)
            found += [("MediaPipe", sentence) for sentence in sentences]
        return tuple(found)

    @property
    def _latency(self) -> str:
        spread = (
            ""
            if self.spread_ms is None
            else ", 5 to 95 %: {:.3f} to {:.3f}".format(*self.spread_ms)
        )
        return f"{self.latency_ms:.3f} ms (median, one input, one thread{spread})"

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"{name + '  ':<12}{text}" for name, text in self.lines)])

    def _repr_html_(self) -> str:
        return as_html([Table(("file", self.title), self.lines, left=2)])


def export(
    model: Any,
    path: str | Path,
    quantize: str | Quantization | Iterable[str | Quantization | None] | None = "float32",
    *,
    calibration: Any = None,
    input_range: Any = None,
    dense_per_tensor: bool = False,
    adjust: Iterable[str] = ADJUSTMENTS,
    float_layers: int = 0,
    min_agreement: float = MIN_AGREEMENT,
    max_runtime: str | None = None,
    metadata: Metadata | None = None,
    names: Mapping[str, str] | None = None,
    softmax: bool = False,
    force: bool = False,
    overwrite: bool = False,
    verify: bool = True,
    seed: int = 0,
    trust: bool = False,
    verbose: int = 1,
) -> tuple[ExportReport, ...]:
    """Writes one `.tflite` file per quantisation, each checked against the model before any is written.

    Normalisations that stand behind no kernel move into the layers behind them first, where that is the same function;
    in int8 as a part of equalisation.
    Int8 ranges are measured on the inputs that pruning itself would use, made from the network if none are given; every
    file is compared with the model on others, held out from that.

    Args:
        model: a tf_keras or Keras 3 model, pruned or not, or the path of one.
        path: where the file goes; with several quantisations `small.tflite` becomes `small.int8.tflite` and so on.
        quantize: one or several of `"float32"` (None), `"float16"`, `"dynamic"`, `"int8"`, `"int8_float32"` and
            `"int8_uint8"` (int8 inside, float32 or uint8 input and output), or any that was registered.
        calibration: unlabelled inputs, `(n, ...)`, a list or a mapping by name for several inputs; None makes them from
            the network, `"weights"` draws points of the input range, which know nothing of real inputs.
        input_range: valid inputs: None takes what the network says, else (0, 1); `(lower, upper)`, numbers or
            arrays of one input's shape, or an `InputSpec`; for several inputs a mapping from their names to such.
        dense_per_tensor: one scale for the int8 kernel of a Dense layer instead of one per output: for old runtimes.
        adjust: what int8 is helped by, each only where it lowers the noise of the outputs on held-out inputs:
            `"equalization"` (units take their tensors' ranges alike, see `exporting.equalizing`) and `"bias"` (biases
            take over what rounded weights add on average). Equalisation may cost .1 dB where it takes operators
            out of the file.
        float_layers: how many of the worst layers of an `"int8_float32"` file stay in float32, by their noise on
            held-out inputs.
        min_agreement: on how large a share of held-out inputs a file has to say what its model says, in [0, 1]; see
            `keras_robust_prune.exporting.checking.agreement`.
        max_runtime: the TensorFlow Lite runtime on the device, such as `"2.16"`: a file that needs a newer one is
            refused.
        metadata: what the file shall say of itself, in TFLite Metadata, with `labels.txt` behind it; None writes none.
        names: what inputs and outputs are called in the signature, by the names they have in Keras.
        softmax: appends a softmax to outputs that are logits.
        force: files that agree too little, or need a newer runtime, are written all the same, with a warning.
        overwrite: whether files that are there may be replaced.
        verify: whether files are compared with the model at all.
        seed: of everything that is drawn.
        trust: whether a model's file may run code of its own; see `krp.load`.
        verbose: 0 is silent; 1 says how far the work is if it takes long.

    Returns:
        One `ExportReport` per file.

    Raises:
        FileExistsError: a file is there and may not be replaced.
        ValueError: an operator is no builtin one, a quantisation is unknown, or a file computes something else or needs
            a newer runtime. Nothing is written then.

    Example:
        >>> import tempfile, tf_keras
        >>> model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
        >>> path = Path(tempfile.mkdtemp()) / "model.tflite"
        >>> for report in export(model, path, ["float32", "int8_uint8"]):
        ...     print(Path(report.path).name, report.description.inputs[0].dtype)
        model.float32.tflite float32
        model.int8_uint8.tflite uint8
    """
    single = quantize is None or isinstance(quantize, (str, Quantization))
    listed: Any = [quantize] if single else quantize
    ways = [quantization_for(way) for way in listed]
    adjust = tuple(adjust)
    _refuse(ways, min_agreement, adjust, float_layers, calibration)
    newest = None if max_runtime is None else as_numbers(max_runtime)
    calibrated = any(way.calibrated for way in ways)
    places = [Path(path)] if single else [_beside(Path(path), way.name) for way in ways]
    given = {"model": Path(model)} if isinstance(model, (str, os.PathLike)) else {}
    outputs.check([outputs.Output("path", p, outputs.LITE) for p in places], given, overwrite)
    model = reading.opened(model, trust)
    if softmax:
        model = with_softmax(model)
    specs = input_specs(reading.read(model), input_range)
    source = Source(model, KerasAdapter(model), specs, calibration, calibrated, seed)
    drafts = [
        draft_of(source, way, dense_per_tensor, verify, adjust, float_layers).worded(
            source, metadata, dict(names or {})
        )
        for way in Progress.over("export", ways, verbose)
    ]
    problems = [
        problem
        for draft, place in zip(drafts, places, strict=True)
        for problem in draft.problems(place, min_agreement, newest)
    ]
    if problems and not force:
        raise ValueError("\n".join([*problems, "Nothing was written."]))
    for problem in problems:
        warnings.warn(f"{problem} Written all the same, as asked.", stacklevel=2)
    for draft, place in zip(drafts, places, strict=True):
        with writing.replacing(place, outputs.LITE, overwrite) as target:
            target.write_bytes(draft.content)
    return tuple(_report(draft, place) for draft, place in zip(drafts, places, strict=True))


def export_tflite(
    model: Any,
    path: str | Path,
    quantize: str | Quantization | None = None,
    calibration: Any = None,
    input_range: Any = None,
    overwrite: bool = False,
    verify: bool = True,
    **options: Any,
) -> ExportReport:
    """Writes one `.tflite` file of builtin operators and checks it; `export` says more and writes several.

    The file appears whole or not at all.

    Args:
        model: as for `export`.
        path: likewise.
        quantize: a single one; None is float32.
        calibration: as for `export`.
        input_range: likewise.
        overwrite: likewise.
        verify: likewise.
        **options: further arguments of `export`, such as `min_agreement`.

    Returns:
        An `ExportReport`: bytes, operators, agreement with the model, latency.

    Raises:
        FileExistsError, ValueError: as `export`.

    Example:
        >>> import tempfile, tf_keras
        >>> model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
        >>> report = export_tflite(model, Path(tempfile.mkdtemp()) / "model.tflite")
        >>> report.ops, report.max_difference < 1e-5
        ({'FULLY_CONNECTED': 1}, True)
    """
    given = {"calibration": calibration, "input_range": input_range, "overwrite": overwrite}
    return export(model, path, quantize, verify=verify, **given, **options)[0]


def _refuse(
    ways: Sequence[Quantization],
    min_agreement: float,
    adjust: Sequence[str],
    float_layers: int,
    calibration: Any,
) -> None:
    """Refuses arguments that contradict each other or are out of their range."""
    if not 0 <= min_agreement <= 1:
        raise ValueError(f"min_agreement is {min_agreement}, but it is a share in [0, 1].")
    if unknown := [name for name in adjust if name not in ADJUSTMENTS]:
        raise ValueError(f"adjust holds {unknown}, but there are {list(ADJUSTMENTS)}.")
    calibrated = [way for way in ways if way.calibrated]
    if float_layers and any(way.io != "float32" for way in calibrated):
        raise ValueError(
            "float_layers is for quantize='int8_float32': layers stay in float32 where inputs and outputs do."
        )
    if calibration is not None and not calibrated:
        raise ValueError("calibration only serves quantize='int8'. Leave it out, or quantize so.")


def _beside(path: Path, name: str) -> Path:
    """`small.tflite` and `int8` give `small.int8.tflite`."""
    return path.with_name(f"{path.name.removesuffix('.tflite')}.{name}.tflite")


def _report(draft: Draft, place: Path) -> ExportReport:
    """What is told of a file once it is written."""
    times = run_times(draft.content)
    return ExportReport(
        str(place),
        None if draft.way.name == "float32" else draft.way.name,
        len(draft.content),
        draft.ops,
        draft.difference,
        float(np.median(times)),
        draft.agreement,
        draft.num_held_out,
        draft.decibels,
        tuple(draft.layers),
        dict(draft.adjusted),
        describe(draft.content, str(place)),
        draft.mediapipe,
        (float(np.percentile(times, 5)), float(np.percentile(times, 95))),
    )


def measure_latency(
    file: str | Path | bytes, num_threads: int = 1, min_runs: int = 20, seconds: float = 0.3
) -> float:
    """Median time of one inference of one input, in milliseconds; arguments as for `run_times`."""
    return float(np.median(run_times(file, num_threads, min_runs, seconds)))


def run_times(
    file: str | Path | bytes, num_threads: int = 1, min_runs: int = 20, seconds: float = 0.3
) -> list[float]:
    """Times of inferences of one input each, in milliseconds.

    Args:
        file: the path of a `.tflite` file, or its content.
        num_threads: how many threads compute.
        min_runs: how often it runs at least.
        seconds: how long it runs at least.
    """
    content = file if isinstance(file, bytes) else sound(file)
    interpreter = backends.interpreter(content, num_threads)
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
        times.append(1000 * (time.perf_counter() - begin))
    return times
