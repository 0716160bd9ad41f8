"""What is about to be written, and where: refused before any work if anything foreign would be lost.

Overwriting replaces only what is recognisably an output of the same kind, by its content. What the user's own names
contradict (an output that is also the input, that lies inside another, that ends in another kind's suffix) is told all
at once.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
CHECKPOINT_MAGIC = b"keras_robust_prune checkpoint "
PAGE_MARK = b'<meta name="generator" content="keras_robust_prune">'
SAVED_MODEL_FILES = {"saved_model.pb", "keras_metadata.pb", "fingerprint.pb", "variables", "assets"}


class Kind(NamedTuple):
    """A kind of output.

    Attributes:
        name: as messages call it.
        suffixes: what its name may end in; none allows what no other kind claims.
        recognises: whether what is at a path is one, by its content.
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Path], bool]


class Output(NamedTuple):
    """A path that will be written to.

    Attributes:
        label: how the user calls it, such as `"--tflite"`.
        path: as the user gave it.
        kind: what will be there.
        resumed: whether something of its kind that is there is meant to be gone on from, and is no obstacle.
    """

    label: str
    path: str | Path
    kind: Kind
    resumed: bool = False


def _begins(path: Path, count: int = 4096) -> bytes:
    if not path.is_file():
        return b""
    with open(path, "rb") as file:
        return file.read(count)


def _is_archive(path: Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"metadata.json", "config.json"} <= set(archive.namelist())


def _is_hdf5(path: Path) -> bool:
    import h5py

    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return "model_config" in file.attrs


def _is_saved_model(path: Path) -> bool:
    """A folder that holds a SavedModel of tf_keras and nothing beside it."""
    if not path.is_dir():
        return False
    found = {entry.name for entry in path.iterdir()}
    if not {"saved_model.pb", "keras_metadata.pb"} <= found <= SAVED_MODEL_FILES:
        return False
    variables = (path / "variables").glob("*") if "variables" in found else ()
    return all(re.fullmatch(r"variables\.(index|data-\d+-of-\d+)", v.name) for v in variables)


ARCHIVE = Kind("Keras model", (".keras",), _is_archive)
HDF5 = Kind("Keras model", (".h5", ".hdf5"), _is_hdf5)
SAVED_MODEL = Kind("SavedModel", ("",), _is_saved_model)
LITE = Kind(".tflite file", (".tflite",), lambda path: _begins(path)[4:8] == b"TFL3")
PAGE = Kind("report", (".html", ".htm"), lambda path: PAGE_MARK in _begins(path))
CHECKPOINT = Kind("checkpoint", (), lambda path: _begins(path).startswith(CHECKPOINT_MAGIC))
CLAIMED = {suffix for kind in (ARCHIVE, HDF5, LITE, PAGE) for suffix in kind.suffixes}


def model_kind(path: str | Path) -> Kind:
    """The kind of file that a model at that path is."""
    suffix = Path(path).suffix
    for kind in (ARCHIVE, HDF5):
        if suffix in kind.suffixes:
            return kind
    return SAVED_MODEL


def recognised(kind: Kind, path: Path) -> bool:
    """Whether what is at a path is an output of that kind; what cannot be read is none."""
    try:
        return kind.recognises(path)
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return False


def check(
    outputs: Iterable[Output],
    inputs: Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
) -> None:
    """Refuses, all at once, what must not be written.

    Args:
        outputs: everything that will be written.
        inputs: what is read, by how the user calls it; none of it may be replaced.
        overwrite: whether outputs of the same kind may be replaced.

    Raises:
        FileExistsError: something is there already.
        ValueError: outputs clash with one another or with an input, or a name does not fit its kind.
    """
    outputs = list(outputs)
    problems = [problem for output in outputs for problem in _unfit(output)]
    given = [(output.label, output.path) for output in outputs if os.fspath(output.path)]
    for index, (label, path) in enumerate(given):
        for other, place in [*(inputs or {}).items(), *given[:index]]:
            problems += _clash(label, path, other, place)
    if problems:
        raise ValueError("Nothing was written:" + "".join(f"\n- {problem}" for problem in problems))
    refuse_existing(outputs, overwrite)


def refuse_existing(outputs: Iterable[Output], overwrite: bool = False) -> None:
    """Raises one error for everything that is there and may not be replaced.

    Raises:
        FileExistsError: naming all of it.
    """
    there, foreign = [], []
    for output in outputs:
        path = Path(output.path)
        if not path.exists():
            continue
        if not recognised(output.kind, path):
            foreign.append(f"'{path}' is no {output.kind.name} of this program")
        elif not (overwrite or output.resumed):
            there.append(str(path))
    told = []
    if there:
        told.append(
            f"{', '.join(there)}: there already. Choose another name, or allow to overwrite."
        )
    if foreign:
        told.append(
            f"{', and '.join(foreign)}, but is there already, and is never replaced. Choose another name, or remove it"
            " yourself."
        )
    if told:
        raise FileExistsError("\n".join(told))


def _unfit(output: Output) -> Iterable[str]:
    """Why a name does not fit."""
    text = os.fspath(output.path)
    if not text or Path(text).name in ("", "..") or text.endswith(("/.", "/..")):
        yield f"{output.label} is {text!r}, which names no file. Give it a name."
        return
    suffix, kind = Path(text).suffix, output.kind
    if kind is SAVED_MODEL:
        # Numbers are versions, as in 'mobilenet_0.5' or 'model.v2'.
        if suffix and not re.fullmatch(r"\.v?\d[\w-]*", suffix):
            likely = suffix.lower() if suffix.lower() in MODEL_SUFFIXES else ".keras"
            yield (
                f"{output.label} is {text!r}, but no model ends in {suffix!r}. Name a file"
                f" '{Path(text).with_suffix(likely)}', or a SavedModel folder '{Path(text).with_suffix('')}'."
            )
    elif kind.suffixes and suffix not in kind.suffixes:
        proper = Path(text).with_suffix(kind.suffixes[0])
        yield f"{output.label} is {text!r}, but a {kind.name} ends in {kind.suffixes[0]!r}. Name it '{proper}'."
    elif not kind.suffixes and suffix in CLAIMED:
        yield f"{output.label} is {text!r}, but a {kind.name} does not end in {suffix!r}. Name it another way."
    parent = next((p for p in Path(os.path.realpath(text)).parents if p.exists()), None)
    if parent is not None and not parent.is_dir():
        yield f"{output.label} is {text!r}, but '{parent}' is a file, not a folder."
    elif parent is not None and not os.access(parent, os.W_OK):
        yield f"{output.label} is {text!r}, but nothing may be written to '{parent}'."


def _clash(label: str, path: str | Path, other: str, place: str | Path) -> Iterable[str]:
    """Whether two paths are the same, or one lies inside the other."""
    one, two = Path(os.path.realpath(path)), Path(os.path.realpath(place))
    if one == two or (one.exists() and two.exists() and one.samefile(two)):
        yield f"{label} and {other} are the same: '{path}'. Give each its own name."
    elif one in two.parents:
        yield f"{label} '{path}' contains {other} '{place}'. Choose another place."
    elif two in one.parents:
        yield f"{label} '{path}' lies inside {other} '{place}'. Choose another place."
