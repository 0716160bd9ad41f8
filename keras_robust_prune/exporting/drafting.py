"""A `.tflite` file before it is written: converted, compared with its model, and what speaks against it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.adapters import KerasAdapter
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.exporting.checking import (
    LAYER_INPUTS,
    LayerNoise,
    agreement,
    decibels,
    every_tensor,
    layer_noise,
)
from keras_robust_prune.exporting.converting import convert
from keras_robust_prune.exporting.correcting import corrected
from keras_robust_prune.exporting.describing import describe
from keras_robust_prune.exporting.metadata import (
    Metadata,
    mediapipe_problems,
    renamed,
    with_metadata,
)
from keras_robust_prune.exporting.quantization import Quantization
from keras_robust_prune.exporting.runtimes import PER_CHANNEL_DENSE, as_numbers
from keras_robust_prune.exporting.source import NUM_POINTS, Source, range_points

# A float32 file that differs by more than this share of the output scale does not compute the model.
LARGEST_DIFFERENCE = 1e-3
EQUALIZATION, BIAS, FLOAT = "equalization", "bias", "float layers"
ADJUSTMENTS = (EQUALIZATION, BIAS)
# An adjustment that gains less on held-out inputs is left out; where it makes the file faster, if it loses more.
LEAST_DECIBELS = 0.1
# What stays below it on every input has no scale in int8.
DEAD = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
    """A file that is not written yet, and what was found out about it."""

    way: Quantization
    content: bytes
    ops: dict[str, int]
    difference: float | None = None
    agreement: float | None = None
    num_held_out: int = 0
    decibels: float | None = None
    layers: Sequence[LayerNoise] = ()
    adjusted: Mapping[str, float] = dataclasses.field(default_factory=dict)
    mediapipe: tuple[str, ...] | None = None

    def worded(self, source: Source, metadata: Metadata | None, names: dict[str, str]) -> Draft:
        """The same file with names for its inputs and outputs, and with metadata."""
        content = renamed(self.content, names) if names else self.content
        if metadata is None:
            return dataclasses.replace(self, content=content)
        kinds = {"softmax": "probability", "sigmoid": "probability", "linear": "value"}
        score = metadata.score or kinds[source.adapter.activations[0]]
        metadata = dataclasses.replace(metadata, score=score)
        described = describe(content, metadata.name)
        bounds = source.bounds()
        old = {new: name for name, new in names.items()}
        ranges = [
            bounds.get(old.get(port.name, port.name), next(iter(bounds.values())))
            for port in described.inputs
        ]
        return dataclasses.replace(
            self,
            content=with_metadata(content, metadata, ranges),
            mediapipe=tuple(mediapipe_problems(described, metadata)),
        )

    def problems(
        self, place: Path, min_agreement: float, newest: tuple[int, ...] | None
    ) -> list[str]:
        """Why the file should not be written."""
        found = []
        if (
            self.way.name == "float32"
            and self.difference is not None
            and not self.difference <= LARGEST_DIFFERENCE
        ):
            found.append(
                f"'{place}' differs from the model by {self.difference:.1e} of its outputs' scale."
                " Look for values near the end of float32's range in the model, or pass"
                " verify=False to have the file all the same."
            )
        if self.agreement is not None and self.agreement < min_agreement:
            worst = "".join(f" '{item.layer}' ({item.decibels:.1f} dB)" for item in self.layers[:2])
            found.append(
                f"'{place}' ({self.way.name}) says what the model says on {self.agreement:.1%} of"
                f" {self.num_held_out} held-out inputs, and {min_agreement:.1%} are asked for."
                + (f" Most is lost in{worst}." if worst else "")
                + " Check that input_range is the model's, give real inputs as calibration, use"
                " quantize='float16' or 'dynamic', or have the file all the same with force=True"
                " (--force)."
            )
        described = describe(self.content, str(place))
        if newest is not None and not (
            described.runtime and as_numbers(described.runtime)[: len(newest)] <= newest
        ):
            needing = [
                f"{op.name} {op.version}"
                for op in described.operators
                if not op.runtime or as_numbers(op.runtime)[: len(newest)] > newest
            ]
            dense = described.runtime == PER_CHANNEL_DENSE and not needing
            found.append(
                f"'{place}' ({self.way.name}) needs TensorFlow Lite"
                f" {described.runtime or 'of an unknown version'}, newer than max_runtime: "
                + ("int8 Dense kernels with a scale per output" if dense else ", ".join(needing))
                + ". Use dense_per_tensor=True (--dense_per_tensor), another quantization, or a"
                " newer runtime."
            )
        return found


def with_softmax(model: Any) -> Any:
    """A model whose logits become probabilities.

    Raises:
        ValueError: they are probabilities already.
    """
    kinds = KerasAdapter(model).activations
    if any(kind != "linear" for kind in kinds):
        raise ValueError(
            f"softmax=True is for logits, but the outputs of '{model.name}' end in {kinds}. Leave it out."
        )
    module = backends.module(backends.keras_name(model))
    outputs = [module.layers.Softmax()(output) for output in model.outputs]
    return module.Model(model.inputs, outputs, name=model.name)


def draft_of(
    source: Source,
    way: Quantization,
    dense_per_tensor: bool,
    verify: bool,
    adjust: Sequence[str] = ADJUSTMENTS,
    float_layers: int = 0,
) -> Draft:
    """Converts, adjusts and judges."""
    adapter = source.adapter

    def content_of(given: Source, in_float: Sequence[str] = ()) -> bytes:
        return convert(
            given.model,
            way,
            given.examples() if way.calibrated else (),
            integer_inputs=bool(adapter.integer_inputs),
            dense_per_tensor=dense_per_tensor,
            in_float=in_float,
        )

    reference = source if way.calibrated else source.folded  # int8 has to be equalised, too
    content = content_of(reference)
    if not verify:
        return Draft(way, content, LiteFile(content).ops())
    wanted, _ = adapter.run(source.held_out, NUM_POINTS)
    best = _first_judged(source, way, content, wanted)
    adjusted: dict[str, float] = {}
    layers: Sequence[LayerNoise] = ()
    if way.calibrated:
        best, reference, adjusted = _adjusted(source, adjust, content_of, best, wanted)
        layers = _noise(source, reference, best.content)
    if way.calibrated and float_layers:
        content = content_of(reference, [item.layer for item in layers[:float_layers]])
        if BIAS in adjusted:
            content = _corrected(source, reference, content)
        found = _judged(source, content, wanted)
        adjusted[FLOAT], best = found.decibels - best.decibels, found
        layers = _noise(source, reference, best.content)
    file = best.file
    return Draft(
        way,
        best.content,
        file.ops(),
        difference_on_points(adapter, file, source.input_range),
        agreement(best.shaped, best.found, adapter.activations),
        len(source.held_out),
        best.decibels,
        layers,
        adjusted,
    )


def _adjusted(
    source: Source,
    adjust: Sequence[str],
    content_of: Callable[[Source], bytes],
    best: _Judged,
    wanted: Sequence[np.ndarray],
) -> tuple[_Judged, Source, dict[str, float]]:
    """A calibrated file with what helps it, what it was made of, and how many decibels each gained."""
    reference, gains = source, {}
    if EQUALIZATION in adjust and source.equalized is not None:
        least = LEAST_DECIBELS if source.folded is source else -LEAST_DECIBELS
        with contextlib.suppress(ValueError):  # XNNPACK refuses some scales
            found = _judged(source, content_of(source.equalized), wanted)
            if (gain := found.decibels - best.decibels) >= least:
                best, reference, gains[EQUALIZATION] = found, source.equalized, gain
    if BIAS in adjust:
        found = _judged(source, _corrected(source, reference, best.content), wanted)
        if (gain := found.decibels - best.decibels) >= LEAST_DECIBELS:
            best, gains[BIAS] = found, gain
    return best, reference, gains


def _first_judged(
    source: Source, way: Quantization, content: bytes, wanted: Sequence[np.ndarray]
) -> _Judged:
    """The first file, judged.

    Raises:
        ValueError: it does not run; with why, and the way out.
    """
    try:
        return _judged(source, content, wanted)
    except ValueError as error:
        raise ValueError(_does_not_run(source, way, error)) from error


def _does_not_run(source: Source, way: Quantization, error: ValueError) -> str:
    """Why a file that was made for nothing cannot be had, and the way out."""
    told = f"The {way.name} file of '{source.model.name}' does not run: {error.__cause__ or error}"
    if not way.calibrated:
        return told
    rows = source.held_out[:LAYER_INPUTS]
    tensors = every_tensor(source.float_content, source.layout, rows)
    dead = next((name for name, x in tensors.items() if x.size and np.abs(x).max() < DEAD), None)
    if dead is None:
        return f"{told} Use quantize='float16' or 'dynamic'."
    return (
        f"{told} '{dead}' is 0 on every input that was tried, and kernels have no scale for it. Remove less, check"
        " that input_range is the model's, or use quantize='float16' or 'dynamic'."
    )


def _noise(source: Source, reference: Source, content: bytes) -> Sequence[LayerNoise]:
    """Noise of every layer of a file on held-out inputs, against the float32 file of what it was made of."""
    return layer_noise(reference.float_content, content, source.layout, source.held_out)


def _corrected(source: Source, reference: Source, content: bytes) -> bytes:
    """A file with its biases corrected on the inputs that it was calibrated on."""
    inputs, _ = source.inputs
    return corrected(content, reference.float_content, source.layout, inputs)


class _Judged(NamedTuple):
    """A file, what it says on held-out inputs, and what the model says there."""

    content: bytes
    file: LiteFile
    found: Sequence[np.ndarray]
    shaped: Sequence[np.ndarray]
    decibels: float


def _judged(source: Source, content: bytes, wanted: Sequence[np.ndarray]) -> _Judged:
    file = LiteFile(content, source.layout.names, source.adapter.signature_names)
    found = file(source.held_out, NUM_POINTS)
    shaped = [want.reshape(have.shape) for want, have in zip(wanted, found, strict=True)]
    noise = min(decibels(want, have) for want, have in zip(shaped, found, strict=True))
    return _Judged(content, file, found, shaped, noise)


def difference_on_points(adapter: KerasAdapter, file: LiteFile, input_range: Any) -> float:
    """Largest |file - model| over the largest |model|, the worst of all outputs."""
    rows = range_points(adapter.layout, input_range, NUM_POINTS)
    wanted, _ = adapter.run(rows, NUM_POINTS)
    found = file(rows, NUM_POINTS)
    shares = []
    for want, have in zip(wanted, found, strict=True):
        scale = max(float(np.abs(want).max()), float(np.finfo(np.float32).tiny))
        shares.append(float(np.abs(have.reshape(want.shape) - want).max()) / scale)
    return max(shares)
