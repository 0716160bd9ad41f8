"""Second moments of what a consumer sees and of what it should say.

Rows are collected on the *pruned* network; targets are the *dense* network's pre-activations, so
that each consumer also corrects the error of those before it. Where a consumer's outputs are added to
others, the target is what the sum needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune import memory
from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.methods.repair.consumers import branch_of, matrix, moments_of_rows, rows_of
from keras_robust_prune.methods.repair.frontier import Part
from keras_robust_prune.primitives.gaussian import Gaussian
from keras_robust_prune.synthesis.activity import Activity, gain
from keras_robust_prune.synthesis.probe import ActivationProbe

_ROWS = 10_000  # positions that are measured, over one half of the inputs
SKETCHED = 256  # targets that are left where halves are judged


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of a consumer's rows and targets.

    Attributes:
        gram: `(num_rows + 1, num_rows + 1)` float64; the last row is the constant 1.
        cross: `(num_rows + 1, num_targets)`.
        squares: mean square of the targets, summed over them.
        energy: their variance, likewise: the unit in which errors are given.
        halves: the same of every other input, so that what is solved on one half can be judged on
            the other, with the targets of `sketch`; empty where nothing was measured.
        count: how many rows were measured; 0 for an estimate from weights alone.
    """

    gram: np.ndarray
    cross: np.ndarray
    squares: float
    energy: float
    halves: tuple[Moments, ...] = ()
    count: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes that its arrays take."""
        own = self.gram.nbytes + self.cross.nbytes
        return own + sum(half.nbytes for half in self.halves)

    def error(self, weights: np.ndarray, rows: np.ndarray | None = None) -> float:
        """Mean squared error of the targets with such weights, over their energy; 0 is perfect.

        Args:
            weights: `(num_rows + 1, num_targets)`.
            rows: those that are not all 0, which saves the others' products; None looks at all.
        """
        gram, cross = self.gram, self.cross
        if rows is not None:
            weights, gram, cross = weights[rows], gram[np.ix_(rows, rows)], cross[rows]
        fit = np.einsum("ij,ij->", weights, gram @ weights - 2 * cross)
        return max(float(fit) + self.squares, 0.0) / self.energy


def sketch(num_targets: int) -> np.ndarray:
    """What turns many targets into fewer whose squared errors sum, on average, to the same.

    To judge two solutions, or two sets of units, takes their errors' sizes, not every target of them; and on a wide
    layer products with all targets are most of the work.

    Args:
        num_targets: how many there are.

    Returns:
        `(num_targets, 256)`, random signs over 16: sums of squares keep their mean, with a relative deviation below
        sqrt(2 / 256). The identity where that makes no fewer. Always the same.

    Reference:
        [Achlioptas, 2003](https://doi.org/10.1016/S0022-0000(03)00025-4).

    Example:
        >>> sketch(3).shape, sketch(1000).shape
        ((3, 3), (1000, 256))
        >>> bool(0.8 < np.square(np.ones(1000) / 1000**0.5 @ sketch(1000)).sum() < 1.2)
        True
    """
    if num_targets <= SKETCHED:
        return np.eye(num_targets)
    signs = np.random.default_rng(num_targets).integers(0, 2, (num_targets, SKETCHED))
    return (2.0 * signs - 1.0) / np.sqrt(SKETCHED)


def measure(
    dense: Graph,
    pruned: Graph,
    name: str,
    sources: Sequence[Sequence[np.ndarray]],
    seed: int = 0,
    parts: tuple[Part, Part] | None = None,
    strategy: Any = None,
) -> Moments:
    """Second moments of one consumer on some inputs.

    Args:
        dense: the network to learn from, activations split off.
        pruned: the network as it stands, in full shape, activations split off.
        name: the consumer.
        sources: kinds of inputs that count alike, however many they are; each one array per network
            input.
        seed: of the positions drawn where there are more than enough.
        parts: where to begin in the dense and in the pruned network; None begins at the inputs.
        strategy: of `tf.distribute`, over whose replicas inputs are spread; None for one.
    """
    parts = parts or (Part(dense, sources), Part(pruned, sources))
    probed = _Probed(dense, pruned, name, parts, strategy)
    rng = np.random.default_rng([seed, 2])
    kinds = range(len(sources))
    if min(len(inputs[0]) for inputs in sources) < 2:
        return _mean([probed.moments(kind, slice(None), rng)[0] for kind in kinds])
    found = [[probed.moments(kind, slice(k, None, 2), rng) for kind in kinds] for k in (0, 1)]
    whole, halves = ([_mean([both[index] for both in half]) for half in found] for index in (0, 1))
    return dataclasses.replace(_mean(whole), halves=tuple(halves))


def _mean(parts: Sequence[Moments]) -> Moments:
    """The moments of several sets of inputs together, each counting alike."""
    if len(parts) == 1:
        return parts[0]
    gram = np.mean([part.gram for part in parts], axis=0)
    cross = np.mean([part.cross for part in parts], axis=0)
    squares = sum(part.squares for part in parts) / len(parts)
    count = sum(part.count for part in parts)
    return Moments(gram, cross, squares, _energy(squares, cross), count=count)


def as_remembered(moments: Moments, weights: np.ndarray, activity: Activity) -> Moments:
    """Moments of the dense network's own rows, every channel as active as BatchNorm remembers it.

    Args:
        moments: measured where the targets are what the weights make of the rows.
        weights: those, `(num_rows + 1, num_targets)`.
        activity: of the tensor that the rows are taken from, a channel per row or several rows per
            channel, tap by tap.

    Example:
        >>> gram, weights = np.array([[2.0, 1.0], [1.0, 1.0]]), np.array([[1.0], [0.0]])
        >>> found = as_remembered(
        ...     Moments(gram, gram @ weights, 2.0, 1.0), weights, Activity([3.0], None)
        ... )
        >>> found.gram.tolist(), found.energy
        ([[18.0, 3.0], [3.0, 1.0]], 9.0)
    """
    width = len(activity.mean)
    seen = moments.gram[-1, :-1].reshape(-1, width).mean(0)
    taps = (len(weights) - 1) // width
    factor = np.append(np.tile(gain(activity, seen), taps), 1.0)

    def scaled(part: Moments, weights: np.ndarray) -> Moments:
        gram = part.gram * np.outer(factor, factor)
        cross = gram @ weights
        squares = float(np.einsum("ij,ij->", weights, cross))
        return Moments(gram, cross, squares, _energy(squares, cross), count=part.count)

    judged = weights @ sketch(weights.shape[1])
    halves = tuple(scaled(half, judged) for half in moments.halves)
    return dataclasses.replace(scaled(moments, weights), halves=halves)


def _energy(squares: float, cross: np.ndarray) -> float:
    """The targets' variance; the last row of `cross` holds their means."""
    return max(squares - float(cross[-1] @ cross[-1]), 1e-12)


class _Probed:
    """Rows and targets of one consumer."""

    def __init__(
        self,
        dense: Graph,
        pruned: Graph,
        name: str,
        parts: tuple[Part, Part],
        strategy: Any,
    ) -> None:
        calls = dense.calls[name]
        self.layer = pruned.layers[name]
        self.branch = branch_of(pruned, name)
        self.shape = matrix(pruned, name).shape
        sources, targets = [node.inputs[0] for node in calls], [node.ref for node in calls]
        others = self.branch.others if self.branch else ()
        self.count, total = len(calls), len(calls) + len(others)
        here, there = [*sources, *others], [*targets, *others]
        first, second = parts
        if dense is pruned:
            self.taps, self.where = (
                [ActivationProbe(first.graph, [*here, *there], strategy)],
                [(0, 0), (0, total)],
            )
            self.sources = [first.sources]
        else:
            self.taps = [
                ActivationProbe(second.graph, here, strategy),
                ActivationProbe(first.graph, there, strategy),
            ]
            self.where = [(0, 0), (1, 0)]
            self.sources = [second.sources, first.sources]
        self.total = total

    def batches(self, kind: int, which: slice) -> Iterator[tuple[list[Any], list[Any], float]]:
        """What the pruned network computes and what the dense one does, batch by batch, and the batch's share."""
        size = min(taps.batch_size() for taps in self.taps)
        arrays = [[x[which] for x in sources[kind]] for sources in self.sources]
        count = len(arrays[0][0])
        for k in range(0, count, size):
            found = [
                taps.batch([x[k : k + size] for x in inputs])
                for taps, inputs in zip(self.taps, arrays, strict=True)
            ]
            now, then = (found[index][first : first + self.total] for index, first in self.where)
            yield now, then, min(size, count - k) / count

    def moments(self, kind: int, which: slice, rng: np.random.Generator) -> tuple[Moments, ...]:
        """Moments on some of the inputs of one kind, with all targets and with those of `sketch`."""
        num_rows, num_targets = self.shape
        gram, cross = np.zeros((num_rows, num_rows)), np.zeros((num_rows, num_targets))
        total, squares, few, sketched = 0, 0.0, sketch(num_targets), 0.0
        for now, then, share in self.batches(kind, which):
            pairs = zip(then[self.count :], now[self.count :], strict=True)
            missing = [np.asarray(a) - np.asarray(b) for a, b in pairs]
            for source, target in zip(now[: self.count], then[: self.count], strict=True):
                target = np.asarray(target)
                if self.branch:
                    target = target + sum(missing) / self.branch.scale
                rows, target = self._drawn(source, target, share, rng)
                rows = np.concatenate([rows, np.ones((len(rows), 1))], 1)  # float64
                target = target.astype("float64")
                gram += rows.T @ rows
                cross += rows.T @ target
                squares += float(np.square(target).sum())
                sketched += float(np.square(target @ few).sum())
                total += len(rows)
        gram /= total
        sizes = (cross / total, squares / total), (cross @ few / total, sketched / total)
        return tuple(
            Moments(gram, seen, size, _energy(size, seen), count=total) for seen, size in sizes
        )

    def _drawn(
        self, source: Any, target: np.ndarray, share: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and targets at as many positions as are wanted of a batch; rows take memory: a few inputs at a time."""
        count, positions = len(target), int(np.prod(target.shape[1:-1]))
        target = target.reshape(-1, target.shape[-1])
        most = max(1, round(_ROWS * share))
        chosen = np.arange(len(target))
        if len(target) > most:
            chosen = np.sort(rng.choice(len(target), most, replace=False))
        numbers = memory.most(memory.ROWS) / 4
        each = max(1, int(numbers // max(positions * self.shape[0], 1)))
        found = []
        for first in range(0, count, each):
            mine = chosen[np.searchsorted(chosen, first * positions) :]
            mine = mine[: np.searchsorted(mine, (first + each) * positions)]
            if len(mine):
                rows = np.asarray(rows_of(self.layer, source[first : first + each]))
                found.append(rows[mine - first * positions])
        return np.concatenate(found), target[chosen]


def estimate(dense: Graph, name: str, tensors: Mapping[Ref, Gaussian | None]) -> Moments | None:
    """The same from weights and BatchNorm statistics alone (tier T0); None where nothing is known.

    Args:
        dense: the network, activations split off.
        name: the consumer.
        tensors: what `analysis.gaussian.propagate` gave.
    """
    layer, calls = dense.layers[name], dense.calls[name]
    inner = tensors.get(calls[0].inputs[0])
    rows = None if inner is None or len(calls) > 1 else moments_of_rows(layer, inner)
    if rows is None:
        return None
    weights = matrix(dense, name)
    mean = np.append(rows.mean, 1.0)
    gram = np.outer(mean, mean)
    gram[:-1, :-1] += rows.covariance
    cross = gram @ weights
    squares = float(np.einsum("ij,ij->", weights, cross))
    return Moments(gram, cross, squares, _energy(squares, cross))
