"""Runs killed at random moments and resumed until they end: the plans and weights are those of a run left alone.

    python -m tests.kill_runs --count=200

Every run is a process of its own, forked from one that has imported TensorFlow and used it for nothing; it is killed by
SIGKILL at moments uniform over the time that it takes, then started again with the same checkpoint. Two of three runs
are `robust`, all of whose work is one step.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from networks import randomise

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.pruning import checkpoint as checkpoints
from keras_robust_prune.synthesis.kinds import Synthesis

# Small, but everything is in it: inputs, costs, consumers and distillation, about as long each.
ROBUST = krp.Robust(
    synthesis=Synthesis(num_inputs=256), repair=(LeastSquares(), Distillation(num_steps=250))
)
GIVEN: dict[str, dict[str, Any]] = {
    "norm": {"method": "norm", "step": 1 / 16},
    "paper": {"method": "paper", "step": 1 / 16},
    "robust": {"method": ROBUST, "measure": "macs"},
}
METHODS = ("norm", "robust", "robust", "paper", "robust", "robust")
BETWEEN = 0.05  # seconds between two writes, in runs that take a few


class Ended(NamedTuple):
    """What came of the killed runs.

    Attributes:
        noted: killed after something was noted.
        within: of these, killed within the one step of `robust`.
        unlike: ended unlike the run left alone.
    """

    noted: int
    within: int
    unlike: int


def model_of(keras: str) -> Any:
    """A small network whose names and weights are the same in every process."""
    module = backends.module(keras)
    layers = [module.Input((12,), name="in")]
    layers += [module.layers.Dense(n, activation="relu", name=f"d{n}") for n in (24, 16, 12)]
    return randomise(module.Sequential([*layers, module.layers.Dense(4, name="last")], name="m"))


def work(keras: str, method: str, folder: Path) -> None:
    """One run, which writes its plan and weights at its end."""
    checkpoints.BETWEEN = BETWEEN
    result = krp.prune(model_of(keras), 0.5, checkpoint=folder / "run", verbose=0, **GIVEN[method])
    weights = {f"w{k}": value for k, value in enumerate(result.model.get_weights())}
    np.savez(folder / "end.npz", plan=np.array(result.plan.to_json()), **weights)


def started(keras: str, method: str, folder: Path) -> int:
    """The process of a run."""
    pid = os.fork()
    if not pid:
        try:
            work(keras, method, folder)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid: int) -> None:
    """Waits for a run that is left alone."""
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("A run did not end as it should.")


def same(one: Path, two: Path) -> bool:
    """Whether two runs ended alike, bit for bit."""
    with np.load(one) as first, np.load(two) as second:
        return set(first.files) == set(second.files) and all(
            np.array_equal(first[name], second[name]) for name in first.files
        )


def kill_and_resume(count: int, seed: int = 0) -> Ended:
    """Kills that many runs, and lets each go on."""
    for name in backends.NAMES:
        backends.module(name)
    cases = [(keras, method) for method in METHODS for keras in backends.NAMES]
    rng, noted, within, unlike = random.Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as text:
        whole: dict[tuple[str, str], tuple[Path, float]] = {}
        for case in dict.fromkeys(cases[:count]):
            folder = Path(text) / "_".join(case)
            folder.mkdir()
            begin = time.monotonic()
            ended(started(*case, folder))
            whole[case] = folder / "end.npz", time.monotonic() - begin
        for number in range(count):
            case = cases[number % len(cases)]
            wanted, seconds = whole[case]
            folder = Path(text) / str(number)
            folder.mkdir()
            pid = started(*case, folder)
            time.sleep(rng.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            noted += (folder / "run").exists()
            within += case[1] == "robust" and (folder / "run").exists() and not _is_whole(folder)
            (folder / "end.npz").unlink(missing_ok=True)
            ended(started(*case, folder))
            drafts = [path.name for path in folder.iterdir() if path.name.startswith(".krp-")]
            if drafts or not same(folder / "end.npz", wanted):
                unlike += 1
                print(number, *case, "ended unlike the run left alone", drafts, flush=True)
            shutil.rmtree(folder)
            if not (number + 1) % 10:
                print(number + 1, Ended(noted, within, unlike), flush=True)
    return Ended(noted, within, unlike)


def _is_whole(folder: Path) -> bool:
    """Whether a checkpoint holds a whole step."""
    body = (folder / "run").read_bytes().split(b"\n", 2)[2]
    with np.load(io.BytesIO(body)) as stored:
        return "" in json.loads(str(stored["__meta__"]))["stages"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    begin = time.monotonic()
    found = kill_and_resume(args.count, args.seed)
    print(
        f"{args.count} runs killed, {found.noted} of them after something was noted, {found.within} of these within"
        f" the one step of robust; {found.unlike} ended otherwise; {time.monotonic() - begin:.0f} s"
    )
    sys.exit(bool(found.unlike))


if __name__ == "__main__":
    main()
