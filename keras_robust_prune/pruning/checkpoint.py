"""Where a pruning run stands, on disk: an interrupted run goes on from it to the same result.

A checkpoint is one line that says what it is, the SHA-256 of the rest, and an `.npz` archive: the plan, the weights
that changed, and a fingerprint of everything the run depends on.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.outputs import CHECKPOINT, CHECKPOINT_MAGIC
from keras_robust_prune.keras_io.writing import replacing
from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.pruning.fingerprint import fingerprint, of_graph
from keras_robust_prune.surgery.plan import Plan

VERSION = 2


def save_state(
    path: str | Path, state: PruningState, dense: Graph, settings: Mapping[str, Any]
) -> None:
    """Write a state; the file appears whole or not at all.

    Args:
        path: the file; a checkpoint that is there is replaced.
        state: what to write.
        dense: the network that the run began with.
        settings: everything the run depends on beside the network, by name.
    """
    arrays: dict[str, Any] = {
        f"{layer.name}|{name}": value
        for layer in state.graph.layers.values()
        for name, value in layer.weights.items()
        if value is not dense.layers[layer.name].weights.get(name)
    }
    meta = {
        "fingerprints": fingerprints(dense, settings),
        "step": state.step,
        "plan": state.plan.to_json(),
        "metrics": {name: float(value) for name, value in state.metrics.items()},
    }
    content = io.BytesIO()
    np.savez(content, **{"__meta__": np.array(json.dumps(meta)), **arrays})
    body = content.getvalue()
    head = CHECKPOINT_MAGIC + f"{VERSION}\n{hashlib.sha256(body).hexdigest()}\n".encode()
    with replacing(path, CHECKPOINT, overwrite=True) as draft:
        draft.write_bytes(head + body)


def load_state(
    path: str | Path, dense: Graph, settings: Mapping[str, Any], plan: Plan
) -> PruningState:
    """Read a state that `save_state` wrote for the same run.

    Args:
        path: the file.
        dense: the network that the run begins with.
        settings: everything the run depends on beside the network, by name.
        plan: the empty plan that the run begins with.

    Raises:
        ValueError: the file is no checkpoint, is damaged, or belongs to another network or other settings.
    """
    content = Path(path).read_bytes()
    if content[:4] == b"PK\x03\x04":
        raise ValueError(
            f"'{path}' is no checkpoint of this version, but perhaps one of version 0.1. Delete it to start anew."
        )
    head, _, body = content.partition(b"\n")
    if not head.startswith(CHECKPOINT_MAGIC):
        raise ValueError(f"'{path}' is not a checkpoint of a pruning run. Choose another file.")
    version = head[len(CHECKPOINT_MAGIC) :].decode(errors="replace")
    if version != str(VERSION):
        raise ValueError(
            f"'{path}' is a checkpoint of format {version}, and this version reads {VERSION}. Delete it to start anew."
        )
    digest, _, body = body.partition(b"\n")
    if digest != hashlib.sha256(body).hexdigest().encode():
        raise ValueError(
            f"'{path}' is damaged: its content does not match its checksum. Delete it to start anew."
        )
    try:
        meta, weights = _unpacked(body)
        found = dict(meta["fingerprints"])
        wanted = fingerprints(dense, settings)
        other = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        if not other:
            return _state(meta, weights, dense, plan)
    except (KeyError, TypeError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"'{path}' does not hold together ({error}). Delete it to start anew."
        ) from error
    raise ValueError(
        f"'{path}' belongs to another run: {', '.join(other)} differ{'s' if len(other) == 1 else ''}. Delete it to"
        " start anew, or choose another file."
    )


def _unpacked(body: bytes) -> tuple[Mapping[str, Any], dict[str, np.ndarray]]:
    """What is said, and the weights."""
    with np.load(io.BytesIO(body)) as stored:
        weights = {key: stored[key] for key in stored.files}
    return json.loads(str(weights.pop("__meta__"))), weights


def fingerprints(dense: Graph, settings: Mapping[str, Any]) -> dict[str, str]:
    """One hash for the network and for every setting, so that a refusal can say which differs."""
    return {"the network": of_graph(dense)} | {k: fingerprint(v) for k, v in settings.items()}


def _state(
    meta: Mapping[str, Any], weights: Mapping[str, np.ndarray], dense: Graph, empty: Plan
) -> PruningState:
    """The state, checked against the network.

    Raises:
        ValueError: something does not fit.
    """
    changed = {}
    for key, value in weights.items():
        layer, _, name = key.rpartition("|")
        old = dense.layers[layer].weights[name]
        if value.shape != old.shape or value.dtype != old.dtype or not np.isfinite(value).all():
            raise ValueError(
                f"weight '{name}' of layer '{layer}' has another shape or is not finite"
            )
        changed[layer, name] = value
    plan, step = Plan.from_json(meta["plan"]), meta["step"]
    if dict(plan.widths) != dict(empty.widths):
        raise ValueError("its plan is for other groups")
    if not isinstance(step, int) or step < 1:
        raise ValueError(f"its step is {step!r}")
    return PruningState(step, dense.with_weights(changed), plan, meta["metrics"])
