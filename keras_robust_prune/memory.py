"""How much memory a run may take, shared among what takes it.

Whatever holds large arrays asks `most` how large they may be. Without a limit that is what suits most machines; within
one it is a share of what TensorFlow and the network leave of it, if that is less. Batches then get smaller and more is
computed anew; what does not fit at all is refused before the work. The limit counts TensorFlow and the run, not what
else the process holds, so that the same limit gives the same result.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

TENSORFLOW = 1.1e9
"""Bytes that TensorFlow, its compiled functions and Python take before anything is done."""
_COPIES = 6  # of the network's weights: as it came, dense, pruned, masked, and two models of Keras
_LEAST = 2e8  # bytes with which any work can be done


def give_back_what_is_freed() -> None:
    """TensorFlow gives freed memory back at once; only before its first tensor, which is when it reads this.

    Its own pool keeps what was freed: 2 GB on VGG16. Small networks take a tenth longer without it.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")


class Part(NamedTuple):
    """What takes memory.

    Attributes:
        usual: bytes that it may take where there is no limit.
        share: of what a limit leaves, at most.
    """

    usual: float
    share: float


TENSORS = Part(2**29, 0.15)
"""All tensors of one batch on its way through a network; with gradients it takes about twice as much."""
CUTS = Part(3 * 2**28, 0.15)
"""Tensors in the middle of a network, kept for all inputs (`methods.repair.frontier`)."""
MOMENTS = Part(1e9, 0.15)
"""Second moments that are remembered (`methods.run`)."""
PAIRS = Part(8e8, 0.1)
"""The second moments of one layer's rows; while it is solved there are about four times as many."""
ROWS = Part(2**26, 0.02)
"""Rows of a layer that are made at once (`methods.repair.moments`)."""
EXAMPLES = Part(2**29, 0.15)
"""Real inputs."""
TRAINING = Part(4e9, 0.5)
"""All tensors of one batch of distillation, with their gradients; TensorFlow holds about half of them at once."""

_free: ContextVar[float | None] = ContextVar("free", default=None)


def most(part: Part) -> float:
    """How many bytes something may take.

    Example:
        >>> with limited(3):
        ...     most(CUTS), most(MOMENTS), most(ROWS)
        (285000000.0, 285000000.0, 38000000.0)
        >>> most(CUTS) == CUTS.usual
        True
    """
    free = _free.get()
    return part.usual if free is None else min(part.usual, part.share * free)


@contextlib.contextmanager
def limited(gigabytes: float | None, weights: float = 0.0) -> Iterator[None]:
    """What is computed inside keeps to a limit, in this thread.

    Args:
        gigabytes: 10^9 bytes; None for no limit.
        weights: bytes of the network's weights.

    Raises:
        ValueError: it is no number above 0, or nothing is left of it.
    """
    token = _free.set(None if gigabytes is None else _left(gigabytes, weights))
    try:
        yield
    finally:
        _free.reset(token)


def _left(gigabytes: float, weights: float) -> float:
    """Bytes that TensorFlow and a network leave of a limit."""
    if not 0 < gigabytes < math.inf:
        raise ValueError(
            f"memory is {gigabytes!r}, but it is a number of gigabytes above 0, such as 4."
        )
    taken = TENSORFLOW + _COPIES * weights
    if 1e9 * gigabytes < taken + _LEAST:
        least = math.ceil((taken + _LEAST) / 1e8) / 10
        raise ValueError(
            f"memory is {gigabytes:g} GB, but TensorFlow and the network's weights take about {taken / 1e9:.1f} GB."
            f" Give at least {least:g}."
        )
    return 1e9 * gigabytes - taken
