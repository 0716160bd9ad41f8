"""What an attacker may do: move an input by at most a radius, within the valid range."""

from __future__ import annotations

import dataclasses

import numpy as np

NORMS = ("linf", "l2")


@dataclasses.dataclass(frozen=True, eq=False)
class Threat:
    """A ball around each input, cut off at the input range.

    Distances are counted in units of `scale`: 1 where the radius was given in the inputs' own unit, the width of each
    feature's range where it was given in percent.

    Attributes:
        lower: least valid value of each feature, `(num_features,)`.
        upper: greatest valid value of each feature, `(num_features,)`.
        scale: the unit of distance of each feature, `(num_features,)`, > 0.
        eps: the radius.
        norm: `"linf"` or `"l2"`.
        shape: an example's own shape, in which neighbouring features are known.
    """

    lower: np.ndarray
    upper: np.ndarray
    scale: np.ndarray
    eps: float
    norm: str
    shape: tuple[int, ...]

    def clip(self, x: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """`moved` brought back into the range and the ball around `x`; all `(num_inputs, num_features)`."""
        shift = (moved - x) / self.scale
        if self.norm == "linf":
            shift = np.clip(shift, -self.eps, self.eps)
        else:
            length = np.linalg.norm(shift, axis=1, keepdims=True)
            shift = shift * np.minimum(1.0, self.eps / np.maximum(length, 1e-30))
        return np.clip(x + shift * self.scale, self.lower, self.upper).astype(np.float32)

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A point of the ball around each row of `x`, uniform before the range cuts it off."""
        if self.norm == "linf":
            shift = rng.uniform(-self.eps, self.eps, x.shape)
        else:
            shift = rng.standard_normal(x.shape)
            shift /= np.maximum(np.linalg.norm(shift, axis=1, keepdims=True), 1e-30)
            shift *= self.eps * rng.uniform(size=(len(x), 1)) ** (1.0 / x.shape[1])
        moved = x + shift.astype(np.float32) * self.scale
        return np.clip(moved, self.lower, self.upper).astype(np.float32)
