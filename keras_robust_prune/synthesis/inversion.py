"""The gradients behind `synthesis`.

Synthetic inputs match the statistics that a network stores, or ascend a little from their prior.
All values live in [0, 1] between the bounds of the input.

Reference:
    [Yin et al., 2020](https://arxiv.org/abs/1912.08795) match BatchNorm statistics. The short,
    blurred and normalised ascent for networks without such statistics is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Node, Ref
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.adam import cosine, stepped
from keras_robust_prune.keras_io.compiling import compiled, gradients
from keras_robust_prune.keras_io.distributing import Replicas
from keras_robust_prune.layers.base import layer_type
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.synthesis.priors import start
from keras_robust_prune.synthesis.probe import ActivationProbe, scores

ASCENT_STEPS, LARGE_ASCENT_STEPS = 40, 12  # the latter for large pictures
_STEP = 0.035  # root mean square of one step per value
_BLUR = 0.3  # share of the blurred picture in every step
_PULL = 0.005  # towards the neutral value, per step
MATCH_STEPS = 60
_MATCH_RATE, _LAST_RATE = 0.052, 0.002
_STATISTICS = 100.0  # weight of the statistics, beside the classes' 1
_VARIATION = 3.0  # weight of the total variation


def statistics(graph: Graph) -> tuple[Node, ...]:
    """The BatchNorm calls that store what they saw in training."""
    return tuple(
        node
        for node in graph.nodes
        if layer_type(graph.layer_of(node)).statistics(graph.layer_of(node))
    )


def ascend(
    graph: Graph,
    logits: Sequence[Ref],
    spaces: Sequence[InputSpec],
    count: int,
    rng: np.random.Generator,
    verbose: int = 0,
    strategy: Any = None,
    num_steps: int = ASCENT_STEPS,
) -> tuple[np.ndarray, ...]:
    """Climb from the prior towards classes in short normalised steps, blurring on the way.

    Returns:
        One array per network input, `(count, *shape)` float32, raw.
    """
    tf = backends.tensorflow()
    replicas, num = Replicas(strategy), len(spaces)
    probe = ActivationProbe(graph, logits, strategy, differentiated=True)
    size = batch_size(count, probe)

    def step(number: Any, units: list[Any], targets: Sequence[Any], pace: Any) -> Any:
        return number + 1, _climbed(probe, units, spaces, targets, pace)

    def climb(*rows: Any) -> list[Any]:
        units, targets, pace = list(rows[:num]), rows[num:-1], rows[-1]
        return tf.while_loop(  # type: ignore[no-any-return]
            lambda number, _: number < num_steps,
            lambda number, units: step(number, units, targets, pace),
            [tf.constant(0), units],
        )[1]

    def drawn() -> tuple[list[np.ndarray], list[np.ndarray | None]]:
        units = [start(space, size, rng, sparse=1.0) for space in spaces]
        targets = random_targets(probe, units, spaces, rng)
        pace = np.exp(rng.uniform(math.log(0.3), 0.0, size)).astype(np.float32)
        shares = [
            rng.random((size,) + (1,) * len(space.shape)) if _is_stretched(space) else None
            for space in spaces
        ]
        return [*units, *targets, pace], shares

    climbing = replicas.by_rows(climb, None, num + len(logits) + 1, size)

    def make(batches: int) -> list[Any]:
        begun = [drawn() for _ in range(batches)]
        units = climbing(*_stacked([rows for rows, _ in begun]))
        return [
            np.asarray(unit)
            if shares[0] is None
            else _stretched(np.asarray(unit), space, np.concatenate(shares))
            for unit, space, shares in zip(
                units, spaces, zip(*(shares for _, shares in begun), strict=True), strict=True
            )
        ]

    return in_batches(make, spaces, count, size, verbose, replicas.count)


def one_step(
    graph: Graph, logits: Sequence[Ref], spaces: Sequence[InputSpec], size: int
) -> Callable[[], Any]:
    """A step on so many inputs as `match` or `ascend` takes it, compiled, by which a run's time is told beforehand."""
    tf, rng = backends.tensorflow(), np.random.default_rng(0)
    nodes = statistics(graph)
    refs = [*[node.inputs[0] for node in nodes], *logits]
    probe = ActivationProbe(graph, refs, differentiated=True)
    known = [stored(graph, node) for node in nodes]
    units = [tf.constant(start(space, size, rng)) for space in spaces]
    targets = [tf.constant(x) for x in random_targets(probe, units, spaces, rng, skip=len(nodes))]
    each, none = tf.ones(size), [(0 * unit, 0 * unit) for unit in units]

    def step() -> list[Any]:
        if nodes:
            return _matched(probe, units, none, spaces, known, targets, each, 0.01, 0)[0]
        return _climbed(probe, units, spaces, targets, each)

    return compiled(step)


