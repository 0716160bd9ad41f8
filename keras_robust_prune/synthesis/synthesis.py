"""Synthetic inputs: made from the network itself, in place of data.

A prior draws structured noise (smooth, with sparse bright parts or textures; see `priors`), and
gradients of the network shape it (`inversion`). Where the network stores BatchNorm statistics, the
synthetic inputs reproduce them; where it does not, they stay *near* their prior and take only short
steps towards the classes: inputs that are pushed further become confident and unnatural, and
moments measured on them repaired our test networks clearly worse.

The tier of everything computed on these inputs is T1: weights, stored statistics and the range of
an input, nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.distributing import Replicas
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.surgery.costs import work_of
from keras_robust_prune.synthesis import inversion
from keras_robust_prune.synthesis.pictures import crops, procedural
from keras_robust_prune.synthesis.priors import start
from keras_robust_prune.synthesis.probe import logit_refs
from keras_robust_prune.synthesis.windows import WHOLE, WINDOWED, is_large, match_windows

# How many inputs are made: as many as about this many multiplications of forward passes allow, and
# 512 where five times as many do. Each input then takes about 150 passes.
_WORK = 2e10
FEWEST = 64
_USUAL, _MOST = 512, 12_000


@dataclasses.dataclass(frozen=True, eq=False)
class SyntheticInputs:
    """Inputs made from a network.

    Attributes:
        arrays: one per network input, `(count, *shape)` float32, in its raw range.
        distance: per BatchNorm layer, how far mean and deviation of what reaches it are from those
        it stores: mean
            squared, in stored deviations. Empty if the network stores none. Lower is better.
    """

    arrays: tuple[np.ndarray, ...]
    distance: Mapping[str, float] = dataclasses.field(default_factory=dict)


def usual_count(work: float) -> int:
    """How many inputs are made, 64 to 12,000: what makes a network slow decides.

    Args:
        work: of one forward pass, as `work_of` counts it.

    Example:
        >>> [usual_count(work) for work in (1e5, 1e7, 4e7, 3e8, 4e9)]
        [12000, 2000, 512, 333, 64]
    """
    allowed = _WORK / max(work, 1)
    return int(np.clip(allowed, np.clip(5 * allowed, FEWEST, _USUAL), _MOST))


def steps_per_input(split: Graph, spaces: Sequence[InputSpec]) -> float:
    """How many steps one input takes to make, each a pass through the network with its gradient.

    Args:
        split: the network, activations split off.
        spaces: of its inputs.
    """
    if all(space.num_tokens for space in spaces):
        return 0.0
    if not inversion.statistics(split):
        return _ascent_steps(spaces)
    large = len(spaces) == 1 and is_large(spaces[0])
    return WINDOWED / 4 + WHOLE if large else inversion.MATCH_STEPS


def _ascent_steps(spaces: Sequence[InputSpec]) -> int:
    """How many steps lead from the prior towards classes: fewer where each is a pass through a large picture."""
    large = any(is_large(space) for space in spaces)
    return inversion.LARGE_ASCENT_STEPS if large else inversion.ASCENT_STEPS


def synthetic_inputs(
    graph: Graph,
    input_range: Any = None,
    count: int | None = None,
    seed: int = 0,
    verbose: int = 0,
    invert: bool = True,
    photographs: bool = True,
    strategy: Any = None,
) -> SyntheticInputs:
    """Make inputs from nothing but the network.

    Args:
        graph: the dense network.
        input_range: see `layers.asking.input_specs`.
        count: how many; None makes as many as the network's size allows, see `usual_count`.
        seed: the same seed gives the same inputs.
        verbose: 1 prints progress.
        invert: whether the network shapes them; otherwise they are what the prior draws.
        photographs: whether large pictures may begin from crops of the package's photographs, not from procedural
            pictures.
        strategy: of `tf.distribute`, over whose replicas batches are spread; None for one.

    Returns:
        The inputs. Those of the network asked for last are remembered.

    Example:
        >>> import tf_keras
        >>> from keras_robust_prune.keras_io.reading import read
        >>> layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(3, name="a")]
        >>> made = synthetic_inputs(read(tf_keras.Sequential(layers)), (-1.0, 1.0), count=8)
        >>> made.arrays[0].shape, bool(abs(made.arrays[0]).max() <= 1)
        ((8, 4), True)
    """
    specs = input_specs(graph, input_range)
    spaces = tuple(dataclasses.replace(spec, examples=None) for spec in specs)
    if count is None:
        count = usual_count(work_of(graph))
    replicas = Replicas(strategy)
    key = _digest(graph, spaces, (count, seed, invert, photographs, replicas.count))
    if key not in _last:
        split = split_activations(graph)
        rng = np.random.default_rng([seed, 1])
        if not invert or all(space.num_tokens for space in spaces):
            made = SyntheticInputs(tuple(space.raw(start(space, count, rng)) for space in spaces))
        elif inversion.statistics(split) and len(spaces) == 1 and is_large(spaces[0]):
            draw = crops if photographs else procedural
            (space,) = spaces
            made = SyntheticInputs(
                *match_windows(split, logit_refs(split), space, count, rng, draw, verbose, strategy)
            )
        elif inversion.statistics(split):
            made = SyntheticInputs(
                *inversion.match(split, logit_refs(split), spaces, count, rng, verbose, strategy)
            )
        else:
            made = SyntheticInputs(
                inversion.ascend(
                    split,
                    logit_refs(split),
                    spaces,
                    count,
                    rng,
                    verbose,
                    strategy,
                    _ascent_steps(spaces),
                )
            )
        _last.clear()
        _last[key] = made
    return _last[key]


_last: dict[str, SyntheticInputs] = {}


def _plain(value: Any) -> Any:
    """What JSON cannot hold of a configuration, in full: arrays are not abbreviated."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def _digest(graph: Graph, spaces: tuple[InputSpec, ...], settings: tuple[int, ...]) -> str:
    digest = hashlib.sha256(repr((graph.nodes, settings)).encode())
    for layer in graph.layers.values():
        digest.update(json.dumps(dict(layer.config), sort_keys=True, default=_plain).encode())
        for value in layer.weights.values():
            digest.update(value.tobytes())
    for space in spaces:
        digest.update(space.digest.encode())
    return digest.hexdigest()
