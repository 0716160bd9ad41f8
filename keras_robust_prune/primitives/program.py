"""A network as a list of primitives, each with the places of its inputs: what all bounds are computed on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from keras_robust_prune.primitives.base import Primitive


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One primitive applied to values computed before.

    Attributes:
        primitive: what is computed; None for an input of the network.
        inputs: places of its inputs in the program.
        shape: shape of its output without the batch axis.
        node: the node of the graph that it belongs to.
        layer: the layer that the node calls.
    """

    primitive: Primitive | None
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    node: str
    layer: str


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A network as operations; the value at place k is what operation k computes.

    Attributes:
        operations: every one stands after those that it reads.
        inputs: places of the network's inputs.
        outputs: places of its outputs.
        places: where the tensors of the network are found, by whatever names them.
        dtype: the precision of its arrays.
    """

    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    places: Mapping[Any, int]
    dtype: Any

    @cached_property
    def logits(self) -> tuple[int, ...]:
        """Places of the outputs, taken before a closing softmax or sigmoid."""
        return tuple(self._before_closing(place) for place in self.outputs)

    def _before_closing(self, place: int) -> int:
        operation = self.operations[place]
        closes = operation.primitive is not None and operation.primitive.closes
        return self._before_closing(operation.inputs[0]) if closes else place

    def values(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Every value for inputs of shape `(batch, *shape)`, one array per input of the network."""
        given = dict(zip(self.inputs, inputs, strict=True))
        found: list[np.ndarray] = []
        for place, operation in enumerate(self.operations):
            if operation.primitive is None:
                found.append(np.asarray(given[place], self.dtype))
            else:
                found.append(operation.primitive.forward(*(found[k] for k in operation.inputs)))
        return found

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The network's outputs."""
        found = self.values(inputs)
        return [found[place] for place in self.outputs]

    @cached_property
    def num_logits(self) -> int:
        """How many numbers the logits of all outputs are."""
        return sum(int(np.prod(self.operations[place].shape)) for place in self.logits)
