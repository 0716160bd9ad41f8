"""Real inputs, wherever they lie: arrays, mappings by input name, files, folders of pictures, datasets."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune import memory
from keras_robust_prune.inputs.pictures import load_pictures
from keras_robust_prune.inputs.spec import DEFAULT_ORIGIN, InputSpec, Shape, fits

# No more are kept, and no more bytes than memory.EXAMPLES: a dataset may go on for ever, and pictures of 224 x 224
# fill a gigabyte by the thousand.
MOST = 12_000
LABELS = ("y", "y_test", "labels")


def with_examples(
    specs: Sequence[InputSpec], source: Any, shapes: Sequence[Shape] = ()
) -> tuple[InputSpec, ...]:
    """Specs that hold real inputs.

    A range that is not given becomes the examples' own where they leave [0, 1].

    Args:
        specs: of a network's inputs.
        source: an array `(num, *shape)`, a list or a mapping by name of them for several inputs, the
            path of an `.npy` or `.npz` file or of a folder of pictures, a `tf.data.Dataset` or a generator of
            inputs or batches. Of more than 12,000, or than half a gigabyte, some are taken, evenly over all of
            them; of a dataset and a generator, which are read once and no further, the first.
        shapes: the inputs' shapes with open lengths as None; the examples decide them.

    Raises:
        ValueError: there are none, or they are not finite, of another shape or number, or no tokens
            of the network's; all of it at once.

    Warns:
        UserWarning: the examples leave the range that was given.

    Example:
        >>> spec = InputSpec((4, 4, 1), lower=0, upper=255, name="image")
        >>> with_examples([spec], np.zeros((7, 4, 4), "uint8"))[0].examples.shape
        (7, 4, 4, 1)
    """
    open_shapes = shapes or [spec.shape for spec in specs]
    arrays = by_input(
        load(source, specs), [spec.name for spec in specs], open_shapes, "calibration"
    )
    found, problems, most = [], [], most_of(specs)
    for spec, shape, array in zip(specs, open_shapes, arrays, strict=True):
        array = np.asarray(array)
        if shape[-1:] == (1,) and fits(array.shape[1:], shape[:-1]):
            array = array[..., np.newaxis]
        problem = _misfit(array, spec, tuple(shape))
        if problem:
            problems.append(problem)
        else:
            found.append(_holding(spec, spread_over(array, most).astype(np.float32)))
    counts = [len(spec.examples) for spec in found if spec.examples is not None]
    if len(set(counts)) > 1:
        problems.append(f"the inputs have {counts} examples, but each needs as many")
    if problems:
        raise ValueError(f"calibration does not fit the network: {'; '.join(problems)}.")
    return tuple(found)


def load(source: Any, specs: Sequence[InputSpec] = ()) -> Any:
    """What `source` stands for: one array, a list of them, or a mapping by input name.

    Raises:
        ValueError: a path is neither a file of arrays nor a folder of pictures.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.exists():
            raise ValueError(
                f"calibration is {os.fspath(source)!r}, where nothing lies; pass None, 'weights', inputs,"
                " or the path of an .npy or .npz file or of a folder of pictures."
            )
        if path.is_dir():
            if len(specs) != 1:
                raise ValueError(
                    f"'{path}' is a folder of pictures, but the network has {len(specs)} inputs. Pass"
                    " a mapping from their names to arrays, or an .npz file."
                )
            return load_pictures(path, specs[0], most_of(specs))
        return load_arrays(path)
    if hasattr(source, "as_numpy_iterator"):
        return _gathered(source.as_numpy_iterator(), specs)
    if isinstance(source, Iterator):
        return _gathered(source, specs)
    return source


