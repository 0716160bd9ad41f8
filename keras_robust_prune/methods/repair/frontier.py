"""Where measuring begins: not at the inputs, but at the last tensors that are known for all of them.

Consumers are measured in the order of the graph. Run from the inputs, each of them costs a pass through everything
before it, and a network of n layers n/2 passes. What crosses a cut in front of a consumer stays the same as long as no
layer before the cut changes; the next consumer is measured from there.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune import memory
from keras_robust_prune.graph.graph import Graph, Layer, Ref
from keras_robust_prune.layers.base import known_size, layer_type
from keras_robust_prune.surgery.costs import work_of
from keras_robust_prune.synthesis.probe import ActivationProbe

_ONE = 2 / 3  # of what all cuts may take, at most, for one of them
_WORK = 2e10  # multiplications that a cut has to save, on all inputs
_BUILT = 2e9  # as many as Keras and TensorFlow could do in the time that building one call takes


class Part(NamedTuple):
    """A network from some of its tensors on, and what they are on the inputs at hand.

    Attributes:
        graph: begins at those tensors.
        sources: kinds of inputs; each one array per tensor, in the order of `graph.inputs`.
    """

    graph: Graph
    sources: Sequence[Sequence[np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class _Cut:
    """Tensors that cross the graph in front of a node, for all inputs."""

    refs: tuple[Ref, ...]
    before: tuple[Layer, ...]
    sources: Sequence[Sequence[np.ndarray]]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for arrays in self.sources for array in arrays)

    def holds(self, graph: Graph) -> bool:
        """Whether all layers before it are those it was computed with."""
        return all(graph.layers.get(layer.name) is layer for layer in self.before)


class Frontier:
    """The cuts of one network, as far as it has been measured.

    Where cuts lie, and from which cut the next is computed, is fixed from the start: what is measured does not depend,
    to the last bit, on what was measured before.

    Args:
        split: the dense network, activations split off; a pruned one in full shape has the same calls.
        consumers: the layers that are measured.
        sources: kinds of inputs; each one array per network input.
        work: how many multiplications, on all inputs, a cut has to save; building a call counts as some.
        strategy: of `tf.distribute`, over whose replicas inputs are spread; None for one.
    """

    def __init__(
        self,
        split: Graph,
        consumers: Sequence[str],
        sources: Sequence[Sequence[np.ndarray]],
        work: float = _WORK,
        strategy: Any = None,
    ) -> None:
        self.sources, self._strategy = sources, strategy
        self._place = {node.name: index for index, node in enumerate(split.nodes)}
        self._positions = [0]
        self._cuts: dict[int, _Cut] = {}
        count = sum(len(arrays[0]) for arrays in sources)
        for position in sorted({self._before(split, name) for name in consumers}):
            passed = split.nodes[self._positions[-1] : position]
            cost = count * work_of(split, passed) + _BUILT * len(passed)
            if cost >= work and _fits(split, _crossing(split, position), count):
                self._positions.append(position)

    def _before(self, split: Graph, consumer: str) -> int:
        """The last position at which all that a consumer reads is known, or still to come."""
        read = [ref for node in split.calls[consumer] for ref in node.inputs]
        return min(self._place[ref.node] for ref in read) + 1

    def passes(self, split: Graph, consumers: Sequence[str]) -> float:
        """How many passes of the whole network measuring every consumer once takes.

        Args:
            split: the network.
            consumers: that are measured.
        """
        ends = [1 + max(self._place[node.name] for node in split.calls[name]) for name in consumers]
        begins = [self._positions[self._last(split, name)] for name in consumers]
        between = itertools.pairwise(self._positions)
        parts = [*zip(begins, ends, strict=True), *between]
        whole = max(work_of(split, split.nodes), 1.0)
        return sum(work_of(split, split.nodes[begin:end]) for begin, end in parts) / whole

    def part(self, graph: Graph, split: Graph, consumer: str) -> Part:
        """A network from the last cut before a consumer on; what its outputs are added to is in it, too.

        Args:
            graph: the network as it stands; a cut holds as long as the layers before it are the same objects.
            split: the same with activations split off.
            consumer: the layer's name.
        """
        return self._at(graph, split, self._last(split, consumer))

    def _last(self, split: Graph, consumer: str) -> int:
        """The number of the last cut before a consumer."""
        return bisect.bisect_right(self._positions, self._before(split, consumer)) - 1

    def _at(self, graph: Graph, split: Graph, index: int) -> Part:
        """The network from one of the cuts on; the whole of it from the first."""
        if not index:
            return Part(split, self.sources)
        position = self._positions[index]
        cut = self._cuts.get(position)
        if cut is None or not cut.holds(graph):
            crossing = _crossing(split, position)
            begun = self._at(graph, split, index - 1)
            probe = ActivationProbe(begun.graph, crossing, self._strategy)
            found = [probe.run(arrays) for arrays in begun.sources]
            cut = _Cut(crossing, _layers_before(graph, split, position), found)
            self._cuts[position] = cut
            self._forget(position)
        return Part(split.beginning_at(cut.refs, position), cut.sources)

    def _forget(self, last: int) -> None:
        """Let go of the earliest cuts while all together are too large."""
        most = memory.most(memory.CUTS)
        for position in sorted(self._cuts):
            if position != last and sum(cut.nbytes for cut in self._cuts.values()) > most:
                del self._cuts[position]


def _fits(split: Graph, crossing: Sequence[Ref], count: int) -> bool:
    """Whether tensors can be kept for all inputs, and a network that begins at them computes the same."""
    if not crossing or any(ref.output or None in split.shape(ref) for ref in crossing):
        return False
    if any(layer_type(layer).marks_steps(layer) for layer in split.layers.values()):
        return False  # a mask of steps goes from layer to layer unseen
    wanted = 4 * count * sum(known_size(split.shape(ref)) for ref in crossing)
    return wanted <= _ONE * memory.most(memory.CUTS)


def _crossing(split: Graph, position: int) -> tuple[Ref, ...]:
    """Tensors computed before a position that are read from there on."""
    earlier = {node.name for node in split.nodes[:position]}
    read = [ref for node in split.nodes[position:] for ref in node.inputs]
    return tuple(dict.fromkeys(ref for ref in read if ref.node in earlier))


def _layers_before(graph: Graph, split: Graph, position: int) -> tuple[Layer, ...]:
    """The layers, as the network holds them, that are called before a position."""
    names = dict.fromkeys(node.layer for node in split.nodes[:position])
    return tuple(graph.layers[name] for name in names if name in graph.layers)
