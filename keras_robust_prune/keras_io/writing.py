"""Files and folders that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_robust_prune import backends


def refuse_existing(paths: Iterable[str | Path]) -> None:
    """Raises one error for every output that is there already.

    Raises:
        FileExistsError: naming all of them.
    """
    there = [str(path) for path in paths if Path(path).exists()]
    if there:
        raise FileExistsError(
            f"{', '.join(there)}: there already. Choose another name, or allow to overwrite."
        )


@contextlib.contextmanager
def replacing(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Gives a path to write a file or folder to, which becomes `path` once the block is through.

    If the block is left by an exception, an interruption too, nothing is left behind and what was at `path` stays.

    Args:
        path: the place; its folder is made if need be.
        overwrite: whether something there may be replaced.

    Raises:
        FileExistsError: something is there and may not be replaced.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "result.txt"
        >>> with replacing(place) as draft:
        ...     _ = draft.write_text("all of it")
        >>> place.read_text()
        'all of it'
    """
    place = Path(path)
    if not overwrite:
        refuse_existing([place])
    place.parent.mkdir(parents=True, exist_ok=True)
    # The end of the name stays: Keras chooses the format by it.
    draft = place.with_name(f".{os.getpid()}-part-{place.name}")
    old = place.with_name(f".{os.getpid()}-old-{place.name}")
    try:
        yield draft
        if place.is_dir():
            place.rename(old)
        try:
            draft.replace(place)
        except BaseException:
            if old.exists():
                old.rename(place)
            raise
    finally:
        for left in (draft, old):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)


def save(model: Any, path: str | Path, overwrite: bool = False) -> None:
    """Saves a model whole or not at all, in a form that `load` reads.

    Args:
        model: of tf_keras or Keras 3.
        path: ends in `.keras` or `.h5`; any other name is a SavedModel folder, which only tf_keras writes.
        overwrite: whether something there may be replaced.

    Raises:
        FileExistsError: something is there and may not be replaced.
        ValueError: a model of Keras 3 is to become a SavedModel.
    """
    check_format(backends.keras_name(model), path)
    with replacing(path, overwrite) as draft, warnings.catch_warnings():
        # Both Keras versions advise against .h5; whoever names a file so knows.
        warnings.simplefilter("ignore", UserWarning)
        if Path(path).suffix in SUFFIXES:
            model.save(draft)
        else:
            model.save(draft, save_format="tf")


SUFFIXES = (".keras", ".h5", ".hdf5")


def check_format(keras: str, path: str | Path) -> None:
    """Raises if the Keras of that name cannot write such a file.

    Raises:
        ValueError: a model of Keras 3 is to become a SavedModel, which it could not load as layers again.
    """
    if keras == "keras" and Path(path).suffix not in SUFFIXES:
        raise ValueError(
            f"'{path}' would be a SavedModel, but Keras 3 writes none that holds layers. Name the"
            f" file '{Path(path).with_suffix('.keras')}'."
        )
