"""What layers are asked about and answer with, where that is more than a number or an array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Statistics(NamedTuple):
    """Names of the weights that hold the mean and the variance that a layer's input had in training."""

    mean: str
    variance: str


class InputHint(NamedTuple):
    """A range of inputs, and how a layer knows it, as a clause: "rescales by 0.00392"."""

    lower: Any
    upper: Any
    clause: str


class Kept(NamedTuple):
    """Which entries of a tensor stay.

    Attributes:
        axis: the axis that units lie on, without the batch axis.
        stay: for every entry along it, whether it stays.
    """

    axis: int
    stay: np.ndarray


class Renumbered(NamedTuple):
    """A call that names entries by their numbers, once some are gone; `config` holds changes of the configuration."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    config: Mapping[str, Any]
