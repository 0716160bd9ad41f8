"""Repair what reads the units that went: re-solve its weights on what is left.

A *reader* is a layer that mixes units linearly: Dense, convolutions, the pointwise part of a separable one. Its rows are
its inputs (for a convolution every tap of every channel), collected on the *pruned* network; its targets are the *dense*
network's pre-activations, so that each reader also corrects the error of those before it. With second moments
`gram = E[a a']` and `cross = E[a y']` of rows `a` (with a constant) and targets `y`, the weights are

    O = (gram + L)^-1 (cross + L W),      L a ridge towards the weights W they had,

and the unit whose rows J cost least, `trace(O_J' ((gram + L)^-1_JJ)^-1 O_J)`, goes next: backward elimination, in which
each removal updates inverse and weights by a Schur complement. Everything is float64.

Reference:
    The score is the optimal brain surgeon's (Hassibi & Stork, 1992) for a whole unit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune.analysis.tapping import Taps
from keras_robust_prune.network import kerases
from keras_robust_prune.network.graph import Graph, Layer, Ref
from keras_robust_prune.network.sites import Site
from keras_robust_prune.network.tracing import CONSUMES

RIDGE = 1e-4  # relative to the mean second moment of a row
_ROWS = 100_000  # positions that are measured, over all inputs


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of a reader's rows and targets.

    Attributes:
        gram: `(num_rows + 1, num_rows + 1)` float64; the last row is the constant 1.
        cross: `(num_rows + 1, num_targets)`.
        squares: mean square of the targets, summed over them.
        energy: their variance, likewise: the unit in which errors are given.
    """

    gram: np.ndarray
    cross: np.ndarray
    squares: float
    energy: float

    def error(self, weights: np.ndarray) -> float:
        """Mean squared error of the targets with such weights, over their energy; 0 is perfect."""
        fit = np.einsum("ij,ij->", weights, self.gram @ weights - 2 * self.cross)
        return max(float(fit) + self.squares, 0.0) / self.energy


def kernel_name(layer: Layer) -> str | None:
    """The kernel that can be re-solved, or None: then removal is all that is done to the layer."""
    if layer.kind == "Dense":
        return "kernel"
    if layer.kind in ("Conv1D", "Conv2D") and layer.config.get("groups", 1) == 1:
        return "kernel"
    if layer.kind == "SeparableConv2D":
        return "pointwise_kernel"
    return None


def readers(graph: Graph, sites: Sequence[Site]) -> tuple[str, ...]:
    """Layers that read units of the given Sites and can be re-solved, in the order of the graph."""
    consuming = {name for site in sites for name in site.consumers}
    found = []
    for node in graph.nodes:
        layer = graph.layer_of(node)
        if node.layer in consuming and kernel_name(layer) and node.layer not in found:
            found.append(node.layer)
    return tuple(found)


def unit_rows(site: Site, layer: Layer) -> np.ndarray:
    """Rows of a reader's weight matrix that belong to each unit, `(num_units, rows_per_unit)`.

    Example:
        A unit before a 3x3 convolution owns 9 rows, one per tap.
    """
    name = kernel_name(layer)
    (slot,) = [s for s in site.having(CONSUMES) if (s.layer, s.weight) == (layer.name, name)]
    shape = layer.weights[slot.weight].shape
    taps = int(np.prod(shape[: slot.axis], dtype=int))
    rows = np.arange(taps)[None, :, None] * shape[slot.axis] + slot.positions[:, None, :]
    return rows.reshape(len(slot.positions), -1)


def rows_of(layer: Layer, tensor: Any) -> Any:
    """A reader's input as rows, `(positions, num_rows)`, in the order of its kernel's entries."""
    tf = kerases.tensorflow()
    if layer.kind == "Dense":
        return tf.reshape(tensor, (-1, tensor.shape[-1]))
    config = layer.config
    if layer.kind == "SeparableConv2D":
        strides = [1, *_pair(config["strides"]), 1]
        padding = config["padding"].upper()
        kernel = layer.weights["depthwise_kernel"]
        dilations = _pair(config["dilation_rate"])
        rows = tf.nn.depthwise_conv2d(tensor, kernel, strides, padding, dilations=dilations)
        return tf.reshape(rows, (-1, rows.shape[-1]))
    size, stride, dilation = (
        _pair(config[key]) for key in ("kernel_size", "strides", "dilation_rate")
    )
    padding = config["padding"]
    if layer.kind == "Conv1D":
        if padding == "causal":
            tensor = tf.pad(tensor, [[0, 0], [dilation[0] * (size[0] - 1), 0], [0, 0]])
            padding = "valid"
        tensor = tensor[:, :, None, :]
        size, stride, dilation = (size[0], 1), (stride[0], 1), (dilation[0], 1)
    rows = tf.image.extract_patches(
        tensor, [1, *size, 1], [1, *stride, 1], [1, *dilation, 1], padding.upper()
    )
    return tf.reshape(rows, (-1, rows.shape[-1]))


