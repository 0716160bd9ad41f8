"""Files beside each other: what fits on the phone, how fast it is, and what it still withstands, in one table."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.evaluate import evaluate
from keras_robust_prune.evaluation.sound import sound
from keras_robust_prune.reporting.measurement import Measurement
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.reporting.tables import Table

THREADS = (1, 2)


@dataclasses.dataclass(frozen=True)
class FileComparison:
    """What was measured of several files. Prints as a table, a file in a column; `to_dict()` gives plain values.

    Attributes:
        files: their paths.
        measurements: of each file, in the same order.
    """

    files: tuple[str, ...]
    measurements: tuple[tuple[Measurement, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        return {
            path: [item.to_dict() for item in found]
            for path, found in zip(self.files, self.measurements, strict=True)
        }

    def __str__(self) -> str:
        rows = [
            (items[0].name, *(_cell(item) for item in items))
            for items in zip(*self.measurements, strict=True)
        ]
        return str(Table(("", *(Path(path).name for path in self.files)), rows))


def compare_files(
    files: Sequence[str | os.PathLike[str]],
    x: Any = None,
    y: Any = None,
    *,
    attacks: str | Iterable[str] = (),
    corruptions: str | Iterable[str] = (),
    reference: Any = None,
    surrogates: Sequence[Any] = (),
    input_range: Any = None,
    runs: int = 200,
    seed: int = 0,
    trust: bool = False,
    verbose: int = 1,
) -> FileComparison:
    """Measures `.tflite` files: bytes, milliseconds in turns, and what `evaluate` finds.

    Args:
        files: paths; the first is what the others are usually compared with.
        x: inputs; None measures bytes and times alone.
        y: labels.
        attacks: as for `evaluate`.
        corruptions: likewise.
        reference: a Keras model, or the path of one: agreement is with it.
        surrogates: the Keras models that the files were made of, or their paths, one per file: attacks that follow
            gradients follow those; by default the reference's, which tells less of a pruned file.
        input_range: valid inputs; None takes what the reference says, else [0, 1].
        runs: how often each file runs for its time, in turns with the others.
        seed: of everything that is drawn.
        trust: whether the reference's file may run code of its own.
        verbose: 0 is silent; 1 says how far the work is if it takes long.

    Returns:
        A `FileComparison`.

    Raises:
        ValueError: a file is none, there are not as many surrogates, or `evaluate` refuses.

    Example:
        >>> import tempfile, tf_keras
        >>> import keras_robust_prune as krp
        >>> model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
        >>> path = Path(tempfile.mkdtemp()) / "model.tflite"
        >>> _ = krp.export_tflite(model, path)
        >>> [item.name for item in compare_files([path], runs=5).measurements[0]]
        ['bytes', 'ms, 1 thread', 'ms, 2 threads']
    """
    paths = [os.fspath(path) for path in files]
    if surrogates and len(surrogates) != len(paths):
        raise ValueError(
            f"There are {len(surrogates)} surrogates for {len(paths)} files. Give one per file, in their order."
        )
    found: list[list[Measurement]] = [
        [Measurement("bytes", os.path.getsize(path), measured_on=path, unit="bytes")]
        for path in paths
    ]
    for threads in THREADS:
        name = f"ms, {threads} thread{'s' * (threads > 1)}"
        for items, path, times in zip(
            found, paths, in_turns(paths, threads, runs, verbose), strict=True
        ):
            median, low, high = np.percentile(times, (50, 5, 95))
            items.append(
                Measurement(name, float(median), float(low), float(high), runs, path, unit="ms")
            )
    if x is not None:
        followed = surrogates or [None] * len(paths)
        for items, path, surrogate in zip(found, paths, followed, strict=True):
            evaluation = evaluate(
                path,
                x,
                y,
                attacks=attacks,
                corruptions=corruptions,
                reference=reference,
                surrogate=surrogate,
                input_range=input_range,
                seed=seed,
                trust=trust,
                verbose=verbose,
            )
            items += evaluation.overall
            if corruptions:
                mean = evaluation.corruption_accuracy
                items.append(Measurement("corruptions, mean", mean, measured_on=path))
    return FileComparison(tuple(paths), tuple(map(tuple, found)))


def in_turns(
    paths: Sequence[str], num_threads: int, runs: int, verbose: int = 0
) -> list[list[float]]:
    """Milliseconds of every run of every file; the files take turns, so that all meet the same disturbances."""
    interpreters = [backends.interpreter(sound(path), num_threads) for path in paths]
    for interpreter in interpreters:
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    times: list[list[float]] = [[] for _ in paths]
    for _ in Progress.over(f"times, {num_threads} threads", range(runs), verbose):
        for interpreter, mine in zip(interpreters, times, strict=True):
            begin = time.perf_counter()
            interpreter.invoke()
            mine.append(1000 * (time.perf_counter() - begin))
    return times


def _cell(item: Measurement) -> str:
    if item.interval is None:
        return item.text
    low, high = (dataclasses.replace(item, number=end).text for end in item.interval)
    return f"{item.text} [{low}, {high}]"
