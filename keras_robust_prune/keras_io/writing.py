"""Files and folders that appear whole or not at all: written beside their place, made durable, then renamed.

Several runs may write to one folder and even to one path: every draft has a name of its own, and places are taken one
at a time, so whatever is at a path is the whole output of one of them. Drafts that killed runs left are removed by the
next run that writes to the folder; what a run was killed over while replacing it is put back.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shutil
import socket
import threading
import uuid
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from keras_robust_prune import backends
from keras_robust_prune.keras_io.outputs import (
    HDF5,
    SAVED_MODEL,
    Kind,
    Output,
    check,
    model_kind,
    refuse_existing,
)

# Windows has no such locks: there the last of several runs wins.
fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None

# Keras marks the model that it saves, so threads save one after the other.
_SAVING = threading.Lock()


@contextlib.contextmanager
def replacing(path: str | Path, kind: Kind, overwrite: bool = False) -> Iterator[Path]:
    """Gives a path to write a file or folder to, which becomes `path` once the block is through.

    If the block is left by an exception, an interruption too, nothing is left behind and what was at `path` stays.

    Args:
        path: the place; its folder is made if need be. A link stays a link, and what it points to is written.
        kind: what is written.
        overwrite: whether something of that kind may be replaced.

    Raises:
        FileExistsError: something is there and may not be replaced.
        OSError: it could not be written.

    Example:
        >>> import tempfile
        >>> from keras_robust_prune.keras_io.outputs import PAGE
        >>> place = Path(tempfile.mkdtemp()) / "page.html"
        >>> with replacing(place, PAGE) as draft:
        ...     _ = draft.write_text("all of it")
        >>> place.read_text()
        'all of it'
    """
    output = Output("the output", path, kind)
    check([output], overwrite=overwrite)
    place = Path(os.path.realpath(path))
    draft = place.with_name(_name("part", place.name))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _tidy(place.parent)
        yield draft
        _make_durable(draft)
        with _one_at_a_time(place.parent):
            refuse_existing([output], overwrite)
            _take(place, draft)
    except FileExistsError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"'{path}' was not written ({reason}). What was there before is whole."
        ) from error
    finally:
        _remove(draft)


def save(model: Any, path: str | Path, overwrite: bool = False) -> None:
    """Saves a model whole or not at all, in a form that `load` reads.

    Args:
        model: of tf_keras or Keras 3.
        path: ends in `.keras` or `.h5`; any other name is a SavedModel folder, which only tf_keras writes.
        overwrite: whether a model there may be replaced.

    Raises:
        FileExistsError: something is there and may not be replaced.
        OSError: it could not be written.
        ValueError: a model of Keras 3 is to become a SavedModel, or the name fits no model.
    """
    check_format(backends.keras_name(model), path)
    kind = model_kind(path)
    with replacing(path, kind, overwrite) as draft, _SAVING, warnings.catch_warnings():
        # Both Keras versions advise against .h5; a file that is named so is meant so.
        warnings.simplefilter("ignore", UserWarning)
        try:
            if kind is HDF5:
                draft.write_bytes(_hdf5(model))
            elif kind is SAVED_MODEL:
                model.save(draft, save_format="tf")
            elif backends.keras_name(model) == "tf_keras":
                # By the name alone it would write HDF5 from the second time on in a thread that is not the main one.
                model.save(draft, save_format="keras_v3")
            else:
                model.save(draft)
        except (OSError, ValueError, TypeError):
            raise
        except Exception as error:  # TensorFlow has errors of its own for a full disk
            raise OSError(_told(error, draft)) from error


def _told(error: Exception, draft: Path) -> str:
    """What TensorFlow says, without its own names and ours."""
    text = re.sub(r"\{\{.*?\}\}", "", str(error)).replace(f"{draft}", "")
    return text.strip(" ;:/").partition("\n")[0][-200:]


def check_format(keras: str, path: str | Path) -> None:
    """Raises if the Keras of that name cannot write such a file.

    Raises:
        ValueError: a model of Keras 3 is to become a SavedModel, which it could not load as layers again.
    """
    if keras == "keras" and model_kind(path) is SAVED_MODEL:
        raise ValueError(
            f"'{path}' would be a SavedModel, but Keras 3 writes none that holds layers. Name the"
            f" file '{Path(path).with_suffix('.keras')}'."
        )


class _InMemory(h5py.File):
    """An HDF5 file in memory; by its name Keras takes it for one."""

    def __str__(self) -> str:
        return "model.h5"


def _hdf5(model: Any) -> bytes:
    """A model as an `.h5` file's content. HDF5 itself does not survive a full disk."""
    content = io.BytesIO()
    with _InMemory(content, "w") as file:
        if backends.keras_name(model) == "tf_keras":
            model.save(file, save_format="h5")
        else:
            model.save(file)
    return content.getvalue()


def _make_durable(draft: Path) -> None:
    """Has the disk hold what was written before anything is renamed."""
    folders = [draft] if draft.is_dir() else []
    for found in [draft, *draft.rglob("*")] if folders else [draft]:
        descriptor = os.open(found, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError:
            if not found.is_dir():  # not every system does this for folders
                raise
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Holds a folder against other runs and threads, as far as the system can."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network drives have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take(place: Path, draft: Path) -> None:
    """Puts a draft into its place; what was there is gone only once it is."""
    if not place.is_dir():
        draft.replace(place)
        return
    old = place.with_name(_name("old", place.name))
    place.rename(old)
    try:
        draft.rename(place)
    except BaseException:
        old.rename(place)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# Names of drafts: the machine and the process that write them, so that those of killed ones are known.

_DRAFT = re.compile(r"\.krp-([0-9a-f]+)-(\d+)-(\d+)-(part|old)-[0-9a-f]+-(.+)")


def _name(role: str, name: str) -> str:
    """A name that no other draft has. The end of the name stays: Keras chooses the format by it."""
    pid = os.getpid()
    return f".krp-{_machine()}-{pid}-{_begun(pid)}-{role}-{uuid.uuid4().hex[:12]}-{name}"


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):x}"


def _begun(pid: int) -> int:
    """When a process began, as the system counts; 0 where it does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The program's name, in brackets, may hold anything.
    return int(text.rpartition(")")[2].split()[19])


def _is_alive(pid: int, begun: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return _begun(pid) == begun


def _tidy(folder: Path) -> None:
    """Removes drafts of killed runs, and puts back what they were about to replace."""
    for left in folder.glob(".krp-*"):
        match = _DRAFT.fullmatch(left.name)
        if match is None or match[1] != _machine() or _is_alive(int(match[2]), int(match[3])):
            continue
        with contextlib.suppress(OSError), _one_at_a_time(folder):
            place = folder / match[5]
            if match[4] == "old" and not os.path.lexists(place):
                left.rename(place)
            else:
                _remove(left)