def _pair(value: Any) -> tuple[int, int]:
    parts = (value,) if isinstance(value, int) else tuple(value)
    return (parts[0], parts[-1])


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
    calls = dense.calls[name]
    layer = pruned.layers[name]
    branch = _branch(pruned, name)
    sources, targets = [node.inputs[0] for node in calls], [node.ref for node in calls]
    others = branch.others if branch else ()
    here, there = Taps(pruned, [*sources, *others]), Taps(dense, [*targets, *others])
    rng = np.random.default_rng([seed, 2])
    count = len(inputs[0])
    batch = min(here.batch_size(), there.batch_size())
    gram = cross = None
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
            gram = rows.T @ rows + (0.0 if gram is None else gram)
            cross = rows.T @ target + (0.0 if cross is None else cross)
            gram, cross = gram.astype("float64"), cross.astype("float64")
            squares += float(np.square(target, dtype="float64").sum())
            total += len(rows)
    mean = cross[-1] / total
    energy = squares / total - float(mean @ mean)
    return Moments(gram / total, cross / total, squares / total, max(energy, 1e-12))


@dataclasses.dataclass(frozen=True, eq=False)
class _Branch:
    """What a reader's outputs are added to, and by what the BatchNorm between multiplies them."""

    others: tuple[Ref, ...]
    scale: np.ndarray | float


def _branch(graph: Graph, name: str) -> _Branch | None:
    """The other terms of an Add that a reader feeds, directly or through a BatchNorm.

    The reader's target then includes what the other terms lost, so that the *sum* comes closest to the dense one.
    """
    if len(graph.calls[name]) != 1:
        return None
    ref, scale = graph.calls[name][0].ref, 1.0
    norm = norm_behind(graph, name)
    if norm is not None:
        gamma = norm.weights.get("gamma", np.ones(1))
        scale = gamma / np.sqrt(norm.weights["moving_variance"] + norm.config["epsilon"])
        scale = np.where(abs(scale) < 1e-3, np.inf, scale)
        ref = graph.calls[norm.name][0].ref
    behind = graph.readers.get(ref, ())
    if len(behind) != 1 or graph.layer_of(behind[0]).kind != "Add":
        return None
    others = tuple(other for other in behind[0].inputs if other != ref)
    same = all(graph.shape(other) == graph.shape(ref) for other in others)
    return _Branch(others, scale) if others and same else None


