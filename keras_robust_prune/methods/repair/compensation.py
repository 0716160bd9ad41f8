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

from keras_robust_prune.methods.repair.moments import Moments, sketch

RIDGE = 1e-4  # relative to the mean second moment of a row
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
HELD_OUT_RIDGES = (1e-3, 1e-1, 10.0)
_GATHERED = 64  # rows that an elimination carries out at once


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
    errors = _judged(moments, weights, kept, constant, RIDGES)
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
    return min(_judged(moments, weights, kept, True, HELD_OUT_RIDGES))


def _judged(
    moments: Moments,
    weights: np.ndarray,
    kept: np.ndarray,
    constant: bool,
    ridges: Sequence[float],
) -> list[float]:
    """By ridge the error on each half of the inputs of what is solved on the other, on average."""
    one, other = moments.halves
    rows, weights = np.append(kept, len(weights) - 1), weights @ sketch(weights.shape[1])

    def error(ridge: float) -> float:
        pairs = ((one, other), (other, one))
        return sum(b.error(solve(a, weights, kept, constant, ridge), rows) for a, b in pairs) / 2

    return [error(ridge) for ridge in ridges]


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
    free = np.append(kept, len(weights) - 1) if constant else kept
    if not constant:
        result[-1] = weights[-1]
    if len(free):
        gram, right = regular(moments, weights, ridge, free)
        if not constant:
            right -= np.outer(moments.gram[free, -1], weights[-1])
        result[free] = np.linalg.solve(gram, right)
    return result


def regular(
    moments: Moments, weights: np.ndarray, ridge: float, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Some rows of both sides of the normal equations with the ridge: `gram + L` and `cross + L W`."""
    strength = np.full(len(weights), ridge * max(np.diag(moments.gram)[:-1].mean(), 1e-12))
    strength[-1] = ridge * 1e-3
    gram, strength = moments.gram[np.ix_(rows, rows)], strength[rows]
    gram.flat[:: len(rows) + 1] += strength
    return gram, moments.cross[rows] + strength[:, None] * weights[rows]


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
    return present, *regular(moments, weights, ridge, present)


class Elimination:
    """Backward elimination of units from one consumer, kept up to date by Schur complements.

    A removal changes all of the inverse and all of the weights, gigabytes of traffic on a wide layer. What a score
    reads of both are the blocks of the inverse, and of `O O'`, that belong to one unit. So only these are kept up to
    date; removals are gathered, and the two matrices follow by one product for every few dozen.

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
        self._inverse = (inverse + inverse.T) / 2
        solved = self._inverse @ right
        self._products = solved @ solved.T
        self._rows, self._energy = np.searchsorted(present, rows), moments.energy
        blocks = self._rows[:, :, None], self._rows[:, None, :]
        self._inverses, self._squares = self._inverse[blocks], self._products[blocks]
        self._gather()
        self.costs = self._costs()

    def _gather(self) -> None:
        """No removal is gathered.

        With `J` the rows that went so far, `C` the inverse's columns and `E` those times `(inverse_JJ)^-1`, each as it
        was when they went, and `H` the weights that they had, the inverse is now `inverse - E C'` and the weights are
        `O - E H`. Of `H` only `P = O H'` and `M = H H'` are needed.
        """
        size, each = len(self._inverse), self._rows.shape[1]
        most = max(_GATHERED, each)
        self._c, self._e, self._p = (np.empty((size, most)) for _ in range(3))
        self._m, self._done = np.empty((most, most)), 0
        self._left = np.ones(size, bool)

    def _costs(self) -> np.ndarray:
        """Per unit with rows J `trace(O_J' (inverse_JJ)^-1 O_J)`, over the targets' energy."""
        if self._rows.shape[1] == 1:
            return np.asarray(self._squares[:, 0, 0] / self._inverses[:, 0, 0]) / self._energy
        inner = np.linalg.solve(self._inverses, self._squares)
        return np.asarray(np.einsum("ukk->u", inner)) / self._energy

    def remove(self, index: int) -> None:
        """Take the unit at a position of `costs` away; those behind it move up."""
        gone, now = self._rows[index], self._done
        new = slice(now, now + len(gone))
        if new.stop > self._c.shape[1]:
            self._bring_up_to_date()
            gone, new = self._rows[index], slice(0, len(gone))
            now = 0
        c, e, p, m = self._c[:, :now], self._e[:, :now], self._p[:, :now], self._m[:now, :now]
        column = self._inverse[:, gone] - e @ c[gone].T
        times = np.linalg.solve(column[gone].T, column.T).T
        ahead = self._products[:, gone] - p @ e[gone].T  # O H' of what goes
        before = p[gone].T - m @ e[gone].T  # H of what went, times that
        product = ahead - e @ before
        self._c[:, new], self._e[:, new], self._p[:, new] = column, times, ahead
        self._m[:now, new], self._m[new, :now], self._m[new, new] = before, before.T, product[gone]
        self._done, self._left[gone] = new.stop, False
        self._rows = np.delete(self._rows, index, 0)
        self._inverses = np.delete(self._inverses, index, 0)
        self._squares = np.delete(self._squares, index, 0)
        own, theirs = times[self._rows], product[self._rows]
        cross = own @ theirs.transpose(0, 2, 1)
        self._inverses -= own @ column[self._rows].transpose(0, 2, 1)
        self._squares += own @ product[gone] @ own.transpose(0, 2, 1)
        self._squares -= cross + cross.transpose(0, 2, 1)
        self.costs = self._costs()

    def _bring_up_to_date(self) -> None:
        """Carries out what is gathered, and lets go of the rows that went."""
        c, e, p = (x[:, : self._done] for x in (self._c, self._e, self._p))
        m = self._m[: self._done, : self._done]
        kept = np.flatnonzero(self._left)
        c, e, p = c[kept], e[kept], p[kept]
        here = np.ix_(kept, kept)
        self._inverse = self._inverse[here] - e @ c.T
        cross = (p - e @ m / 2) @ e.T
        self._products = self._products[here]
        self._products -= cross
        self._products -= cross.T
        self._rows = np.searchsorted(kept, self._rows)
        self._gather()


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
