"""From a model's file to every output: prune, measure before and after, write, report."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.evaluation.evaluate import evaluate
from keras_robust_prune.exporting.quantization import quantization_for
from keras_robust_prune.exporting.report import Pair, Report, accuracies, files
from keras_robust_prune.exporting.source import every_kind
from keras_robust_prune.exporting.tflite import ExportReport, export_tflite
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io import outputs, reading, writing
from keras_robust_prune.keras_io.outputs import Output
from keras_robust_prune.pruning.origin import sha256_of
from keras_robust_prune.pruning.prune import prune
from keras_robust_prune.pruning.report import Measured, measure
from keras_robust_prune.pruning.report import report as page_of
from keras_robust_prune.pruning.result import PruningResult
from keras_robust_prune.verify.certificate import Certificate, certify

# Inputs on which int8 ranges are measured.
INT8_INPUTS = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a job did; prints as the report and what was written.

    Attributes:
        result: of pruning.
        report: everything that was measured.
        written: the paths of all that was written.
        certificate: what was proven of both networks, if it was asked for.
    """

    result: PruningResult
    report: Report
    written: tuple[str, ...]
    certificate: Certificate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Every figure as plain values, ready for JSON."""
        pairs = [[item.to_dict() for item in pair] for pair in self.report.pairs]
        found = {before["name"]: {"before": before, "after": after} for before, after in pairs}
        proven = {} if self.certificate is None else {"certificate": self.certificate.to_dict()}
        written = {"written": list(self.written)}
        return {**self.result.to_dict(), "measured": found, **proven, **written}

    def __str__(self) -> str:
        proven = [] if self.certificate is None else ["", f"Certificate: {self.certificate}", ""]
        written = (f"Written: {path}" for path in self.written)
        return "\n".join(["", str(self.report), *proven, *written])


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of `prune` or `demo`: what goes in, what comes out, what is measured.

    Attributes:
        source: the model's path.
        target: where the smaller model goes.
        options: further arguments of `krp.prune`.
        input_range: the valid inputs.
        tflite: where the `.tflite` file goes, if anywhere.
        quantize: how its numbers are stored; None leaves them float32.
        report: where the page goes, if anywhere.
        labelled: inputs and labels to measure on, if any.
        attacks: what is measured besides accuracy.
        certified: inputs to certify both networks around, and the radius; see `certify`.
        overwrite: whether outputs may replace what is there.
        trust: whether the model's file may run code of its own.
        force: whether a `.tflite` file is written that agrees too little with its model.
        command: the command line that asked for it, for the page.
        inputs: paths of what else is read, by how messages call it; outputs may not clash with it.
    """

    source: str
    target: str
    options: Mapping[str, Any]
    input_range: Any = None
    tflite: str | None = None
    quantize: str | None = None
    report: str | None = None
    labelled: tuple[Any, Any] | None = None
    attacks: Sequence[str] = ()
    certified: tuple[Any, float] | None = None
    overwrite: bool = False
    trust: bool = False
    force: bool = False
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    command: str = ""

    def outputs(self) -> list[Output]:
        """Everything that will be written, in the order in which it is named at the end."""
        checkpoint = self.options.get("checkpoint")
        found = [Output("OUT", self.target, outputs.model_kind(self.target))]
        if self.tflite is not None:
            found.append(Output("--tflite", self.tflite, outputs.LITE))
        if self.report is not None:
            found.append(Output("--report", self.report, outputs.PAGE))
        if checkpoint is not None:
            found.append(Output("--checkpoint", checkpoint, outputs.CHECKPOINT, resumed=True))
        return found

    def run(self) -> Outcome:
        """Prunes, measures and writes every output."""
        outputs.check(self.outputs(), {"MODEL": self.source, **self.inputs}, self.overwrite)
        dense = reading.load(self.source, trust=self.trust)
        writing.check_format(backends.keras_name(dense), self.target)
        self.refuse_uncertifiable(dense)
        begin = time.perf_counter()
        result = prune(dense, input_range=self.input_range, **self.options)
        notes = [f"Pruned by '{result.method}' in {time.perf_counter() - begin:.1f} s."]
        notes.append(f"Decided on {result.tier}.")
        notes += [f"Input {spec}." for spec in result.inputs]
        notes += [f"Predicted: {amount}." for amount in result.amounts]
        if result.stopped:
            notes.append(f"Stopped early: {result.stopped}.")
        if result.criterion:
            notes.append(f"Stopping criterion: {result.criterion}.")
        writing.save(result.model, self.target, self.overwrite)
        measured: tuple[Measured, ...] = ()
        if self.labelled is not None:
            shares = None if self.report else ()
            verbose = self.options.get("verbose", 1)
            measured = measure(result, *self.labelled, self.attacks, shares, verbose)
        pairs, exported = self.exported(dense, result.model, result.inputs)
        if measured:
            pairs = (*accuracies(measured[0].evaluation, measured[-1].evaluation), *pairs)
        report = Report(result.comparison, pairs, tuple(notes))
        certificate = self.certificate(result)
        if self.report:
            text = page_of(result, measured, exported, certificate, self.hashes(), self.command)
            with writing.replacing(self.report, outputs.PAGE, self.overwrite) as draft:
                draft.write_text(text, encoding="utf-8")
        written = tuple(str(output.path) for output in self.outputs() if not output.resumed)
        return Outcome(result, report, written, certificate)

    def refuse_uncertifiable(self, dense: Any) -> None:
        """Refuses before the work what would be refused after it."""
        if self.certified is not None:
            x, eps = self.certified
            one = {k: v[:1] for k, v in x.items()} if isinstance(x, Mapping) else x[:1]
            certify(dense, dense, one, eps, self.input_range, verbose=0)

    def certificate(self, result: PruningResult) -> Certificate | None:
        """How far both networks can be apart around the inputs that were given for it, proven."""
        if self.certified is None:
            return None
        x, eps = self.certified
        verbose = self.options.get("verbose", 1)
        return certify(result.dense, result.graph, x, eps, result.inputs, verbose=verbose)

    def seen(self, dense: Any, specs: Sequence[InputSpec]) -> Any:
        """Inputs for int8 to measure activations on: the given ones, or ones made from the network."""
        if self.options.get("calibration") == "weights":
            return "weights"
        given = [spec.examples for spec in specs if spec.examples is not None]
        if given:
            return given
        # What `robust` made is remembered; for other methods fewer will do.
        count = None if self.options.get("method", "robust") == "robust" else INT8_INPUTS
        seed = self.options.get("seed", 0)
        made = every_kind(reading.read(dense), specs, count, seed)
        inputs = [array[:INT8_INPUTS] for array in made]
        return inputs[0] if len(inputs) == 1 else inputs

    def hashes(self) -> list[tuple[str, str]]:
        """The files that went in and came out, each with its SHA-256."""
        files = {"MODEL": self.source, "OUT": self.target, "--tflite": self.tflite}
        return [
            (name, f"{path}, SHA-256 {sha256_of(path)}") for name, path in files.items() if path
        ]

    def exported(
        self, dense: Any, pruned: Any, specs: Sequence[InputSpec]
    ) -> tuple[tuple[Pair, ...], tuple[ExportReport, ...]]:
        """The `.tflite` file that stays, and the dense one's, which does not: bytes, latency, accuracy."""
        if self.tflite is None:
            return (), ()
        verbose = self.options.get("verbose", 1)
        options: dict[str, Any] = {"quantize": self.quantize, "input_range": specs}
        options["verbose"] = verbose
        if quantization_for(self.quantize).calibrated:
            options["calibration"] = self.seen(dense, specs)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dense.tflite"
            before = export_tflite(dense, path, min_agreement=0.0, **options)
            options |= {"overwrite": self.overwrite, "force": self.force}
            after = export_tflite(pruned, self.tflite, **options)
            reports = dataclasses.replace(before, path="dense, not kept"), after
            if self.labelled is None:
                return files(before, after), reports
            found = [
                evaluate(file, *self.labelled, verbose=verbose) for file in (path, self.tflite)
            ]
        pairs = (*accuracies(found[0], found[1], of=".tflite"), *files(before, after))
        return pairs, reports
