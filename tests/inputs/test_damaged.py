"""A file of arrays that is none, or damaged, is told in one sentence, and nothing waits for a pipe."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from keras_robust_prune.inputs.loading import load_arrays, load_labelled, load_range
from keras_robust_prune.latency import LatencyTable

READERS = (load_arrays, load_labelled, load_range, LatencyTable.load)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__qualname__)
def test_a_pipe_is_not_waited_for(reader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "d.npz")
    with pytest.raises(ValueError, match=r"d\.npz' is no"):
        reader(str(tmp_path / "d.npz"))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
@pytest.mark.parametrize("reader", READERS[:2], ids=lambda reader: reader.__qualname__)
def test_a_damaged_archive(reader, damage: str, tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, x=np.arange(4000.0), y=np.arange(4000))
    reader(path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[2000] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"d\.npz' is (no|damaged)"):
        reader(path)
