"""Where a pruning run stands, on disk: an interrupted run goes on from it to the same result."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.writing import replacing
from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.surgery.plan import Plan

FORMAT = 1


def save_state(path: str | Path, state: PruningState, dense: Graph, settings: str) -> None:
    """Write a state; the file appears whole or not at all.

    Args:
        path: the file, replaced if it is there.
        state: what to write.
        dense: the network that the run began with.
        settings: everything the run depends on beside the network, as text.
    """
    arrays: dict[str, Any] = {
        f"{layer.name}|{name}": value
        for layer in state.graph.layers.values()
        for name, value in layer.weights.items()
        if value is not dense.layers[layer.name].weights.get(name)
    }
    meta = {
        "format": FORMAT,
        "fingerprint": fingerprint(dense, settings),
        "settings": settings,
        "step": state.step,
        "plan": state.plan.to_json(),
        "metrics": dict(state.metrics),
    }
    with replacing(path, overwrite=True) as draft, open(draft, "wb") as file:
        np.savez(file, **{"__meta__": np.array(json.dumps(meta)), **arrays})


def load_state(path: str | Path, dense: Graph, settings: str) -> PruningState:
    """Read a state that `save_state` wrote for the same run.

    Raises:
        ValueError: the file is no checkpoint, or belongs to another network or other settings.
    """
    try:
        with np.load(path) as stored:
            meta = json.loads(str(stored["__meta__"]))
            weights = {key: stored[key] for key in stored.files if key != "__meta__"}
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"'{path}' is not a checkpoint of a pruning run: {error}. Choose another file."
        ) from error
    if meta["fingerprint"] != fingerprint(dense, settings):
        raise ValueError(
            f"'{path}' belongs to another run: another network, or other settings"
            f" ({meta['settings']}, now {settings}). Delete it to start anew, or choose another file."
        )
    changed = {}
    for key, value in weights.items():
        layer, _, name = key.partition("|")
        changed[layer, name] = value
    plan = Plan.from_json(meta["plan"])
    return PruningState(meta["step"], dense.with_weights(changed), plan, meta["metrics"])


def fingerprint(dense: Graph, settings: str) -> str:
    """A short text that differs where the network or the settings do."""
    digest = hashlib.sha256(f"{FORMAT} {settings}".encode())
    for layer in dense.layers.values():
        digest.update(f"{layer.name} {layer.kind}".encode())
        for name, value in layer.weights.items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