def _drawn(
    rows: np.ndarray, targets: np.ndarray, inputs: int, of: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    most = max(1, _ROWS * inputs // of)
    if len(rows) <= most:
        return rows, targets
    chosen = rng.choice(len(rows), most, replace=False)
    return rows[chosen], targets[chosen]


def matrix(graph: Graph, name: str) -> np.ndarray:
    """A reader's weights, `(num_rows + 1, num_targets)` float64; the last row is its constant."""
    layer = graph.layers[name]
    kernel = layer.weights[kernel_name(layer) or ""]
    rows = kernel.reshape(-1, kernel.shape[-1])
    bias = layer.weights.get("bias", np.zeros(rows.shape[1]))
    return np.concatenate([rows, bias[None]]).astype("float64")


def with_matrix(graph: Graph, name: str, values: np.ndarray) -> Graph:
    """The graph with a reader's weights replaced; the inverse of `matrix`.

    A constant that the layer has no bias for moves into the mean of the BatchNorm behind it.
    """
    layer = graph.layers[name]
    key = kernel_name(layer) or ""
    shape = layer.weights[key].shape
    changed = {(name, key): values[:-1].reshape(shape).astype("float32")}
    if "bias" in layer.weights:
        changed[name, "bias"] = values[-1].astype("float32")
    elif (norm := norm_behind(graph, name)) is not None:
        mean = norm.weights["moving_mean"] - values[-1]
        changed[norm.name, "moving_mean"] = mean.astype("float32")
    return graph.with_weights(changed)


def norm_behind(graph: Graph, name: str) -> Layer | None:
    """The BatchNorm that alone reads a layer which is called once, and which reads nothing else."""
    if len(graph.calls[name]) != 1:
        return None
    behind = graph.readers.get(graph.calls[name][0].ref, ())
    if len(behind) != 1 or graph.calls[name][0].ref in graph.outputs:
        return None
    layer = graph.layer_of(behind[0])
    single = len(graph.calls[layer.name]) == 1 and "moving_mean" in layer.weights
    return layer if layer.kind == "BatchNormalization" and single else None


def takes_constant(graph: Graph, name: str) -> bool:
    """Whether a constant can be added to what a reader computes."""
    return "bias" in graph.layers[name].weights or norm_behind(graph, name) is not None


def solve(
    moments: Moments, weights: np.ndarray, kept: np.ndarray, constant: bool, ridge: float = RIDGE
) -> np.ndarray:
    """Weights for the kept rows that come closest to the targets; all other rows are 0.

    Args:
        moments: of all rows.
        weights: what the ridge pulls towards, `(num_rows + 1, num_targets)`.
        kept: rows that stay, ascending, without the constant.
        constant: whether the constant may change as well.
    """
    result = np.zeros_like(weights)
    gram, right = _regular(moments, weights, ridge)
    free = np.append(kept, len(weights) - 1) if constant else kept
    if not constant:
        right = right - np.outer(moments.gram[:, -1], weights[-1])
        result[-1] = weights[-1]
    if len(free):
        result[free] = np.linalg.solve(gram[np.ix_(free, free)], right[free])
    return result


def _regular(moments: Moments, weights: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    strength = np.full(len(weights), ridge * max(np.diag(moments.gram)[:-1].mean(), 1e-12))
    strength[-1] = ridge * 1e-3
    return moments.gram + np.diag(strength), moments.cross + strength[:, None] * weights


class Elimination:
    """Backward elimination of units from one reader, kept up to date by Schur complements.

    Attributes:
        costs: what removing each remaining unit adds to the squared error of the targets, over their energy; one number
            per remaining unit, in the order given.

    Example:
        >>> gram = np.diag([4.0, 1.0, 1.0])
        ... weights = np.ones((3, 1))
        >>> Elimination(
        ...     Moments(gram, gram @ weights, 6.0, 2.0), weights, np.array([[0], [1]])
        ... ).costs.round(2).tolist()
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
        present = np.concatenate([rows.ravel(), *([] if fixed is None else [fixed])])
        present = np.append(np.sort(present), len(weights) - 1)
        gram, right = _regular(moments, weights, ridge)
        inverse = np.linalg.inv(gram[np.ix_(present, present)])
        self.inverse = (inverse + inverse.T) / 2
        self.weights = self.inverse @ right[present]
        self.rows = np.searchsorted(present, rows)
        self.energy = moments.energy
        self._solved = np.zeros(0)
        self.costs = self._costs()

    def _costs(self) -> np.ndarray:
        inner = self.inverse[self.rows[:, :, None], self.rows[:, None, :]]
        outer = self.weights[self.rows]
        if self.rows.shape[1] == 1:
            return np.square(outer[:, 0]).sum(1) / inner[:, 0, 0] / self.energy
        return np.einsum("ugk,ugk->u", outer, np.linalg.solve(inner, outer)) / self.energy

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
    parts: Sequence[Elimination], units: Sequence[int], count: int
) -> list[tuple[int, float]]:
    """Remove units one at a time, each time the one that costs all readers least.

    Args:
        parts: one elimination per reader, over the same units.
        units: their numbers.
        count: how many shall go.

    Returns:
        `(unit, cost)` in the order of removal; costs are shares of the targets' energy, summed over readers.
    """
    left, order = list(units), []
    for _ in range(count):
        costs = np.sum([part.costs for part in parts], axis=0)
        index = int(np.argmin(costs))
        order.append((left.pop(index), float(costs[index])))
        for part in parts:
            part.remove(index)
    return order
