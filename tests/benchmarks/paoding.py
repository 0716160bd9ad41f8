"""The authors' toolkit and our `method="paper"` on one network, one after the other.

Installs paoding-dl in an environment of its own, prunes with it, prunes with ours, and prints
accuracy and seconds side by side. What is timed is pruning alone, without loading and evaluating.

    python tests/benchmarks/paoding.py --shared=../shared
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import METHODS
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups

PACKAGES = ["paoding-dl==1.0.0.post3", "importlib_metadata", "pandas", "opencv-python-headless"]
PACKAGES += ["scikit-learn", "tabulate", "pydot", "tf-keras"]
RUN = Path(__file__).with_name("paoding_run.py")

FLAGS = flags.FLAGS
flags.DEFINE_string("shared", "../shared", "folder with zoo/mnist_mlp.h5 and data/mnist.npz")
flags.DEFINE_string(
    "environment", None, "where paoding-dl is (or gets) installed; a new folder if not given"
)
flags.DEFINE_float("target", 0.5, "fraction of the units to remove", 0.0, 0.99)
flags.DEFINE_float("step", 1 / 64, "fraction removed by one step", 1e-3, 1.0)
flags.DEFINE_integer("seeds", 5, "runs of ours", 1)
flags.DEFINE_integer("their_seeds", 1, "runs of theirs", 1)


def python_with_paoding(environment: Path) -> Path:
    """The interpreter of an environment that has paoding-dl; made if it is not there."""
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"Installing {PACKAGES[0]} into {environment} ...", flush=True)
        venv.create(environment, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", *PACKAGES], check=True)
    return python


def run_theirs(python: Path, network: Path, data: Path, seed: int) -> dict[str, Any]:
    """Seconds, accuracy and kept units of one run of paoding-dl."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        arguments = [network, data, FLAGS.target, FLAGS.step, seed, result]
        done = subprocess.run(
            [python, "-", *map(str, arguments)],
            input=RUN.read_text(),  # not by its path: this file would hide the package paoding
            cwd=folder,
            env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"paoding-dl failed:\n{done.stderr[-4000:]}")
        return dict(json.loads(result.read_text()))


def run_ours(graph: Graph, images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
    """The same of one run of ours, evaluated on the network that is physically cut."""
    begin = time.perf_counter()
    groups = find_groups(graph)
    problem = Problem(graph, groups, target=FLAGS.target, step=FLAGS.step, seed=seed)
    *_, state = METHODS["paper"].steps(problem)
    small = cut(state.graph, groups, state.plan)
    seconds = time.perf_counter() - begin
    kept = [len(state.plan.kept(group.name)) for group in groups.groups]
    return {"seconds": seconds, "after": accuracy(small, images, labels), "kept": kept}


def accuracy(graph: Graph, images: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of the images that get their label."""
    (scores,) = lower(graph, np.float32)(images)
    return float(np.mean(scores.argmax(axis=-1) == labels))


def main(argv: Sequence[str]) -> None:
    """Run both and print the table."""
    shared = Path(FLAGS.shared).resolve()
    network, data = shared / "zoo" / "mnist_mlp.h5", shared / "data" / "mnist.npz"
    missing = [str(path) for path in (network, data) if not path.exists()]
    if missing:
        sys.exit(f"Not found: {', '.join(missing)}. Pass the folder with --shared=FOLDER.")
    with np.load(data) as arrays:
        images = (arrays["x_test"] / 255.0).astype("float32")[..., None]
        labels = arrays["y_test"].astype("int64").ravel()
    graph = read(network)
    folder = Path(FLAGS.environment or Path(tempfile.mkdtemp()) / "paoding").resolve()
    python = python_with_paoding(folder)
    rows = []
    theirs = [run_theirs(python, network, data, seed) for seed in range(FLAGS.their_seeds)]
    ours = [run_ours(graph, images, labels, seed) for seed in range(FLAGS.seeds)]
    for name, runs in (("paoding-dl 1.0.0.post3", theirs), ("paper, here", ours)):
        for seed, run in enumerate(runs):
            rows.append((f"{name}, seed {seed}", run["kept"], run["after"], run["seconds"]))
    print(f"{network.name}, {FLAGS.target:.0%} of the units, steps of {FLAGS.step:g}")
    print(f"dense accuracy {accuracy(graph, images, labels):.4f} on {len(labels)} images")
    print(f"{'':<32}{'kept':>16}{'accuracy':>10}{'seconds':>10}")
    for name, kept, after, seconds in rows:
        print(f"{name:<32}{kept!s:>16}{after:>10.4f}{seconds:>10.2f}")
    median = {
        key: [float(np.median([run[key] for run in runs])) for runs in (theirs, ours)]
        for key in ("after", "seconds")
    }
    print(f"median accuracy: theirs {median['after'][0]:.4f}, ours {median['after'][1]:.4f}")
    ratio = median["seconds"][0] / median["seconds"][1]
    print(
        f"median seconds: theirs {median['seconds'][0]:.2f}, ours {median['seconds'][1]:.3f},"
        f" ratio {ratio:.0f}"
    )


if __name__ == "__main__":
    app.run(main)