def _stacked(batches: Sequence[Sequence[np.ndarray]]) -> list[Any]:
    """What batches are made of, one batch's rows behind the other's."""
    tf = backends.tensorflow()
    return [tf.constant(np.concatenate(column)) for column in zip(*batches, strict=True)]


def _is_stretched(space: InputSpec) -> bool:
    return len(space.shape) >= 2 and not space.num_tokens


def _stretched(unit: np.ndarray, space: InputSpec, shares: np.ndarray) -> np.ndarray:
    """Images and signals use their range: blur and pull leave them far dimmer than real ones are.

    All but the furthest hundredth of an input's values is stretched to a share of the range; none is dimmed.
    """
    away = unit - space.neutral
    axes = tuple(range(1, away.ndim))
    furthest = np.quantile(abs(away), 0.99, axis=axes, keepdims=True) + 1e-6
    gain = np.maximum(shares / furthest, 1.0)
    return np.clip(space.neutral + gain * away, 0.0, 1.0).astype(np.float32)


def _climbed(
    probe: ActivationProbe,
    units: list[Any],
    spaces: Sequence[InputSpec],
    targets: Sequence[Any],
    pace: Any,
) -> list[Any]:
    """Inputs after a step towards their classes."""
    tf = backends.tensorflow()
    loss = tf.reduce_sum(_confusion(probe(_raw(units, spaces)), targets))
    return [
        unit if gradient is None else _ascent_step(tf, unit, gradient, pace, space)
        for unit, gradient, space in zip(units, gradients(loss, units, "none"), spaces, strict=True)
    ]


def _ascent_step(tf: Any, unit: Any, gradient: Any, size: Any, space: InputSpec) -> Any:
    each = (-1,) + (1,) * len(space.shape)
    axes = list(range(1, 1 + len(space.shape)))
    scale = tf.sqrt(tf.reduce_mean(tf.square(gradient), axes, keepdims=True)) + 1e-12
    unit = _blurred(unit - _STEP * tf.reshape(size, each) * gradient / scale)
    away = unit - space.neutral
    away = tf.sign(away) * tf.maximum(tf.abs(away) - _PULL, 0.0)
    return tf.clip_by_value(space.neutral + away, 0.0, 1.0)


def _blurred(unit: Any) -> Any:
    """Mixed with its binomial blur along every axis but the batch and the last."""
    tf = backends.tensorflow()
    smooth = unit
    for axis in range(1, unit.shape.rank - 1):
        if unit.shape[axis] < 3:
            continue
        for _ in range(2):
            pads = [[0, 0]] * axis + [[1, 1]] + [[0, 0]] * (unit.shape.rank - axis - 1)
            padded = tf.pad(smooth, pads, "SYMMETRIC")
            parts = [
                tf.gather(padded, tf.range(k, k + unit.shape[axis]), axis=axis) for k in range(3)
            ]
            smooth = (parts[0] + 2.0 * parts[1] + parts[2]) / 4.0
    return (1 - _BLUR) * unit + _BLUR * smooth


