"""Second moments of what a reader sees and of what it should say.

Rows are collected on the *pruned* network; targets are the *dense* network's pre-activations, so
that each reader also corrects the error of those before it. Where a reader's outputs are added to
others, the target is what the sum needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_robust_prune.analysis.gaussian import Gaussian, tile
from keras_robust_prune.analysis.tapping import Taps
from keras_robust_prune.network.graph import Graph, Ref
from keras_robust_prune.surgery.readers import branch_of, matrix, rows_of

_ROWS = 50_000  # positions that are measured, over one half of the inputs


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of a reader's rows and targets.

    Attributes:
        gram: `(num_rows + 1, num_rows + 1)` float64; the last row is the constant 1.
        cross: `(num_rows + 1, num_targets)`.
        squares: mean square of the targets, summed over them.
        energy: their variance, likewise: the unit in which errors are given.
        halves: the same of every other input, so that what is solved on one half can be judged on
            the other; empty where nothing was measured.
    """

    gram: np.ndarray
    cross: np.ndarray
    squares: float
    energy: float
    halves: tuple[Moments, ...] = ()

    def error(self, weights: np.ndarray) -> float:
        """Mean squared error of the targets with such weights, over their energy; 0 is perfect."""
        fit = np.einsum("ij,ij->", weights, self.gram @ weights - 2 * self.cross)
        return max(float(fit) + self.squares, 0.0) / self.energy


def measure(
    dense: Graph, pruned: Graph, name: str, inputs: Sequence[np.ndarray], seed: int = 0
) -> Moments:
    """Second moments of one reader on some inputs.

    Args:
        dense: the network to imitate, activations split off.
        pruned: the network as it stands, in full shape, activations split off.
        name: the reader.
        inputs: one array per network input.
        seed: of the positions drawn where there are more than enough.
    """
    rng = np.random.default_rng([seed, 2])
    if len(inputs[0]) < 2:
        return _measured(dense, pruned, name, inputs, rng)
    one, other = (_measured(dense, pruned, name, [x[k::2] for x in inputs], rng) for k in (0, 1))
    return joined(one, other)


def joined(one: Moments, other: Moments) -> Moments:
    """The moments of two halves together."""
    gram, cross = (one.gram + other.gram) / 2, (one.cross + other.cross) / 2
    squares = (one.squares + other.squares) / 2
    return Moments(gram, cross, squares, _energy(squares, cross), (one, other))


def _energy(squares: float, cross: np.ndarray) -> float:
    """The targets' variance; the last row of `cross` holds their means."""
    return max(squares - float(cross[-1] @ cross[-1]), 1e-12)


def _measured(
    dense: Graph, pruned: Graph, name: str, inputs: Sequence[np.ndarray], rng: np.random.Generator
) -> Moments:
    calls = dense.calls[name]
    layer = pruned.layers[name]
    branch = branch_of(pruned, name)
    sources, targets = [node.inputs[0] for node in calls], [node.ref for node in calls]
    others = branch.others if branch else ()
    here, there = Taps(pruned, [*sources, *others]), Taps(dense, [*targets, *others])
    count = len(inputs[0])
    batch = min(here.batch_size(), there.batch_size())
    num_rows, num_targets = matrix(pruned, name).shape
    gram, cross = np.zeros((num_rows, num_rows)), np.zeros((num_rows, num_targets))
    total, squares = 0, 0.0
    for k in range(0, count, batch):
        part = [x[k : k + batch] for x in inputs]
        now, then = here.batch(part), there.batch(part)
        missing = [
            np.asarray(a) - np.asarray(b)
            for a, b in zip(then[len(calls) :], now[len(calls) :], strict=True)
        ]
        for index in range(len(calls)):
            target = np.asarray(then[index])
            if branch:
                target = target + sum(missing) / branch.scale
            target = target.reshape(-1, target.shape[-1])
            source = np.asarray(rows_of(layer, now[index]))
            rows, target = _drawn(source, target, len(part[0]), count, rng)
            rows = np.concatenate([rows, np.ones((len(rows), 1), rows.dtype)], 1)
            gram += rows.T @ rows
            cross += rows.T @ target
            squares += float(np.square(target, dtype="float64").sum())
            total += len(rows)
    gram, cross, squares = gram / total, cross / total, squares / total
    return Moments(gram, cross, squares, _energy(squares, cross))


def _drawn(
    rows: np.ndarray, targets: np.ndarray, inputs: int, of: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    most = max(1, _ROWS * inputs // of)
    if len(rows) <= most:
        return rows, targets
    chosen = rng.choice(len(rows), most, replace=False)
    return rows[chosen], targets[chosen]


def estimate(dense: Graph, name: str, tensors: Mapping[Ref, Gaussian | None]) -> Moments | None:
    """The same from weights and BatchNorm statistics alone (tier T0); None where nothing is known.

    Args:
        dense: the network, activations split off.
        name: the reader.
        tensors: what `analysis.gaussian.propagate` gave.
    """
    layer, calls = dense.layers[name], dense.calls[name]
    inner = tensors.get(calls[0].inputs[0])
    if inner is None or len(calls) > 1 or layer.kind == "SeparableConv2D":
        return None
    weights = matrix(dense, name)
    rows = tile(inner, (len(weights) - 1) // len(inner.mean))
    mean = np.append(rows.mean, 1.0)
    gram = np.outer(mean, mean)
    gram[:-1, :-1] += rows.covariance
    cross = gram @ weights
    squares = float(np.einsum("ij,ij->", weights, cross))
    return Moments(gram, cross, squares, _energy(squares, cross))