def most_of(specs: Sequence[InputSpec]) -> int:
    """How many examples are kept at most: 12,000, or as many as half a gigabyte holds.

    Example:
        >>> most_of([InputSpec((224, 224, 3))]), most_of([InputSpec((28, 28, 1))])
        (891, 12000)
    """
    size = 4 * sum(int(np.prod([length or 1 for length in spec.shape])) for spec in specs)
    return int(np.clip(memory.most(memory.EXAMPLES) // max(size, 1), 1, MOST))


def spread_over(array: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, evenly over all of them: files are often sorted by class.

    Example:
        >>> spread_over(np.arange(10), 4).tolist()
        [0, 3, 6, 9]
    """
    if len(array) <= most:
        return array
    return array[np.linspace(0, len(array) - 1, most).round().astype(int)]


def load_arrays(path: str | Path) -> Any:
    """The array of an `.npy` file, `x` of an `.npz` file, or its arrays by input name.

    Raises:
        ValueError: it is no such file.
    """
    with _opened(path) as loaded:
        if isinstance(loaded, np.ndarray):
            return loaded
        arrays = {
            name: loaded[name] for name in loaded if name not in (*LABELS, "x_train", "y_train")
        }
    return next(iter(arrays.values())) if set(arrays) in ({"x"}, {"x_test"}) else arrays


def load_labelled(path: str | Path) -> tuple[Any, np.ndarray]:
    """Inputs and labels of an `.npz` file: `x` and `y`, or `x_test` and `y_test`, or inputs by name and `y`.

    Raises:
        ValueError: it holds no labels, or no inputs.
    """
    with _opened(path) as loaded:
        names = set() if isinstance(loaded, np.ndarray) else set(loaded)
        label = next((name for name in LABELS if name in names), None)
        if label is None or not names - {*LABELS, "x_train", "y_train"}:
            raise ValueError(
                f"--data: {path} has no arrays x and y. Write it with"
                " np.savez(path, x=inputs, y=labels)."
            )
        return load_arrays(path), loaded[label]


def load_range(text: str | None) -> Any:
    """Two numbers, or the arrays of a file: `lower` and `upper`, or `NAME.lower` and so on by input; None stays None.

    Raises:
        ValueError: the text is neither.

    Example:
        >>> load_range("0,255")
        (0.0, 255.0)
    """
    if text is None:
        return None
    if text.endswith(".npz"):
        with _opened(text) as arrays:
            if {"lower", "upper"} <= set(arrays):
                return arrays["lower"], arrays["upper"]
            inputs = {name.rpartition(".")[0] for name in arrays} - {""}
            if inputs and {f"{k}.{end}" for k in inputs for end in ("lower", "upper")} == set(
                arrays
            ):
                return {k: (arrays[f"{k}.lower"], arrays[f"{k}.upper"]) for k in sorted(inputs)}
        raise ValueError(f"--input_range: {text} lacks one of the arrays lower and upper.")
    try:
        lower, upper = map(float, text.split(","))
    except ValueError as error:
        raise ValueError(
            f"--input_range is {text!r}: give two numbers such as 0,255, or an .npz file with the"
            " arrays lower and upper."
        ) from error
    return lower, upper


def by_input(
    given: Any, names: Sequence[str], shapes: Sequence[Shape], what: str = "x"
) -> list[Any]:
    """The arrays of a network's inputs in its order, given as array, list or mapping by name.

    Raises:
        ValueError: an input is missing, or there are more.
    """
    if isinstance(given, Mapping):
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(
                f"{what} has the inputs {sorted(given)}, but the network also takes {missing}. Give"
                f" all of {list(names)}."
            )
        return [given[name] for name in names]
    arrays = [given]
    if isinstance(given, (list, tuple)) and (
        len(names) > 1 or (given and np.ndim(given[0]) > len(shapes[0]))
    ):
        arrays = list(given)
    if len(arrays) != len(names):
        raise ValueError(
            f"{what} has {len(arrays)} arrays, but the network takes {len(names)} inputs:"
            f" {list(names)}. Give a list in this order or a mapping from these names."
        )
    return arrays


def _holding(spec: InputSpec, examples: np.ndarray) -> InputSpec:
    """The spec with its examples, whose shape is its own, and whose range too if none was given."""
    spec = dataclasses.replace(spec, shape=examples.shape[1:], examples=examples)
    axis = 0 if examples.ndim == 2 else None  # columns of a table have scales of their own
    low, high = examples.min(axis), examples.max(axis)
    slack = 1e-3 * (spec.upper - spec.lower)
    inside = (low >= spec.lower - slack).all() and (high <= spec.upper + slack).all()
    if inside or spec.num_tokens:
        return spec
    if spec.origin == DEFAULT_ORIGIN:
        high = low + 1 if (low == high).all() else high
        return dataclasses.replace(spec, lower=low, upper=high, origin="of the examples")
    warnings.warn(
        f"The examples of '{spec.name}' reach from {low.min():g} to {high.max():g}, but its range is"
        f" {spec.ends} ({spec.origin}). Scale them as the network takes its inputs, or pass the range"
        " that they have as input_range.",
        stacklevel=5,
    )
    return spec


def _misfit(array: np.ndarray, spec: InputSpec, shape: Shape) -> str:
    if array.dtype.kind not in "iufb":
        return f"'{spec.name}' is given {array.dtype}, not numbers"
    if not fits(array.shape[1:], shape):
        return f"'{spec.name}' takes {shape}, given are inputs of {array.shape[1:]}"
    if not len(array):
        return f"'{spec.name}' is given no input"
    if not np.isfinite(array).all():
        return f"'{spec.name}' is given inputs that hold NaN or infinity"
    if spec.num_tokens and (array.min() < 0 or array.max() >= spec.num_tokens):
        ends = f"{array.min():g} to {array.max():g}"
        return f"'{spec.name}' takes tokens below {spec.num_tokens}, given are {ends}"
    return ""


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """The array of an `.npy` file, or an `.npz` file whose arrays are read within the block."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"'{path}' is no file. Write one with np.savez(path, x=x).")
    with open(path, "rb") as file:
        try:
            loaded = np.load(file)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"'{path}' is no .npy or .npz file of numbers: {error}. Write it with np.savez(path, x=x)."
            ) from error
        try:
            yield loaded
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(
                f"'{path}' is damaged: {error}. Write or copy it once more."
            ) from error


def _gathered(batches: Iterator[Any], specs: Sequence[InputSpec]) -> list[Any]:
    """The first inputs of a dataset or a generator, batched or not, with labels or without."""
    most = most_of(specs)
    rows: list[list[np.ndarray]] = [[] for _ in specs]
    names, shapes = [spec.name for spec in specs], [spec.shape for spec in specs]
    seen = 0
    for item in batches:
        first = item[0] if isinstance(item, tuple) else item
        arrays = by_input(first, names, shapes, "calibration")
        for column, array, spec in zip(rows, arrays, specs, strict=True):
            array = np.asarray(array)
            column.append(array if array.ndim > len(spec.shape) else array[None])
        seen += len(rows[0][-1])
        if seen >= most:
            break
    if not seen:
        raise ValueError("calibration is a dataset without elements.")
    return [np.concatenate(column)[:most] for column in rows]
