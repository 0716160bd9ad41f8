"""Inversion of large pictures: from a picture, window by window, instead of from noise and whole.

A picture of 224 x 224 has the texture that BatchNorm's statistics ask for already; what it lacks are the network's
classes. A few steps against windows of half its side, a quarter of the work each, and fewer against the whole give
them.

Reference:
    [Yin et al., 2020](https://arxiv.org/abs/1912.08795) start from noise and take 2,000 steps and more. Starting from
    pictures, windows and steps of the gradient's sign are ours.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.adam import cosine
from keras_robust_prune.keras_io.compiling import gradients
from keras_robust_prune.keras_io.distributing import Replicas
from keras_robust_prune.synthesis import inversion
from keras_robust_prune.synthesis.pictures import Draw, is_picture
from keras_robust_prune.synthesis.probe import ActivationProbe

_LARGE = 96  # pixels of the shorter side from which this pays
WINDOWED, WHOLE = 16, 6  # steps; where a network takes one size only, `_WHOLE_ONLY`
_WHOLE_ONLY = 12
_RATE, _LAST_RATE = 0.05, 0.002  # of a step, as a share of the range


def is_large(space: InputSpec) -> bool:
    """Whether an input is a picture large enough for windows of half its side."""
    return is_picture(space) and min(space.shape[:2]) >= _LARGE


def match_windows(
    graph: Graph,
    logits: Sequence[Ref],
    space: InputSpec,
    count: int,
    rng: np.random.Generator,
    draw: Draw,
    verbose: int = 0,
    strategy: Any = None,
) -> tuple[tuple[np.ndarray, ...], dict[str, float]]:
    """Bring pictures to the network's classes and nearer to every BatchNorm's mean and deviation.

    Args:
        graph: the network, activations split off, with one input, a picture.
        logits: its outputs before their last activation.
        space: of the input.
        count: how many are made.
        rng: of everything drawn.
        draw: gives the pictures to begin with, such as `pictures.crops`.
        verbose: 1 prints progress.
        strategy: of `tf.distribute`, over whose replicas batches are spread; None for one.

    Returns:
        The inputs in a tuple of one array, `(count, *shape)` float32, raw; and per BatchNorm layer the distance that
        is left.
    """
    tf = backends.tensorflow()
    nodes = inversion.statistics(graph)
    refs = [*[node.inputs[0] for node in nodes], *logits]
    replicas = Replicas(strategy)
    whole = ActivationProbe(graph, refs, strategy, differentiated=True)
    size = inversion.batch_size(count, whole)
    known = [inversion.stored(graph, node) for node in nodes]
    height, width = space.shape[:2]
    half = (height // 2, width // 2)
    part = _of_any_size(graph, refs, (*half, space.shape[2]), strategy)
    sizes = [half] * WINDOWED + [(height, width)] * WHOLE
    if part is None:
        sizes = [(height, width)] * _WHOLE_ONLY

    def stepper(probe: ActivationProbe) -> Any:
        step = functools.partial(_step, probe, space, known)
        return replicas.by_rows(step, None, 1 + len(logits), size)

    on_whole, on_part = stepper(whole), stepper(part or whole)
    reached: list[np.ndarray] = []

    def drawn() -> tuple[np.ndarray, list[np.ndarray], list[tuple[slice, slice]]]:
        unit = draw(space, size, rng)
        targets = inversion.random_targets(whole, [unit], [space], rng, skip=len(nodes))
        places = []
        for tall, wide in sizes:
            top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
            places.append((slice(top, top + tall), slice(left, left + wide)))
        return unit, targets, places

    def make(batches: int) -> list[Any]:
        begun = [drawn() for _ in range(batches)]
        targets = [
            np.concatenate(same) for same in zip(*(found for _, found, _ in begun), strict=True)
        ]
        for index, shape in enumerate(sizes):
            here = [(unit, places[index]) for unit, _, places in begun]
            windows = [unit[:, rows, columns] for unit, (rows, columns) in here]
            rate = cosine(index, len(sizes), _RATE + _LAST_RATE, _LAST_RATE)
            step = on_whole if shape == (height, width) else on_part
            given = [np.concatenate(windows), *targets, np.float32(rate)]
            moved, apart = step(*map(tf.constant, given))
            for window, now in zip(windows, np.split(np.asarray(moved), batches), strict=True):
                window[...] = now
        reached.extend(np.asarray(apart)[::size])
        return [np.concatenate([unit for unit, *_ in begun])]

    arrays = inversion.in_batches(make, [space], count, size, verbose, replicas.count)
    means = np.mean(reached, axis=0)
    return arrays, {node.layer: float(mean) for node, mean in zip(nodes, means, strict=True)}


def _step(
    probe: ActivationProbe, space: InputSpec, known: Sequence[Any], unit: Any, *given: Any
) -> list[Any]:
    """One step of the gradient's sign on windows, whose last argument is its size; and what is left, for every row."""
    tf = backends.tensorflow()
    *targets, rate = given
    number = tf.shape(unit)[0]
    loss, apart = inversion.mismatch(probe, [unit], [space], known, targets, tf.ones(number))
    moved = tf.clip_by_value(unit - rate * tf.sign(gradients(loss, [unit])[0]), 0.0, 1.0)
    return [moved, tf.tile(tf.stack(apart)[None], (number, 1))]


def _of_any_size(
    graph: Graph, refs: Sequence[Ref], smaller: tuple[int, ...], strategy: Any = None
) -> ActivationProbe | None:
    """A probe that takes pictures of any size; None if the network takes only one."""
    tf = backends.tensorflow()
    (ref,) = graph.inputs
    name = graph.node[ref.node].layer
    layer = graph.layers[name]
    config = dict(layer.config)
    for key in ("batch_input_shape", "batch_shape", "shape"):
        if config.get(key) is not None:
            config[key] = (*tuple(config[key])[:-3], None, None, smaller[-1])
    layers = {**graph.layers, name: dataclasses.replace(layer, config=config)}
    try:
        probe = ActivationProbe(
            dataclasses.replace(graph, layers=layers), refs, strategy, differentiated=True
        )
        probe([tf.zeros((1, *smaller))])
    except (ValueError, TypeError, tf.errors.OpError):
        return None
    return probe
