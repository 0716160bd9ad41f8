"""What parts of a long pruning step came to, so that an interrupted run need not take them again.

Whatever is kept is a function of the network, the settings and the seed: taking it from where it is kept is the same as
computing it. `Stages` keeps nothing and costs nothing; `pruning.checkpoint` has those that keep everything in a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Stage(NamedTuple):
    """What one part came to.

    Attributes:
        said: whatever JSON holds.
        arrays: by name; with numbers, never objects.
    """

    said: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


class Stages:
    """Results of parts of a run by name; these keep nothing.

    Attributes:
        keeps: whether anything is kept.
        due: whether what is put now is written at once; who has to copy much puts only then.
    """

    keeps: bool = False
    due: bool = False

    def get(self, name: str) -> Stage | None:
        """What a part came to, or had come to when the run was interrupted; None if it is not known."""
        return None

    def put(self, name: str, stage: Stage) -> None:
        """Keep what a part came to, instead of what it had come to before."""

    def drop(self, *names: str) -> None:
        """Forget parts that a later one has in it; all of them without names."""

    def note(self, state: Any) -> None:
        """Keep the state after a whole step."""


NONE = Stages()
