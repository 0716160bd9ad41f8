"""Repair what reads the units that went: re-solve its weights on what is left.

With second moments `gram = E[a a']` of a consumer's rows (and a constant) and `cross = E[a y']` with
its targets, the weights are

    O = (gram + L)^-1 (cross + L W),      L a ridge towards the weights W they had,

and the unit whose rows J cost least, `trace(O_J' ((gram + L)^-1_JJ)^-1 O_J)`, goes next: backward
elimination, in which each removal updates inverse and weights by a Schur complement. Everything is
float64.

How strong the ridge is decides much: a layer behind Flatten may have more rows than there are
inputs, and a fit without a ridge overfits. So the strength is the one whose fit to each
half of the inputs does best on the other half.

Reference:
    The score is the optimal brain surgeon's (Hassibi & Stork, 1992) for a whole unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_robust_prune.methods.repair.moments import Moments

RIDGE = 1e-4  # relative to the mean second moment of a row
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
HELD_OUT_RIDGES = (1e-3, 1e-1, 10.0)


def best_ridge(
    moments: Moments, weights: np.ndarray, kept: np.ndarray, constant: bool = True
) -> float:
    """The smallest ridge whose solution on each half of the inputs fits the other half well.

    Well is within 2 % of the best: a ridge that changes nothing else would hide what is redundant.

    Args:
        moments: of all rows, with halves; without them the answer is `RIDGE`.
        weights: what the ridge pulls towards, `(num_rows + 1, num_targets)`.
        kept: rows that stay, ascending, without the constant.
        constant: whether the constant may change as well.
    """
    if not moments.halves:
        return RIDGE
    one, other = moments.halves

    def error(ridge: float) -> float:
        pairs = ((one, other), (other, one))
        return sum(b.error(solve(a, weights, kept, constant, ridge)) for a, b in pairs)

    errors = [error(ridge) for ridge in RIDGES]
    return next(r for r, e in zip(RIDGES, errors, strict=True) if not e > 1.02 * min(errors))


def held_out_error(moments: Moments, weights: np.ndarray, kept: np.ndarray) -> float:
    """Error of the targets on inputs that the repair has not seen, once only some rows are left.

    What is solved on each half of the inputs is judged on the other, with the ridge that does best.

    Args:
        moments: of all rows, with halves; of an estimate from weights alone, which is fitted to no input, the error
            is that of its own solution.
        weights: what the ridge pulls towards, `(num_rows + 1, num_targets)`.
        kept: rows that stay, ascending, without the constant.

    Returns:
        Mean squared error over the targets' energy; about 1 where nothing is left to say.
    """
    if not moments.halves:
        return moments.error(solve(moments, weights, kept, True))
    one, other = moments.halves

    def error(ridge: float) -> float:
        pairs = ((one, other), (other, one))
        return sum(b.error(solve(a, weights, kept, True, ridge)) for a, b in pairs) / 2

    return min(error(ridge) for ridge in HELD_OUT_RIDGES)


def solve(
    moments: Moments, weights: np.ndarray, kept: np.ndarray, constant: bool, ridge: float = RIDGE
) -> np.ndarray:
    """Weights for the kept rows that come closest to the targets; all other rows are 0.

    Args:
        moments: of all rows.
        weights: what the ridge pulls towards, `(num_rows + 1, num_targets)`.
        kept: rows that stay, ascending, without the constant.
        constant: whether the constant may change as well.
        ridge: relative to the mean second moment of a row.
    """
    result = np.zeros_like(weights)
    gram, right = regular(moments, weights, ridge)
    free = np.append(kept, len(weights) - 1) if constant else kept
    if not constant:
        right = right - np.outer(moments.gram[:, -1], weights[-1])
        result[-1] = weights[-1]
    if len(free):
        result[free] = np.linalg.solve(gram[np.ix_(free, free)], right[free])
    return result


def regular(moments: Moments, weights: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of the normal equations with the ridge: `gram + L` and `cross + L W`."""
    strength = np.full(len(weights), ridge * max(np.diag(moments.gram)[:-1].mean(), 1e-12))
    strength[-1] = ridge * 1e-3
    return moments.gram + np.diag(strength), moments.cross + strength[:, None] * weights


