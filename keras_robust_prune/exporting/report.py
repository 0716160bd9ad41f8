"""What pruning did, in text: costs layer by layer, and what was measured before and after."""

from __future__ import annotations

import dataclasses

from keras_robust_prune.evaluation.results import Evaluation
from keras_robust_prune.exporting.tflite import ExportReport
from keras_robust_prune.reporting.measurement import Measurement
from keras_robust_prune.reporting.tables import Table
from keras_robust_prune.surgery.summary import Comparison

Pair = tuple[Measurement, Measurement]
HEADER = ("measured", "before", "after")


@dataclasses.dataclass(frozen=True)
class Report:
    """What pruning did to one network; prints as tables.

    Attributes:
        comparison: costs layer by layer.
        pairs: what was measured before and after.
        notes: sentences that stand below, e.g. which inputs the decisions were taken on.
    """

    comparison: Comparison
    pairs: tuple[Pair, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [str(self.comparison)]
        if self.pairs:
            parts.append(str(Table(HEADER, self._rows())))
        if self.notes:
            parts.append("\n".join(self.notes))
        return "\n\n".join(parts)

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(before.name, before.text, after.text) for before, after in self.pairs]


def accuracies(before: Evaluation, after: Evaluation, of: str = "") -> tuple[Pair, ...]:
    """Every share that two evaluations both measured, of all outputs at once.

    Args:
        before: of the dense network, or its file.
        after: of the pruned one.
        of: what stands before the names.

    Example:
        >>> import numpy as np
        >>> from keras_robust_prune.evaluation.results import Evaluation, Measure
        >>> def found(*holds):
        ...     return Evaluation("toy", 2, (Measure("class", "clean", "clean", np.array(holds)),))
        >>> [(one.name, one.text, two.text) for one, two in accuracies(found(1, 1), found(1, 0))]
        [('accuracy', '1.000', '0.500')]
    """
    earlier = {item.name: item for item in before.overall}

    def named(item: Measurement) -> Measurement:
        name = item.name if item.name == "accuracy" else f"{item.name} accuracy"
        return dataclasses.replace(item, name=f"{of} {name}".strip())

    return tuple(
        (named(earlier[item.name]), named(item)) for item in after.overall if item.name in earlier
    )


def files(before: ExportReport, after: ExportReport) -> tuple[Pair, ...]:
    """Bytes and latency of two `.tflite` files.

    Example:
        >>> dense = ExportReport("dense.tflite", None, 2000, {}, 0.0, 0.25)
        >>> pair = files(dense, dataclasses.replace(dense, num_bytes=1000, latency_ms=0.125))[0]
        >>> [item.text for item in pair]
        ['2,000', '1,000']
    """

    def size(file: ExportReport) -> Measurement:
        return Measurement(".tflite bytes", file.num_bytes, measured_on=file.path, unit="bytes")

    def latency(file: ExportReport) -> Measurement:
        name = "ms per input, one thread"
        return Measurement(name, file.latency_ms, measured_on=file.path, unit="ms")

    return (size(before), size(after)), (latency(before), latency(after))
