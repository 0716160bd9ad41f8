"""What lies at a path, told by its content: which Keras wrote it, its configuration, and how much it unpacks to.

Nothing in here builds or runs anything; numbers that a file states of itself are compared with its size before they
are believed.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.backends import ModelError

# A configuration is text that people could read; EfficientNetV2L's has 0.6 MB.
LARGEST_CONFIG = 16 << 20
# Weights hardly compress. What claims to unpack to more than this many times its own size, and is not small, is a bomb.
LARGEST_RATIO, ALWAYS_FINE = 100, 64 << 20
# Operations of TensorFlow that touch files, the network or Python carry one of these in their name.
TOUCHES_FILES = (
    *("File", "PyFunc", "Save", "Restore", "Checkpoint", "Summary", "Reader", "PrintV2"),
    *("LoadAndRemap", "Debug", "Dataset", "Proto", "Rpc"),
)
KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclasses.dataclass(frozen=True)
class Stored:
    """A model's file or folder, looked at and not loaded.

    Attributes:
        path: where it lies.
        keras: which Keras wrote it, `"tf_keras"` or `"keras"`.
        suffix: the end of a name by which Keras reads it as what it is: `".keras"`, `".h5"`, or `""` for a SavedModel.
        configs: every configuration in it, parsed.
        num_bytes: what its weights unpack to.
        problems: what in it would run code or read other files, besides what the configurations say.
    """

    path: Path
    keras: str
    suffix: str
    configs: tuple[Any, ...]
    num_bytes: int
    problems: tuple[str, ...] = ()


def look(path: str | Path) -> Stored:
    """Looks at a model's file or folder.

    Raises:
        ModelError: it holds no model with layers, is damaged, or unpacks to more than its size allows.
    """
    path = Path(path)
    subject = f"'{path}' cannot be loaded"
    try:
        kind = _kind(path)
        if kind == "folder":
            return _saved_model(path)
        if kind == "archive":
            return _keras_file(path)
        return _hdf5_file(path)
    except ValueError as error:
        raise ModelError(subject, [str(error)]) from error
    except (
        OSError,
        zipfile.BadZipFile,
        RuntimeError,
        KeyError,
        EOFError,
        NotImplementedError,
    ) as error:
        raise ModelError(
            subject, [f"its content is damaged or cannot be read ({_first(error)})."]
        ) from error


def _first(error: BaseException) -> str:
    """The first line of an error, in bounds."""
    line = (str(error).strip().splitlines() or [""])[0]
    return (line if len(line) <= 200 else line[:200] + " ...") or type(error).__name__


def _kind(path: Path) -> str:
    """`"folder"`, `"archive"` or `"hdf5"`."""
    import h5py

    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ValueError("there is no such file or folder.") from error
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        raise ValueError(f"it is {KINDS.get(stat.S_IFMT(mode), 'no file')}, not a file or folder.")
    archive, hdf5 = zipfile.is_zipfile(path), h5py.is_hdf5(path)
    if archive and hdf5:
        raise ValueError(
            "it is an archive and an HDF5 file at once, so what it holds depends on the program that reads it."
            " Save the model anew."
        )
    if not archive and not hdf5:
        raise ValueError("it is neither a SavedModel directory nor a .keras, .h5 or .hdf5 file.")
    return "archive" if archive else "hdf5"


def _parsed(text: str | bytes, name: str) -> Any:
    """A configuration as JSON."""
    if len(text) > LARGEST_CONFIG:
        raise ValueError(
            f"{name} has {len(text):,} bytes, where a configuration has at most {LARGEST_CONFIG:,}."
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is damaged: it is no JSON ({_first(error)}).") from error


def _by_version(version: Any) -> str:
    """tf_keras is Keras 2; Keras 3 and later call themselves keras."""
    text = version.decode(errors="replace") if isinstance(version, bytes) else str(version)
    major = text.partition(".")[0]
    return "keras" if major.isdigit() and int(major) >= 3 else "tf_keras"


def _believable(claimed: int, size: int, what: str) -> int:
    if claimed > max(ALWAYS_FINE, LARGEST_RATIO * size):
        raise ValueError(
            f"{what} would unpack to {claimed:,} bytes from {size:,}. Weights do not compress so: it is no model."
        )
    return claimed


# .keras


def _keras_file(path: Path) -> Stored:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if not {"metadata.json", "config.json"} <= set(members):
            raise ValueError("it is an archive, but no .keras file.")
        _believable(sum(info.file_size for info in archive.infolist()), size, "it")
        if len(members) != len(archive.infolist()):
            raise ValueError(
                "it holds a name twice, so what it holds depends on the program that reads it."
            )
        outside = [name for name in members if name.startswith("/") or ".." in Path(name).parts]
        if outside:
            raise ValueError(
                f"it holds files that lie outside it: {', '.join(map(repr, outside[:3]))}."
            )
        if any(
            members[name].file_size > LARGEST_CONFIG for name in ("metadata.json", "config.json")
        ):
            raise ValueError(f"its configuration has more than {LARGEST_CONFIG:,} bytes.")
        broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"it is damaged: '{broken}' in it fails its checksum.")
        metadata = _parsed(archive.read("metadata.json"), "metadata.json")
        config = _parsed(archive.read("config.json"), "config.json")
        problems: list[str] = []
        num_bytes = sum(info.file_size for info in members.values())
        for name, info in members.items():
            if name.endswith(".h5"):
                num_bytes += _weights(io.BytesIO(archive.read(name)), info.file_size, problems)
    if not isinstance(metadata, dict) or not isinstance(config, dict):
        raise ValueError("its metadata.json or config.json describes no model.")
    # What a model was compiled with is not loaded.
    config.pop("compile_config", None)
    keras = _by_version(metadata.get("keras_version", ""))
    return Stored(path, keras, ".keras", (config,), num_bytes, tuple(problems))


# .h5


def _hdf5_file(path: Path) -> Stored:
    import h5py

    problems: list[str] = []
    num_bytes = _weights(path, path.stat().st_size, problems)
    with h5py.File(path) as file:
        version, config = file.attrs.get("keras_version", ""), file.attrs.get("model_config")
    if config is None:
        raise ValueError(
            "it holds weights only. Load them into the model they belong to and save that with model.save."
        )
    if not isinstance(config, (str, bytes)):
        raise ValueError("its model_config is no text.")
    parsed = _parsed(config, "model_config")
    return Stored(path, _by_version(version), ".h5", (parsed,), num_bytes, tuple(problems))


# HDF5 does not come to an end, or crashes, on some damaged files: a process of its own reads one first.
PROBE = """
import io, sys
sys.path[:] = sys.argv[1:]
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
except ImportError:
    pass
