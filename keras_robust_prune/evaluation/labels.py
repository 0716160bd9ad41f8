"""Which question each output answers, found from the labels given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.evaluation.adapters import ModelAdapter
from keras_robust_prune.evaluation.classifier import Head


def heads(
    adapter: ModelAdapter, widths: Sequence[int], y: Any, num_inputs: int
) -> tuple[Head, ...]:
    """One head for each output that has labels; for several yes-or-no labels one each.

    Args:
        adapter: the network.
        widths: how many units each output has.
        y: labels: for one output class numbers `(n,)` or `(n, 1)`, one-hot rows `(n, classes)`, or 0 and 1 for each
            unit of a sigmoid output; for several outputs a list in their order (None leaves one out) or a mapping from
            their names.
        num_inputs: n.

    Raises:
        ValueError: labels do not fit the outputs; all problems of all outputs together.
    """
    found: list[Head] = []
    problems = []
    for output, labels in enumerate(_by_output(adapter, y)):
        if labels is None:
            continue
        try:
            found += _heads(
                adapter.output_names[output],
                output,
                adapter.activations[output],
                widths[output],
                np.asarray(labels),
                num_inputs,
            )
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    if not found:
        raise ValueError(
            f"y names none of the outputs {list(adapter.output_names)}. Give labels for at least"
            " one."
        )
    return tuple(found)


def _by_output(adapter: ModelAdapter, y: Any) -> list[Any]:
    names = adapter.output_names
    if isinstance(y, Mapping):
        unknown = [name for name in y if name not in names]
        if unknown:
            raise ValueError(f"y has labels for {unknown}, but the outputs are {list(names)}.")
        return [y.get(name) for name in names]
    if len(names) == 1:
        single = isinstance(y, (list, tuple)) and len(y) == 1 and np.ndim(y[0]) > 0
        return [y[0] if single else y]
    if not isinstance(y, (list, tuple)) or len(y) != len(names):
        raise ValueError(
            f"The network has {len(names)} outputs, {list(names)}, so y is a list of as many arrays"
            " of labels (None leaves an output out) or a mapping from these names."
        )
    return list(y)


def _heads(
    name: str, output: int, activation: str, width: int, labels: np.ndarray, num_inputs: int
) -> list[Head]:
    if labels.ndim == 0 or len(labels) != num_inputs:
        raise ValueError(
            f"y for {name!r} has shape {labels.shape}, but x has {num_inputs} inputs; one label"
            " each is needed."
        )
    labels = labels.reshape(num_inputs, -1)
    whole = labels.astype(np.int64)
    if not np.array_equal(whole, labels):
        raise ValueError(
            f"y for {name!r} holds {labels.dtype} values that are no whole numbers. Accuracy needs"
            " classes; leave outputs that are no classes out of y."
        )
    if whole.shape[1] not in (1, width):
        raise ValueError(
            f"y for {name!r} has {whole.shape[1]} columns, but the output has {width} units. Give"
            " class numbers (n,) or one column for each unit."
        )
    one_hot = whole.min(initial=0) >= 0 and (whole.sum(1) == 1).all()
    if whole.shape[1] > 1 and one_hot:
        whole = whole.argmax(1)[:, np.newaxis]
    elif whole.shape[1] > 1:
        _check_range(name, whole, 2)
        return [Head(f"{name}[{k}]", output, activation, whole[:, k], k, 2) for k in range(width)]
    classes = max(width, 2)
    _check_range(name, whole, classes)
    return [Head(name, output, activation, whole[:, 0], None, classes)]


def _check_range(name: str, labels: np.ndarray, num_classes: int) -> None:
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(
            f"y for {name!r} holds classes from {labels.min()} to {labels.max()}, but the output"
            f" knows 0 to {num_classes - 1}."
        )