def match(
    graph: Graph,
    logits: Sequence[Ref],
    spaces: Sequence[InputSpec],
    count: int,
    rng: np.random.Generator,
    verbose: int = 0,
    strategy: Any = None,
) -> tuple[tuple[np.ndarray, ...], dict[str, float]]:
    """Reproduce every BatchNorm's mean and deviation, with confident and diverse classes, smoothly.

    Returns:
        One array per network input, `(count, *shape)` float32, raw; and per BatchNorm layer the
        distance that is left.
    """
    tf = backends.tensorflow()
    nodes, replicas, num = statistics(graph), Replicas(strategy), len(spaces)
    refs = [*[node.inputs[0] for node in nodes], *logits]
    probe = ActivationProbe(graph, refs, strategy, differentiated=True)
    known = [stored(graph, node) for node in nodes]
    size = batch_size(count, probe)
    rates = [cosine(k, MATCH_STEPS, _MATCH_RATE, _LAST_RATE) for k in range(MATCH_STEPS)]

    def step(number: Any, units: Any, slots: Any, targets: Any, weight: Any) -> Any:
        rate = tf.constant(rates, tf.float32)[number]
        return number + 1, *_matched(
            probe, units, slots, spaces, known, targets, weight, rate, number
        )

    def bring(*rows: Any) -> list[Any]:
        units, targets, weight = list(rows[:num]), rows[num:-1], rows[-1]
        _, units, _, apart = tf.while_loop(
            lambda number, *_: number < MATCH_STEPS,
            lambda number, units, slots, _: step(number, units, slots, targets, weight),
            [tf.constant(0), units, [(0 * unit, 0 * unit) for unit in units], tf.zeros(len(nodes))],
        )
        return [*units, tf.tile(apart[None], (tf.shape(weight)[0], 1))]

    def drawn() -> list[np.ndarray]:
        units = [start(space, size, rng) for space in spaces]
        targets = random_targets(probe, units, spaces, rng, skip=len(nodes))
        return [*units, *targets, np.exp(rng.uniform(math.log(0.1), 0.0, size)).astype(np.float32)]

    bringing = replicas.by_rows(bring, None, num + len(logits) + 1, size)
    reached: list[np.ndarray] = []

    def make(batches: int) -> list[Any]:
        *units, apart = bringing(*_stacked([drawn() for _ in range(batches)]))
        reached.extend(np.asarray(apart)[::size])
        return units

    arrays = in_batches(make, spaces, count, size, verbose, replicas.count)
    means = np.mean(reached, axis=0)
    return arrays, {node.layer: float(mean) for node, mean in zip(nodes, means, strict=True)}


def _matched(
    probe: ActivationProbe,
    units: list[Any],
    slots: Sequence[Any],
    spaces: Sequence[InputSpec],
    known: Sequence[tuple[np.ndarray, np.ndarray]],
    targets: Sequence[Any],
    weight: Any,
    rate: Any,
    number: Any,
) -> tuple[list[Any], list[Any], Any]:
    """Inputs after a step of Adam against `mismatch`, their moments, and the distance to every BatchNorm before it."""
    tf = backends.tensorflow()
    loss, apart = mismatch(probe, units, spaces, known, targets, weight)
    moved = [
        stepped(unit, gradient, slot, rate, number, beta_2=0.99)
        for unit, gradient, slot in zip(units, gradients(loss, units), slots, strict=True)
    ]
    units = [tf.clip_by_value(unit, 0.0, 1.0) for unit, _ in moved]
    return units, [slot for _, slot in moved], tf.stack(apart)


def mismatch(
    probe: ActivationProbe,
    units: Sequence[Any],
    spaces: Sequence[InputSpec],
    known: Sequence[tuple[np.ndarray, np.ndarray]],
    targets: Sequence[Any],
    weight: Any,
) -> tuple[Any, list[Any]]:
    """What inputs are brought down in, and the distance to every BatchNorm's statistics.

    Args:
        probe: reads what reaches each BatchNorm, then the logits.
        units: the inputs, in [0, 1] between their bounds.
        spaces: of them.
        known: mean and deviation that each BatchNorm has in store.
        targets: a distribution over classes per output and input.
        weight: of the classes, per input.
    """
    tf = backends.tensorflow()
    tensors = probe(_raw(units, spaces))
    apart = _distances(tensors[: len(known)], known)
    number = tf.cast(tf.shape(units[0])[0], tf.float32)
    loss = number * _STATISTICS * tf.add_n(apart) / len(known)
    loss += tf.reduce_sum(weight * _confusion(tensors[len(known) :], targets))
    loss += _VARIATION * sum(tf.reduce_sum(_total_variation(unit)) for unit in units)
    return loss, apart


