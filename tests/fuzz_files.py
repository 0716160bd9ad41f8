"""Mutated and crafted model files under a memory limit: each is a result or one of our errors.

    python -m tests.fuzz_files --count=2000

Every file is opened in a process of its own, forked from one that has imported TensorFlow and used it for nothing: a
model is inspected, a `.tflite` file inspected and evaluated. A crash, a hang, a payload that ran, a file left behind or
an error that is not ours is printed with the file that did it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import h5py
import hostile_files
import numpy as np
from networks import network

import keras_robust_prune as krp
from keras_robust_prune import ModelError, backends
from keras_robust_prune.pruning.inspection import inspect

SECONDS, MEMORY = 60, 4 << 30
Mutation = Callable[[bytes, random.Random], bytes]


def flip(content: bytes, rng: random.Random) -> bytes:
    """One to eight bits."""
    found = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def splice(content: bytes, rng: random.Random) -> bytes:
    """A stretch of the file over another one."""
    length = rng.randint(1, max(1, len(content) // 8))
    begin, end = (rng.randrange(len(content) - length) for _ in range(2))
    return content[:begin] + content[end : end + length] + content[begin + length :]


def grow(content: bytes, rng: random.Random) -> bytes:
    """A number in the text of a configuration becomes a large one."""
    places = [k for k in range(len(content) - 1) if content[k : k + 2] in (b": ", b", ", b"[[")]
    if not places:
        return flip(content, rng)
    place = rng.choice(places) + 2
    return content[:place] + b"9999999999"[: rng.randint(1, 10)] + content[place:]


def noted(content: bytes, rng: random.Random) -> bytes:
    """A number of four bytes, such as an offset, a length or a kind, becomes another one."""
    place = 4 * rng.randrange(max(1, len(content) // 4))
    number = rng.choice([0, 1, 2, 255, 1 << 16, (1 << 31) - 1, (1 << 32) - 1, rng.getrandbits(32)])
    return content[:place] + number.to_bytes(4, "little") + content[place + 4 :]


MUTATIONS: tuple[Mutation, ...] = (flip, truncate, splice, grow, noted)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1 << 31, 1 << 62, 1e308, float("nan"), "", "x" * 10_000, "../../x", "os"),
    *([], [[]], {}, [1 << 40, 1 << 40], {"class_name": "Lambda", "config": {}}),
    {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", "mark"]}},
    {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}},
)


def value(text: str, rng: random.Random) -> str:
    """One value somewhere in a configuration becomes another, of any kind; now and then a name does."""
    config = json.loads(text)
    places = [(holder, key) for holder, key in _places(config)]
    for holder, key in rng.sample(places, min(len(places), rng.randint(1, 2))):
        if isinstance(holder, dict) and rng.random() < 0.1:
            holder[rng.choice(["class_name", "name", "module", "config"])] = holder.pop(key, None)
        else:
            holder[key] = rng.choice(VALUES)
    return json.dumps(config)


def _places(config: Any) -> Iterator[tuple[Any, Any]]:
    """Where values stand, however deep."""
    waiting = [config]
    while waiting:
        holder = waiting.pop()
        for key in list(holder if isinstance(holder, dict) else range(len(holder))):
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])


def rezip(path: Path, rng: random.Random) -> str:
    """What is in an archive is changed and its checksums are right, or something is put beside it."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    what, name = rng.choice(["value", "bytes", "beside", "bomb"]), rng.choice(sorted(content))
    if what == "value":
        name = rng.choice(["config.json", "config.json", "metadata.json"])
        content[name] = value(content[name].decode(), rng).encode()
    elif what == "bytes":
        content[name] = rng.choice(MUTATIONS)(content[name], rng)
    elif what == "beside":
        content[rng.choice(["../mark", "/tmp/mark", "a/../../mark", "x.pkl", "assets/x"])] = b"x"
    else:
        content[rng.choice([name, "more"])] = bytes(rng.randint(64, 256) << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member, data in content.items():
            archive.writestr(member, data)
    return f"rezip {what}"


def rewrite(path: Path, rng: random.Random) -> str:
    """What an HDF5 file says of its model, or holds beside it, is changed in a way that HDF5 allows."""
    what = rng.choice(["value", "version", "link", "huge", "shape"])
    with h5py.File(path, "r+") as file:
        if what == "value":
            file.attrs["model_config"] = value(file.attrs["model_config"], rng)
        elif what == "version":
            file.attrs["keras_version"] = rng.choice(["3.0", "", "9" * 50, "\x7f"])
        elif what == "link":
            file["more"] = rng.choice(
                [h5py.ExternalLink("/etc/passwd", "x"), h5py.SoftLink("/more"), h5py.SoftLink("/")]
            )
        elif what == "huge":
            file.create_dataset("more", (1 << 20, 1 << 20), "f4", chunks=(1 << 10, 1 << 10))
        else:
            arrays: list[str] = []
            file.visititems(
                lambda name, item: arrays.append(name) if isinstance(item, h5py.Dataset) else None
            )
            name = rng.choice(arrays)
            del file[name]
            file[name] = rng.choice([np.zeros(0), np.full((3, 3), np.nan), np.array("x", "S4")])
    return f"rewrite {what}"


def seeds(folder: Path) -> list[Path]:
    """Good and evil files of every format, written by a process of their own: it uses TensorFlow."""
    pid = os.fork()
    if not pid:
        try:
            for kind in hostile_files.FORMATS:
                place = folder / kind.replace(" ", "_")
                place.mkdir()
                keras, name = hostile_files.FORMATS[kind]
                model = network("conv_bn", keras)
                model.save(place / name, **({"save_format": "tf"} if name == "m" else {}))
                for label, make in hostile_files.LAMBDAS.items():
                    (place / label).mkdir()
                    hostile_files.written(kind, make, place / label)
            for number, quantize in enumerate((None, "dynamic", "int8")):
                (folder / f"lite{number}").mkdir()
                place = folder / f"lite{number}" / "m.tflite"
                krp.export_tflite(network("conv_bn"), place, quantize=quantize)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("The files to begin with could not be written.")
    return sorted(path for path in folder.rglob("m*") if path.name.partition(".")[0] == "m")


def mutated(source: Path, place: Path, rng: random.Random) -> str:
    """A copy of a file or folder with something in it changed, and the change's name."""
    change = rng.choice(MUTATIONS)
    if source.is_dir():
        shutil.copytree(source, place)
        inner = rng.choice(sorted(path for path in place.rglob("*") if path.is_file()))
    else:
        shutil.copyfile(source, place)
        inner = place
    deep = {".keras": rezip, ".h5": rewrite}.get(place.suffix)
    if deep is not None and rng.random() < 0.6:
        return deep(place, rng)
    content = inner.read_bytes()
    inner.write_bytes(change(content, rng) if content else content)
    return change.__name__


def opened(path: Path) -> str:
    """What opening a file in a process of its own came to."""
    begin, pid = time.monotonic(), os.fork()
    if not pid:
        os._exit(_outcome(path))
    while time.monotonic() - begin < SECONDS:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return {0: "result", 1: "refused", 2: "other error"}.get(code, f"crash {code}")
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang"


def _outcome(path: Path) -> int:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.chdir(path.parent)
    try:
        if path.suffix == ".tflite":
            _of_lite_file(path)
        else:
            inspect(path)
    except (ModelError, ValueError) as error:
        ours = traceback.extract_tb(error.__traceback__)[-1].filename
        if "keras_robust_prune" in ours:
            return 1
        traceback.print_exc()
        return 2
    except BaseException:
        traceback.print_exc()
        return 2
    return 0


def _of_lite_file(path: Path) -> None:
    """Both things that are done with a `.tflite` file, the second whatever the first comes to."""
    try:
        str(krp.describe_tflite(path))
    except ValueError as error:
        if "keras_robust_prune" not in traceback.extract_tb(error.__traceback__)[-1].filename:
            raise
    krp.evaluate(path, np.full((8, 8, 8, 3), 0.5, np.float32), np.arange(8) % 2, verbose=0)


def fuzz(count: int, seed: int = 0, only: str = "") -> Counter[str]:
    """Opens that many mutated files, of those whose name ends so; what may not happen is printed."""
    for name in backends.NAMES:
        backends.module(name)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "seeds").mkdir()
        sources = [path for path in seeds(folder / "seeds") if path.name.endswith(only)]
        evil = [path for path in sources if path.parent.name in hostile_files.LAMBDAS]
        good = [path for path in sources if path not in evil]
        temporary = folder / "temporary"
        tempfile.tempdir = str(temporary)
        marks = {Path("/tmp/mark"), folder / "mark"} | {path.parent / "mark" for path in sources}
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            source, place = rng.choice(evil if evil and number % 4 == 3 else good), folder / "tried"
            place.mkdir()
            temporary.mkdir()
            change = mutated(source, place / source.name, rng)
            outcome = opened(place / source.name)
            left = {path.name for path in place.iterdir()} - {source.name}
            left |= {path.name for path in temporary.iterdir()}
            if left:
                outcome = f"left {sorted(left)}"
            if any(mark.exists() for mark in marks):
                outcome = "payload"
            outcomes[outcome] += 1
            if outcome not in ("result", "refused"):
                print(number, source.relative_to(folder), change, outcome, flush=True)
            shutil.rmtree(place)
            shutil.rmtree(temporary)
            if not (number + 1) % 100:
                print(number + 1, dict(outcomes), flush=True)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="the end of their names, such as .tflite")
    args = parser.parse_args()
    begin = time.monotonic()
    outcomes = fuzz(args.count, args.seed, args.only)
    print(dict(outcomes), f"{time.monotonic() - begin:.0f} s")
    sys.exit(bool(set(outcomes) - {"result", "refused"}))


if __name__ == "__main__":
    main()
