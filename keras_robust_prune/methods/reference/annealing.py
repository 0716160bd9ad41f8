"""Simulated annealing over candidates: which of them are accepted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from keras_robust_prune.methods.schedules import falling_temperature


def anneal(
    num_candidates: int,
    count: int,
    energy: Callable[[int, list[int]], float],
    generator: np.random.Generator,
    temperature: Callable[[float], float] = falling_temperature,
) -> list[int]:
    """Accept candidates by simulated annealing until there are enough.

    Candidates are offered in order. The first is accepted, and any whose energy is not above that
    of the one accepted before; another with probability `exp(-rise / temperature)`. Those refused
    are offered again in the next round. A round that accepts none ends with the lowest energy
    accepted, so there is always an end.

    Args:
        num_candidates: they are numbered from 0, the most promising first.
        count: how many shall be accepted; all of them if there are fewer.
        energy: `energy(candidate, accepted)` of accepting it next, given those accepted so far.
        generator: what chance draws from.
        temperature: by the fraction of `count` that is accepted, [0, 1).

    Returns:
        The accepted, in order; none of them twice.

    Example:
        >>> anneal(
        ...     3,
        ...     2,
        ...     lambda candidate, accepted: [0.3, 0.9, 0.1][candidate],
        ...     np.random.default_rng(0),
        ...     temperature=lambda progress: 1e-4,
        ... )
        [0, 2]

    Reference:
        [Meng et al., 2023](https://arxiv.org/abs/2204.00783); their program starts cold and lets
        the temperature rise.
    """
    waiting = list(range(num_candidates))
    accepted: list[int] = []
    last = math.inf
    while waiting and len(accepted) < count:
        refused: list[tuple[float, int]] = []
        before = len(accepted)
        for candidate in waiting:
            value = energy(candidate, accepted)
            level = temperature(len(accepted) / count)
            if value <= last or generator.random() < math.exp((last - value) / level):
                accepted.append(candidate)
                last = value
                if len(accepted) == count:
                    return accepted
            else:
                refused.append((value, candidate))
        if len(accepted) == before:
            last, best = min(refused)
            accepted.append(best)
            refused.remove((last, best))
        waiting = [candidate for _, candidate in refused]
    return accepted