def equations(
    moments: Moments,
    weights: np.ndarray,
    rows: np.ndarray,
    fixed: np.ndarray | None,
    ridge: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of units, the fixed ones and the constant, ascending, and their normal equations."""
    present = np.concatenate([rows.ravel(), *([] if fixed is None else [fixed])])
    present = np.append(np.sort(present), len(weights) - 1)
    gram, right = regular(moments, weights, ridge)
    return present, gram[np.ix_(present, present)], right[present]


def block_energies(inverse: np.ndarray, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Per unit with rows J `trace(values_J' (inverse_JJ)^-1 values_J)`, `(num_units,)`."""
    inner = inverse[rows[:, :, None], rows[:, None, :]]
    outer = values[rows]
    if rows.shape[1] == 1:
        return np.asarray(np.square(outer[:, 0]).sum(1) / inner[:, 0, 0])
    return np.einsum("ugk,ugk->u", outer, np.linalg.solve(inner, outer))


class Elimination:
    """Backward elimination of units from one consumer, kept up to date by Schur complements.

    Attributes:
        costs: what removing each remaining unit adds to the squared error of the targets, over
            their energy; one number per remaining unit, in the order given.

    Example:
        >>> gram, weights = np.diag([4.0, 1.0, 1.0]), np.ones((3, 1))
        >>> moments = Moments(gram, gram @ weights, 6.0, 2.0)
        >>> Elimination(moments, weights, np.array([[0], [1]])).costs.round(2).tolist()
        [2.0, 0.5]
    """

    def __init__(
        self,
        moments: Moments,
        weights: np.ndarray,
        rows: np.ndarray,
        fixed: np.ndarray | None = None,
        ridge: float = RIDGE,
    ) -> None:
        present, gram, right = equations(moments, weights, rows, fixed, ridge)
        inverse = np.linalg.inv(gram)
        self.inverse = (inverse + inverse.T) / 2
        self.weights = self.inverse @ right
        self.rows = np.searchsorted(present, rows)
        self.energy = moments.energy
        self.costs = self._costs()

    def _costs(self) -> np.ndarray:
        return block_energies(self.inverse, self.weights, self.rows) / self.energy

    def remove(self, index: int) -> None:
        """Take the unit at a position of `costs` away; those behind it move up."""
        gone = self.rows[index]
        both = np.concatenate([self.inverse[gone], self.weights[gone]], 1)
        step = np.linalg.solve(self.inverse[np.ix_(gone, gone)], both)
        column = self.inverse[:, gone]
        left = np.ones(len(self.inverse), bool)
        left[gone] = False
        self.weights = (self.weights - column @ step[:, len(left) :])[left]
        self.inverse = (self.inverse - column @ step[:, : len(left)])[np.ix_(left, left)]
        self.rows = (np.cumsum(left) - 1)[np.delete(self.rows, index, 0)]
        self.costs = self._costs() if len(self.rows) else np.zeros(0)


def eliminate(
    parts: Sequence[Elimination],
    units: Sequence[int],
    count: int,
) -> list[tuple[int, float]]:
    """Remove units one at a time, each time the one that costs all consumers least.

    Args:
        parts: one elimination per consumer, over the same units.
        units: their numbers.
        count: how many shall go.

    Returns:
        `(unit, cost)` in the order of removal; costs are shares of the targets' energy, summed over
        consumers.
    """
    left, order = list(units), []
    for _ in range(count):
        costs = np.sum([part.costs for part in parts], axis=0)
        index = int(np.argmin(costs))
        order.append((left.pop(index), float(costs[index])))
        for part in parts:
            part.remove(index)
    return order
