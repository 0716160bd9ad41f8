"""Units of one reader in and out, the rest re-solved each time: what a swap costs after repair.

With rows K kept, the least squares of `compensation` is one principal pivot of `[gram | right]` on
K: the pivoted table holds the inverse, the solved weights of what is kept and the residuals of what
is not. A pivot is its own inverse, so a unit enters and leaves by the same step, and what flipping
unit J changes the squared error by is the same formula either way,

    trace(T_Jt' T_JJ^-1 T_Jt),      a cost where J is kept, a gain where it is dropped.

Reference:
    The principal pivot transform, or sweep operator: Goodnight, 1979.
"""

from __future__ import annotations

import numpy as np

from keras_robust_prune.methods.repair.compensation import RIDGE, block_energies, equations
from keras_robust_prune.methods.repair.moments import Moments


class Exchange:
    """One reader's table, pivoted on the rows of the units that are kept.

    Args:
        moments: of all rows.
        weights: what the ridge pulls towards, `(num_rows + 1, num_targets)`.
        rows: of every unit that may be kept, `(num_units, rows_per_unit)`.
        kept: which of them are, `(num_units,)` bool.
        fixed: rows that stay whatever happens, without the constant.
        ridge: relative to the mean second moment of a row.

    Attributes:
        changes: what flipping each unit changes the squared error of the targets by, over their
            energy; >= 0, a cost where the unit is kept, a gain where it is not.

    Example:
        >>> gram, weights = np.diag([4.0, 1.0, 1.0]), np.ones((3, 1))
        >>> moments = Moments(gram, gram @ weights, 6.0, 2.0)
        >>> table = Exchange(moments, weights, np.array([[0], [1]]), np.array([True, False]))
        >>> table.changes.round(2).tolist()
        [2.0, 0.5]
        >>> table.flip(0)
        >>> table.changes.round(2).tolist()
        [2.0, 0.5]
    """

    def __init__(
        self,
        moments: Moments,
        weights: np.ndarray,
        rows: np.ndarray,
        kept: np.ndarray,
        fixed: np.ndarray | None = None,
        ridge: float = RIDGE,
    ) -> None:
        self.present, gram, right = equations(moments, weights, rows, fixed, ridge)
        self.table = np.concatenate([gram, right], 1)
        self.rows = np.searchsorted(self.present, rows)
        self.energy = moments.energy
        out = np.zeros(len(gram), bool)
        out[self.rows[~kept].ravel()] = True
        self._pivot(np.flatnonzero(~out))
        self.changes = self._changes()

    @property
    def work(self) -> float:
        """Multiplications of one flip."""
        return float(self.table.size * self.rows.shape[1])

    def flip(self, unit: int) -> None:
        """Let a unit leave that is kept, or enter that is not."""
        self._pivot(self.rows[unit])
        self.changes = self._changes()

    def solved(self, kept: np.ndarray) -> np.ndarray:
        """The solved weights of all `present` rows, 0 for units that are not kept."""
        values = -self.table[:, len(self.table) :]
        values[self.rows[~kept].ravel()] = 0.0
        return values

    def _pivot(self, block: np.ndarray) -> None:
        table, other = self.table, np.ones(len(self.table), bool)
        other[block] = False
        inverse = np.linalg.inv(table[np.ix_(block, block)])
        inverse = (inverse + inverse.T) / 2
        step = inverse @ table[block]
        column = table[:, block].copy()
        column[block] = 0.0
        table -= column @ step
        table[block] = -step
        table[np.ix_(other, block)] = column[other] @ inverse
        table[np.ix_(block, block)] = inverse

    def _changes(self) -> np.ndarray:
        return block_energies(self.table, self.table[:, len(self.table) :], self.rows) / self.energy
