"""Files <-> Keras models: which Keras wrote a file, what it lacks, and how it is written."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.backends import ModelError

TFMOT_WRAPPER = b"PruneLowMagnitude"


def load(path: str | Path, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Loads a Keras model with the Keras that wrote it, not compiled.

    Args:
        path: SavedModel directory written by tf_keras' `model.save`, or a `.keras`, `.h5` or `.hdf5` file of either
            Keras.
        custom_objects: the user's own classes and functions by name.

    Returns:
        A tf_keras or Keras 3 model.

    Raises:
        ModelError: the path holds no model with layers, or Keras cannot load it.
    """
    path = Path(path)
    subject = f"'{path}' cannot be loaded"
    name, config = _written_by(path, subject)
    keras = backends.module(name)
    try:
        with contextlib.ExitStack() as scopes:
            if TFMOT_WRAPPER in config:
                scopes.enter_context(backends.tfmot().sparsity.keras.prune_scope())
            scopes.enter_context(keras.utils.custom_object_scope(dict(custom_objects or {})))
            return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ModelError(
            subject,
            [
                f"{name} says: {error} If it misses a class or function of yours, pass "
                "custom_objects={'Name': Name}; a Lambda layer that it calls unsafe must be loaded by you "
                "(safe_mode=False) and passed as a model."
            ],
        ) from error


def written_by(path: str | Path) -> str:
    """Which Keras wrote a model: `"tf_keras"` or `"keras"`.

    Raises:
        ModelError: the path holds no model with layers.
    """
    return _written_by(Path(path), f"'{path}' cannot be loaded")[0]


def _written_by(path: Path, subject: str) -> tuple[str, bytes]:
    """The Keras that wrote a file, and the description of the layers in it."""
    if not path.exists():
        raise ModelError(subject, ["there is no such file or folder."])
    if path.is_dir():
        return "tf_keras", _saved_model_metadata(path, subject)
    if zipfile.is_zipfile(path):
        return _keras_file(path, subject)
    return _hdf5_file(path, subject)


def _saved_model_metadata(path: Path, subject: str) -> bytes:
    if not any(path.iterdir()):
        raise ModelError(subject, ["the folder is empty."])
    if not (path / "saved_model.pb").exists():
        raise ModelError(
            subject,
            [
                "the folder is no SavedModel: it holds no saved_model.pb. Pass the folder that model.save wrote."
            ],
        )
    metadata = path / "keras_metadata.pb"
    if not metadata.exists():
        raise ModelError(
            subject,
            [
                "it is a SavedModel without Keras metadata (written by model.export or tf.saved_model.save): it holds "
                "no layers. Save it with model.save from tf_keras, or pass the .keras or .h5 file."
            ],
        )
    return metadata.read_bytes()


def _keras_file(path: Path, subject: str) -> tuple[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        if not {"metadata.json", "config.json"} <= set(archive.namelist()):
            raise ModelError(subject, ["it is an archive, but no .keras file."])
        version = json.loads(archive.read("metadata.json")).get("keras_version", "")
        config = archive.read("config.json")
    return _by_version(version), config


def _hdf5_file(path: Path, subject: str) -> tuple[str, bytes]:
    import h5py

    if not h5py.is_hdf5(path):
        raise ModelError(
            subject,
            ["it is neither a SavedModel directory nor a .keras, .h5 or .hdf5 file."],
        )
    with h5py.File(path) as file:
        version, config = file.attrs.get("keras_version", ""), file.attrs.get("model_config")
    if config is None:
        raise ModelError(
            subject,
            [
                "it holds weights only. Load them into the model they belong to and save that with model.save."
            ],
        )
    text = version.decode() if isinstance(version, bytes) else str(version)
    return _by_version(text), config if isinstance(config, bytes) else config.encode()


def _by_version(version: str) -> str:
    """tf_keras is Keras 2; Keras 3 and later call themselves keras."""
    major = version.partition(".")[0]
    return "keras" if major.isdigit() and int(major) >= 3 else "tf_keras"
