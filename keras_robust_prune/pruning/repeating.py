"""Validation data that is gone through after every pruning step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.inputs.loading import MOST


def repeatable(data: Any) -> Any:
    """Validation data that can be gone through after every step: a generator's batches as one."""
    if not isinstance(data, Iterator):
        return data
    batches: list[Any] = []
    seen = 0
    for batch in data:
        batches.append(batch)
        seen += len(np.asarray(batch[-1]))
        if seen >= MOST:
            break
    nest = backends.tensorflow().nest
    return nest.map_structure(lambda *parts: np.concatenate(parts), *batches)
