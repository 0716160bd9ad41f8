"""A network run again and again with other weights in few layers: only what these layers reach is computed anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.backends import ModelError
from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.keras_io.building import build_with_layers, repeat
from keras_robust_prune.keras_io.layers import write_weights


class Rerun:
    """One batch of inputs at a time; `changed` answers for the batch that was begun last.

    Args:
        graph: the network.
        refs: the tensors that are asked for.

    Example:
        >>> import dataclasses, tf_keras
        >>> from keras_robust_prune.keras_io.reading import read
        >>> ones = dict(kernel_initializer="ones")
        >>> layers = [tf_keras.Input((2,)), tf_keras.layers.Dense(1, name="a", **ones)]
        >>> graph = read(tf_keras.Sequential(layers))
        >>> rerun = Rerun(graph, graph.outputs)
        >>> rerun.begin([np.ones((1, 2), "float32")])[0].tolist()
        [[2.0]]
        >>> weights = {**graph.layers["a"].weights, "bias": np.full(1, 5, "float32")}
        >>> changed = dataclasses.replace(graph.layers["a"], weights=weights)
        >>> rerun.changed([changed])[0].tolist(), rerun.changed([])[0].tolist()
        ([[7.0]], [[2.0]])
    """

    def __init__(self, graph: Graph, refs: Iterable[Ref]) -> None:
        self.refs = tuple(refs)
        self.graph = dataclasses.replace(graph.ending_at(self.refs), input_structure=None)
        _, self._made = build_with_layers(self.graph)
        self._tensors: dict[Ref, Any] = {}

    def begin(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What is asked for, of the network as it is.

        Args:
            inputs: one array per input of the network, at most `probe.batch_size(graph)` rows each.
        """
        convert = backends.tensorflow().convert_to_tensor
        self._tensors = {
            ref: convert(part) for ref, part in zip(self.graph.inputs, inputs, strict=True)
        }
        for node in self.graph.nodes:
            if node.ref not in self._tensors:
                self._repeat(node, self._tensors)
        return self._asked(self._tensors)

    def changed(self, layers: Iterable[Layer]) -> list[np.ndarray]:
        """What is asked for, of the network with these layers' weights in place of its own."""
        layers = [layer for layer in layers if layer.name in self._made]
        self._write(layers)
        names = {layer.name for layer in layers}
        tensors, touched = dict(self._tensors), set[str]()
        for node in self.graph.nodes:
            if node.layer in names or any(ref.node in touched for ref in node.inputs):
                touched.add(node.name)
                self._repeat(node, tensors)
        found = self._asked(tensors)
        self._write([self.graph.layers[name] for name in names])
        return found

    def _repeat(self, node: Node, tensors: dict[Ref, Any]) -> None:
        # Outside of a symbolic model Keras numbers outputs as TensorFlow flattens them.
        repeat(node, self._made, tensors, backends.tensorflow().nest.flatten)

    def _asked(self, tensors: dict[Ref, Any]) -> list[np.ndarray]:
        return [np.asarray(tensors[ref]) for ref in self.refs]

    def _write(self, layers: Iterable[Layer]) -> None:
        for layer in layers:
            if problems := write_weights(self._made[layer.name], layer):
                raise ModelError(f"'{layer.name}' does not take other weights", problems)
