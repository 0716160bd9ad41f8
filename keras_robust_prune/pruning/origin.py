"""How a pruned network came about, and how to get it again."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.methods.problem import Method, Problem
from keras_robust_prune.pruning.fingerprint import of_graph
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.plan import Plan


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """What a run was asked, and what it took.

    Attributes:
        call: the call of `krp.prune` that asks the same.
        method: what decided.
        problem: what it was asked.
        source: fingerprint of the network that was given.
        seconds: how long it took.
        samples: a few of the synthetic inputs that decisions were taken on, by kind.
    """

    call: str
    method: Method
    problem: Problem
    source: str
    seconds: float
    samples: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def scales(self) -> bool:
        """Whether a part of the target can be asked for."""
        return self.problem.schedule is None

    def at(self, share: float) -> tuple[Graph, Plan]:
        """The smaller network, and its plan, that the same run gives for a share of its target."""
        target = self.problem.target
        if isinstance(target, Mapping):
            target = {name: share * fraction for name, fraction in target.items()}
        else:
            target = share * target
        problem = dataclasses.replace(self.problem, target=target, start=None, verbose=0)
        state = problem.first_state()
        with problem.limited():
            for step in self.method.steps(problem):
                state = step
        return cut(state.graph, problem.groups, state.plan), state.plan

    def facts(self, graph: Graph) -> list[tuple[str, str]]:
        """Seed, versions and fingerprints, by name.

        Args:
            graph: the smaller network.
        """
        versions = {
            "keras_robust_prune": importlib.import_module("keras_robust_prune").__version__,
            graph.keras: backends.module(graph.keras).__version__,
            "TensorFlow": backends.tensorflow().__version__,
            "NumPy": np.__version__,
            "Python": platform.python_version(),
        }
        return [
            ("seed", str(self.problem.seed)),
            ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
            ("network given", self.source),
            ("network made", known_by(graph)),
            ("took", f"{self.seconds:.1f} s"),
        ]


def known_by(graph: Graph) -> str:
    """The fingerprint of a network; words where it holds objects that show nothing of themselves."""
    try:
        return f"fingerprint {of_graph(graph)}"
    except ValueError:
        return "no fingerprint: it holds objects that show nothing of themselves"


def call_of(model: Any, given: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """The call of `krp.prune`; what cannot be written down is named by its type.

    Args:
        model: its first argument.
        given: its other arguments; defaults are left out, but for the target and the seed.
        usual: the defaults.

    Example:
        >>> call_of("mnist", {"target": 0.5, "method": "norm", "keep": ()}, {"keep": ()})
        'krp.prune("mnist", target=0.5, method="norm")'
    """
    said = {
        name: given[name]
        for name in sorted(
            given, key=lambda name: (name != "target", name != "method", name == "seed")
        )
        if name in ("target", "seed") or not (name in usual and _same(given[name], usual[name]))
    }
    first = "model" if model == "model" else _written(model, "model")
    return f"krp.prune({', '.join([first, *(f'{k}={_written(v, k)}' for k, v in said.items())])})"


def _same(value: Any, default: Any) -> bool:
    """Whether an argument has its default."""
    value = tuple(value) if isinstance(value, list) else value
    return isinstance(value, type(default)) and bool(value == default)


def _written(value: Any, name: str) -> str:
    """A value as one would type it; what cannot be typed is called by the argument's name."""
    if isinstance(value, (str, os.PathLike)):
        return json.dumps(os.fspath(value), ensure_ascii=False)
    if value is None or isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        inner = (f"{_written(k, name)}: {_written(v, name)}" for k, v in value.items())
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, (tuple, list)) and all(isinstance(v, (str, int, float)) for v in value):
        return repr(list(value) if isinstance(value, list) else tuple(value))
    text = repr(value) if name == "method" else ""
    return name if "\n" in text or " at 0x" in text or not text else text


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes; of a folder over names and bytes of all files in it, in the order of their names."""
    place, digest = Path(path), hashlib.sha256()
    if place.is_file():
        return hashlib.sha256(place.read_bytes()).hexdigest()
    for file in sorted(item for item in place.rglob("*") if item.is_file()):
        digest.update(f"{file.relative_to(place).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
