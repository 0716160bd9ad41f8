"""Where a pruning run stands, on disk: an interrupted run goes on from it to the same result.

A checkpoint is one line that says what it is, the SHA-256 of the rest, and an `.npz` archive: the state after the last
whole step, what parts of the step under way came to, and a fingerprint of everything the run depends on.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.outputs import CHECKPOINT, CHECKPOINT_MAGIC
from keras_robust_prune.keras_io.writing import replacing
from keras_robust_prune.methods.packing import packed, unpacked
from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.methods.stages import Stage, Stages
from keras_robust_prune.pruning.fingerprint import fingerprint, of_graph

VERSION = 3
# Seconds between two writes within a step, and how many times longer than the last write they are at least.
BETWEEN, SHARE = 1.0, 20.0


class Checkpoint(Stages):
    """The file of one run; it appears whole or not at all, and a checkpoint that is there is replaced.

    A whole step is written at once. Parts of a step are written together, a second apart at least, and so far
    apart that writing takes no more than a twentieth of the time.

    Args:
        path: the file.
        dense: the network that the run begins with.
        settings: everything the run depends on beside the network, by name.
    """

    keeps = True

    def __init__(self, path: str | Path, dense: Graph, settings: Mapping[str, Any]) -> None:
        self.path, self._dense = Path(path), dense
        self._fingerprints = fingerprints(dense, settings)
        self._state: Stage | None = None
        self._stages: dict[str, Stage] = {}
        self._written, self._took = time.monotonic(), 0.0

    @property
    def due(self) -> bool:  # type: ignore[override]
        """Whether enough time has passed since the last write."""
        return time.monotonic() - self._written >= max(BETWEEN, SHARE * self._took)

    def get(self, name: str) -> Stage | None:
        """What a part of the step came to, if the file or this run knows it."""
        return self._stages.get(name)

    def put(self, name: str, stage: Stage) -> None:
        """Keep what a part of the step came to."""
        self._stages[name] = stage
        if self.due:
            self._write()

    def drop(self, *names: str) -> None:
        """Forget parts; all of them without names."""
        for name in names or tuple(self._stages):
            self._stages.pop(name, None)

    def note(self, state: PruningState) -> None:
        """Write the state after a whole step."""
        self._state = packed(state, self._dense)
        self._write()

    def _write(self) -> None:
        began = time.monotonic()
        arrays: dict[str, Any] = {}
        meta: dict[str, Any] = {"fingerprints": self._fingerprints, "stages": {}}
        state = {} if self._state is None else {"": self._state}
        for name, stage in {**state, **self._stages}.items():
            numbers = {}
            for key, value in stage.arrays.items():
                numbers[key] = number = str(len(arrays))
                arrays[number] = value
            meta["stages"][name] = {"said": stage.said, "arrays": numbers}
        content = io.BytesIO()
        np.savez(content, **{"__meta__": np.array(json.dumps(meta)), **arrays})
        body = content.getbuffer()
        head = CHECKPOINT_MAGIC + f"{VERSION}\n{hashlib.sha256(body).hexdigest()}\n".encode()
        with replacing(self.path, CHECKPOINT, overwrite=True) as draft, draft.open("wb") as file:
            file.write(head)
            file.write(body)
        self._written = time.monotonic()
        self._took = self._written - began

    def load(self, widths: Mapping[str, int]) -> PruningState | None:
        """Read the file of an interrupted run.

        Args:
            widths: of the network's groups.

        Returns:
            The state after the last whole step; None if there was none.

        Raises:
            ValueError: the file is no checkpoint, is damaged, or belongs to another network or other settings.
        """
        body = _checked(self.path)
        try:
            found, stages = _read(body)
            state, fits = stages.pop("", None), found == self._fingerprints
            if fits:
                after = None if state is None else unpacked(state, self._dense, widths)
                self._state, self._stages = state, stages
                return after
        except (KeyError, TypeError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"'{self.path}' does not hold together ({error}). Delete it to start anew."
            ) from error
        wanted = self._fingerprints
        other = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        raise ValueError(
            f"'{self.path}' belongs to another run: {', '.join(other)} differ{'s' if len(other) == 1 else ''}. Delete"
            " it to start anew, or choose another file."
        )


def fingerprints(dense: Graph, settings: Mapping[str, Any]) -> dict[str, str]:
    """One hash for the network and for every setting, so that a refusal can say which differs."""
    return {"the network": of_graph(dense)} | {k: fingerprint(v) for k, v in settings.items()}


def _checked(path: Path) -> bytes:
    """What a checkpoint holds behind its head.

    Raises:
        ValueError: it is no checkpoint of this version, or is damaged.
    """
    content = path.read_bytes()
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
    return body


def _read(body: bytes) -> tuple[Mapping[str, str], dict[str, Stage]]:
    """The fingerprints, and every stage by name."""
    with np.load(io.BytesIO(body)) as stored:
        arrays = {key: stored[key] for key in stored.files}
    meta = json.loads(str(arrays.pop("__meta__")))
    stages = {
        name: Stage(
            dict(stage["said"]), {key: arrays[number] for key, number in stage["arrays"].items()}
        )
        for name, stage in meta["stages"].items()
    }
    return dict(meta["fingerprints"]), stages