def _distances(tensors: Sequence[Any], stored: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Mean squared difference of means and of deviations, in stored deviations."""
    tf = backends.tensorflow()
    found = []
    for tensor, (mean, deviation) in zip(tensors, stored, strict=True):
        now, variance = tf.nn.moments(tensor, list(range(len(tensor.shape) - 1)))
        shift = tf.reduce_mean(tf.square((now - mean) / deviation))
        scale = tf.reduce_mean(tf.square(tf.sqrt(variance + 1e-8) / deviation - 1))
        found.append(shift + scale)
    return found


def stored(graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every channel that a BatchNorm call has in store."""
    layer = graph.layer_of(node)
    variance = layer.weights["moving_variance"] + layer.config["epsilon"]
    return layer.weights["moving_mean"], np.sqrt(variance)


def _total_variation(unit: Any) -> Any:
    """Mean squared step between neighbours along every spatial axis, per input."""
    tf = backends.tensorflow()
    total = tf.zeros(tf.shape(unit)[0])
    axes = list(range(1, unit.shape.rank))
    for axis in axes[:-1]:
        length = unit.shape[axis]
        ahead = tf.gather(unit, tf.range(1, length), axis=axis)
        behind = tf.gather(unit, tf.range(length - 1), axis=axis)
        total += tf.reduce_mean(tf.square(ahead - behind), axes) if length > 1 else 0.0
    return total


def batch_size(count: int, probe: ActivationProbe) -> int:
    """The size of even batches: nothing is compiled twice, few inputs are made in vain."""
    return math.ceil(count / math.ceil(count / probe.batch_size()))


def in_batches(
    make: Callable[[int], list[Any]],
    spaces: Sequence[InputSpec],
    count: int,
    size: int,
    verbose: int,
    at_once: int = 1,
) -> tuple[np.ndarray, ...]:
    """All inputs, made in batches of one size, some of them at once."""
    parts = []
    # shown, too, where it belongs to what is shown
    rounds = range(0, count, size * at_once)
    for done in Progress.over("synthetic inputs", rounds, verbose or None):
        batches = min(at_once, math.ceil((count - done) / size))
        parts.append([np.asarray(unit) for unit in make(batches)])
    joined = [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]
    return tuple(space.raw(unit) for space, unit in zip(spaces, joined, strict=True))


def _raw(units: Sequence[Any], spaces: Sequence[InputSpec]) -> list[Any]:
    return [
        unit if space.num_tokens else space.lower + (space.upper - space.lower) * unit
        for unit, space in zip(units, spaces, strict=True)
    ]


def _confusion(logits: Sequence[Any], targets: Sequence[Any]) -> Any:
    """Cross-entropy to the targets, summed over outputs, per input."""
    tf = backends.tensorflow()
    return tf.add_n(
        [
            tf.nn.softmax_cross_entropy_with_logits(target, scores(logit))
            for logit, target in zip(logits, targets, strict=True)
        ]
    )


def random_targets(
    probe: ActivationProbe,
    units: Sequence[Any],
    spaces: Sequence[InputSpec],
    rng: np.random.Generator,
    skip: int = 0,
) -> list[np.ndarray]:
    """Per output and input a random class mixed with another, `(batch, classes)`."""
    tf = backends.tensorflow()
    found = []
    number = len(units[0])
    for logit in probe(_raw([tf.constant(unit[:1]) for unit in units], spaces))[skip:]:
        classes = int(scores(logit).shape[-1])
        one, other = (np.eye(classes)[rng.permutation(number) % classes] for _ in range(2))
        share = rng.uniform(0.5, 1.0, (number, 1))
        found.append((share * one + (1 - share) * other).astype(np.float32))
    return found
