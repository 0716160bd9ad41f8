"""Synthetic inputs of every kind: what stands in for absent data, and how near it comes.

Beside inputs that are inverted from the network (`synthesis`) stand pictures that no network shaped (`pictures`):
where an input can be a picture, crops of the package's photographs, or procedural pictures. `synthesize` gives every
kind with what says, without data, how much it resembles what the network was trained on: the distance to its BatchNorm
statistics and the entropy of its classes.

The tier of everything computed on them is T1: weights, stored statistics, the range of an input, and the package's
photographs, nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.surgery.costs import work_of
from keras_robust_prune.synthesis import inversion
from keras_robust_prune.synthesis.pictures import crops, is_picture, procedural
from keras_robust_prune.synthesis.probe import ActivationProbe, logit_refs, scores
from keras_robust_prune.synthesis.synthesis import (
    steps_per_input,
    synthetic_inputs,
    usual_count,
)

# As many pictures are taken as about this many multiplications of forward passes allow; each takes a few.
_PICTURE_WORK = 1.2e11
_FEWEST_PICTURES, _MOST_PICTURES = 128, 2_000
_ENOUGH = 256  # inverted inputs that need no better
_NEAR = 0.5  # distance up to which pictures look like a network's data
PHOTOGRAPHS = "photographs"
CHOICES = ("auto", "inverted", PHOTOGRAPHS, "procedural")


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """Synthetic inputs of one kind.

    Attributes:
        name: `"inverted"`, `"photographs"` or `"procedural"`.
        arrays: one per network input, `(count, *shape)` float32, in its raw range.
        distance: mean over the BatchNorm layers of how far mean and deviation of what reaches them are from those they
            store: mean squared, in stored deviations. NaN if the network stores none. Lower is better.
        entropy: of the dense network's classes on them before any balancing, as a share of the greatest, [0, 1]; 1 for
            a network without classes. Higher is better.
    """

    name: str
    arrays: tuple[np.ndarray, ...]
    distance: float
    entropy: float

    @property
    def is_picture(self) -> bool:
        """Whether these inputs are neither shaped by a network nor given."""
        return self.name in (PHOTOGRAPHS, "procedural")

    def __str__(self) -> str:
        distance = "" if np.isnan(self.distance) else f"distance {self.distance:.3g}, "
        return f"{len(self.arrays[0])} {self.name} ({distance}class entropy {self.entropy:.2f})"


class Expected(NamedTuple):
    """How many inputs will be made, as far as a network's size says it.

    Attributes:
        num_inverted, num_pictures: of each kind.
        steps: passes of the network with its gradient that one inverted input takes.
        num_measured: of the kind that a repair is fitted to.
    """

    num_inverted: int
    num_pictures: int
    steps: float
    num_measured: int


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """How inputs are made where none are given.

    Attributes:
        kinds: `"auto"`, `"inverted"`, `"photographs"` or `"procedural"`, see `synthesize`.
        num_inputs: how many of each kind; None lets the network's size decide.
        invert: whether the network shapes inverted inputs, or they stay what the prior drew.

    Raises:
        ValueError: `kinds` is unknown.
    """

    kinds: str = "auto"
    num_inputs: int | None = None
    invert: bool = True

    def __post_init__(self) -> None:
        if self.kinds not in CHOICES:
            raise ValueError(
                f"synthesis is {self.kinds!r}; choose one of {', '.join(map(repr, CHOICES))}."
            )

    def expected(self, split: Graph, spaces: Sequence[InputSpec]) -> Expected:
        """What will be made of a network, activations split off, as far as its size says it."""
        drawn = len(spaces) == 1 and is_picture(spaces[0])
        inverted = self.num_inputs or usual_count(work_of(split))
        pictures = (self.num_inputs or _num_pictures(split)) if drawn else 0
        if self.kinds == PHOTOGRAPHS:
            return Expected(0, pictures, 0.0, pictures)
        few = _few(split) and pictures and self.kinds != "inverted"
        steps = steps_per_input(split, spaces) if self.invert else 0.0
        return Expected(inverted, pictures, steps, pictures if few else inverted)

    def __call__(
        self,
        graph: Graph,
        input_range: Any = None,
        seed: int = 0,
        verbose: int = 0,
        strategy: Any = None,
    ) -> tuple[Kind, ...]:
        """The inputs, see `synthesize`."""
        how = (self.kinds, self.num_inputs, seed, verbose, self.invert, strategy)
        return synthesize(graph, input_range, *how)


def synthesize(
    graph: Graph,
    input_range: Any = None,
    choice: str = "auto",
    count: int | None = None,
    seed: int = 0,
    verbose: int = 0,
    invert: bool = True,
    strategy: Any = None,
) -> tuple[Kind, ...]:
    """Synthetic inputs of every kind that suits a network, the one to fit a repair to first.

    Args:
        graph: the dense network.
        input_range: see `layers.asking.input_specs`.
        choice: `"auto"` takes photographs beside inverted inputs where the inputs are pictures and the network's
            BatchNorm statistics say that photographs look like its data; `"inverted"` and `"procedural"` do without
            photographs, `"photographs"` without inversion.
        count: how many of each kind; None lets the network's size decide.
        seed: the same seed gives the same inputs.
        verbose: 1 prints progress.
        invert: whether the network shapes inverted inputs; otherwise they are what the prior draws.
        strategy: of `tf.distribute`, over whose replicas the batches of inverted inputs are spread; None for one.

    Returns:
        At least one kind, the one to fit a repair to first: the inverted inputs, unless the network is too large to
        invert many and pictures are near its BatchNorm statistics.

    Raises:
        ValueError: only pictures are asked for, but the network's input is none.

    Example:
        >>> import tf_keras
        >>> from keras_robust_prune.keras_io.reading import read
        >>> layers = [tf_keras.Input((4,)), tf_keras.layers.Dense(3, name="a")]
        >>> [kind.name for kind in synthesize(read(tf_keras.Sequential(layers)), count=8)]
        ['inverted']
    """
    spaces = input_specs(graph, input_range)
    drawn = len(spaces) == 1 and is_picture(spaces[0])
    if choice == PHOTOGRAPHS and not drawn:
        raise ValueError(
            "synthesis is 'photographs', but the network does not take one picture of one or three channels."
            " Leave it at 'auto'."
        )
    split = split_activations(graph)
    found = []
    if choice != PHOTOGRAPHS:
        made = synthetic_inputs(
            graph, input_range, count, seed, verbose, invert, choice == "auto", strategy
        )
        found.append(judged(split, "inverted", made.arrays))
    if drawn and choice != "inverted":
        name = "procedural" if choice == "procedural" else PHOTOGRAPHS
        pictures = _pictures(split, spaces[0], name, count, seed)
        # Where nothing is stored, the distance is NaN, and nothing says that they look like the data.
        if choice != "auto" or pictures.distance <= _NEAR:
            found.append(pictures)
    if len(found) == 2 and _few(graph) and found[1].distance <= _NEAR:
        found.reverse()
    if verbose:
        print(f"synthetic inputs: {', '.join(map(str, found))}", flush=True)
    return tuple(found)


def _few(graph: Graph) -> bool:
    """Whether a network is too large to invert many inputs, however many are asked for.

    Where it is, pictures that look like its data to BatchNorm tell more of them than its inverted inputs do; where it
    is not, those were better in every measurement. Distances alone cannot say: inversion brings down its own.
    """
    return usual_count(work_of(graph)) < _ENOUGH


def _pictures(split: Graph, space: InputSpec, name: str, count: int | None, seed: int) -> Kind:
    """Pictures of one kind; of twice as many those that spread evenly over the dense network's classes."""
    count = count or _num_pictures(split)
    draw = crops if name == PHOTOGRAPHS else procedural
    pool = space.raw(draw(space, 2 * count, np.random.default_rng([seed, 7])))
    classes, entropy = _classes(split, [pool])
    chosen = spread(classes, count, np.random.default_rng([seed, 8]))
    arrays = (pool[chosen],)
    return Kind(name, arrays, resemblance(split, arrays), entropy)


