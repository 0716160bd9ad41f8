"""Mutated and crafted model files under a memory limit: each is a result or one of our errors.

    python -m tests.fuzz_files --count=2000

Every file is opened in a process of its own, forked from one that has imported TensorFlow and used it for nothing: a
model is inspected, a `.tflite` file inspected and evaluated. A crash, a hang, a payload that ran, a file left behind or
an error that is not ours is printed with the file that did it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import h5py  # noqa: F401, the processes that are forked have it
import hostile_files
import numpy as np
from networks import network

import keras_robust_prune as krp
from keras_robust_prune import ModelError, backends
from keras_robust_prune.surgery.inspection import inspect

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
        marks = {path.parent / "mark" for path in sources}
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            source, place = rng.choice(evil if evil and number % 4 == 3 else good), folder / "tried"
            place.mkdir()
            change = mutated(source, place / source.name, rng)
            outcome = opened(place / source.name)
            left = {path.name for path in place.iterdir()} - {source.name}
            if left:
                outcome = f"left {sorted(left)}"
            if any(mark.exists() for mark in marks):
                outcome = "payload"
            outcomes[outcome] += 1
            if outcome not in ("result", "refused"):
                print(number, source.relative_to(folder), change, outcome, flush=True)
            shutil.rmtree(place)
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