import h5py
def read(name, item):
    dict(item.attrs)
with h5py.File(io.BytesIO(sys.stdin.buffer.read())) as file:
    read("", file)
    file.visititems(read)
"""
PROBE_SECONDS = 30


def _probe(content: bytes) -> None:
    """Raises if HDF5 cannot be trusted with a file's structure.

    Raises:
        ValueError: it hung or crashed.
    """
    if not sys.executable:
        return
    command = [sys.executable, "-I", "-c", PROBE, *filter(None, sys.path)]
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        done = None
    # What raised an error in there raises it here as well.
    if done is None or done.returncode < 0:
        raise ValueError(
            "it is damaged: HDF5 does not come to an end with it. Save the model anew."
        )


def _weights(source: Any, size: int, problems: list[str]) -> int:
    """Bytes that the arrays of an HDF5 file unpack to; what lies in other files is a problem."""
    import h5py

    total = 0
    _probe(source.getvalue() if isinstance(source, io.BytesIO) else source.read_bytes())
    with h5py.File(source) as file:
        for name, item in _hdf5_items(file, problems):
            if not isinstance(item, h5py.Dataset):
                continue
            total += item.nbytes
            if item.external or item.is_virtual:
                problems.append(f"its array '{name}' lies in another file.")
    return _believable(total, size, "its arrays")


def _hdf5_items(file: Any, problems: list[str]) -> Iterator[tuple[str, Any]]:
    """Every group and array by name, each once; links to elsewhere are problems."""
    import h5py

    waiting, seen = [("", file)], set()
    while waiting:
        path, group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            full = f"{path}/{name}" if path else name
            if not isinstance(link, h5py.HardLink):
                problems.append(f"its '{full}' is a link to another place.")
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            yield full, item
            if isinstance(item, h5py.Group):
                waiting.append((full, item))


# SavedModel


def _saved_model(path: Path) -> Stored:
    files = [Path(root) / name for root, _, names in os.walk(path) for name in names]
    if not files and not any(path.iterdir()):
        raise ValueError("the folder is empty.")
    if not (path / "saved_model.pb").exists():
        raise ValueError(
            "the folder is no SavedModel: it holds no saved_model.pb. Pass the folder that model.save wrote."
        )
    if not (path / "keras_metadata.pb").exists():
        raise ValueError(
            "it is a SavedModel without Keras metadata (written by model.export or tf.saved_model.save): it holds no "
            "layers. Save it with model.save from tf_keras, or pass the .keras or .h5 file."
        )
    for file in files:
        if not stat.S_ISREG(file.stat().st_mode):
            raise ValueError(f"'{file.name}' in it is no file.")
    if (path / "saved_model.cpb").exists():
        raise ValueError(
            "it holds a saved_model.cpb, which tf_keras does not write. Save the model anew."
        )
    nodes = _metadata(path / "keras_metadata.pb")
    problems = _operations(path / "saved_model.pb")
    num_bytes = sum(file.stat().st_size for file in files)
    return Stored(path, "tf_keras", "", tuple(nodes), num_bytes, tuple(problems))


def _proto(parse: Callable[[bytes], Any], path: Path) -> Any:
    try:
        return parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"'{path.name}' in it is damaged ({_first(error)}).") from error


def _metadata(path: Path) -> list[Any]:
    if path.stat().st_size > 4 * LARGEST_CONFIG:
        raise ValueError(f"its configuration has more than {4 * LARGEST_CONFIG:,} bytes.")
    found = _proto(backends.saved_metadata, path)
    if not found.nodes:
        raise ValueError("its keras_metadata.pb names no layer, so it holds none.")
    return [_parsed(node.metadata, "keras_metadata.pb") for node in found.nodes]


def _operations(path: Path) -> list[str]:
    """What the stored computation would do besides computing, in what a loader can reach."""
    problems: dict[str, None] = {}
    for graph in _proto(backends.saved_model, path).meta_graphs:
        library = {
            function.signature.name: function for function in graph.graph_def.library.function
        }
        waiting: list[str] = list(graph.object_graph_def.concrete_functions)
        seen = set(waiting)
        while waiting:
            function = library.get(waiting.pop())
            for node in function.node_def if function is not None else ():
                if any(part in node.op for part in TOUCHES_FILES) and node.op not in library:
                    problems[
                        f"its computation has the operation {node.op}, which does more than compute."
                    ] = None
                called = _called(node)
                waiting += [name for name in called if name not in seen]
                seen.update(called)
    return list(problems)


def _called(node: Any) -> Sequence[str]:
    """The functions that an operation calls."""
    found = [node.op]
    for attribute in node.attr.values():
        found.append(attribute.func.name)
        found += [function.name for function in attribute.list.func]
    return found