def _num_pictures(split: Graph) -> int:
    """As many as a network's size allows."""
    cost = max(work_of(split), 1)
    return int(np.clip(_PICTURE_WORK / cost, _FEWEST_PICTURES, _MOST_PICTURES))


def judged(split: Graph, name: str, arrays: tuple[np.ndarray, ...]) -> Kind:
    """Inputs as a kind, with its resemblance and the entropy of its classes."""
    return Kind(name, arrays, resemblance(split, arrays), _classes(split, arrays)[1])


def spread(classes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Which inputs to take so that classes are as equally frequent as can be.

    Args:
        classes: of each input, `(num,)` whole numbers.
        count: how many to take, at most `num`.
        rng: of the order within a class.

    Returns:
        Ascending indices, `(count,)`.

    Example:
        >>> spread(np.array([0, 0, 0, 0, 1, 2]), 4, np.random.default_rng(0)).tolist()[-2:]
        [4, 5]
    """
    order = rng.permutation(len(classes))
    rank = np.empty(len(classes), int)
    seen: dict[int, int] = {}
    for index in order:
        label = int(classes[index])
        rank[index] = seen[label] = seen.get(label, -1) + 1
    by_rank = order[np.argsort(rank[order], kind="stable")]
    return np.sort(by_rank[:count])


def _classes(split: Graph, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """The dense network's first output's class of every input, and the entropy of the classes, [0, 1]."""
    probe = ActivationProbe(split, logit_refs(split)[:1])
    size, found = probe.batch_size(), []
    num_classes = 1
    for k in range(0, len(arrays[0]), size):
        values = np.asarray(scores(probe.batch([x[k : k + size] for x in arrays])[0]))
        num_classes = values.shape[-1]
        found.append(values.argmax(-1))
    classes = np.concatenate(found)
    share = np.bincount(classes, minlength=num_classes) / len(classes)
    greatest = np.log(min(num_classes, len(classes)))
    if greatest <= 0:
        return classes, 1.0
    return classes, float(-np.sum(share * np.log(np.maximum(share, 1e-12))) / greatest)


def resemblance(split: Graph, arrays: Sequence[np.ndarray], most: int = 256) -> float:
    """How far inputs are from the statistics that a network stores of its own data.

    Args:
        split: the network, activations split off.
        arrays: inputs, one array per network input.
        most: how many of them are looked at.

    Returns:
        Mean over the BatchNorm layers of the mean squared difference of means and of deviations, in stored
        deviations; NaN if there are none. Lower is better.
    """
    nodes = inversion.statistics(split)
    if not nodes:
        return float("nan")
    probe = ActivationProbe(split, [node.inputs[0] for node in nodes])
    sums = [np.zeros((2, node.shapes[0][-1] or 1)) for node in nodes]
    size, num = probe.batch_size(), min(most, len(arrays[0]))
    for k in range(0, num, size):
        tensors = probe.batch([x[k : min(k + size, num)] for x in arrays])
        for total, tensor in zip(sums, tensors, strict=True):
            rows = np.asarray(tensor, np.float64).reshape(-1, total.shape[1])
            total += np.stack([rows.mean(0), np.square(rows).mean(0)]) * (len(tensor) / num)
    found = []
    for node, (mean, square) in zip(nodes, sums, strict=True):
        stored, deviation = inversion.stored(split, node)
        spread_now = np.sqrt(np.maximum(square - mean**2, 0.0))
        shift = np.square((mean - stored) / deviation).mean()
        found.append(shift + np.square(spread_now / deviation - 1).mean())
    return float(np.mean(found))
