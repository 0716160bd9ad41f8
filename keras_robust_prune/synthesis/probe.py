"""Any tensor of a graph as numbers: one Keras model that returns the tensors asked for.

Everything that measures a network on inputs goes through here, so there is one place that knows how
a graph is called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends, memory
from keras_robust_prune.backends import ModelError
from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.keras_io.building import build_with_layers
from keras_robust_prune.keras_io.distributing import Replicas
from keras_robust_prune.keras_io.layers import write_weights, written_weights
from keras_robust_prune.keras_io.normalizing import normalizations_convolved
from keras_robust_prune.layers.base import layer_type


class ActivationProbe:
    """Reads tensors of a graph.

    Args:
        graph: the network.
        refs: the tensors.
        strategy: of `tf.distribute`, over whose replicas `batch` and `run` spread inputs; None for one.
        differentiated: whether gradients are taken of it, which some layers compute faster in another way.

    Attributes:
        graph: the part of the graph that is run; its inputs are those of the whole.
        refs: the tensors, in the order of the results.
        model: the Keras model that computes them in inference mode.

    Example:
        >>> import tf_keras
        >>> from keras_robust_prune.keras_io.reading import read
        >>> layers = [
        ...     tf_keras.Input((2,)),
        ...     tf_keras.layers.Dense(1, name="a", kernel_initializer="ones"),
        ... ]
        >>> graph = read(tf_keras.Sequential(layers))
        >>> ActivationProbe(graph, graph.outputs).run([np.ones((3, 2), "float32")])[0].tolist()
        [[2.0], [2.0], [2.0]]
    """

    def __init__(
        self,
        graph: Graph,
        refs: Iterable[Ref],
        strategy: Any = None,
        *,
        differentiated: bool = False,
    ) -> None:
        self.refs = tuple(refs)
        part = graph.ending_at(self.refs)
        if differentiated:
            part = normalizations_convolved(part)
        self.graph = dataclasses.replace(part, input_structure=None)
        self._replicas = Replicas(strategy)
        with self._replicas.scope():
            self.model, self._made = build_with_layers(self.graph)
        self._compiled: Any = None

    def __call__(self, tensors: Sequence[Any]) -> list[Any]:
        """The tensors as TensorFlow tensors, differentiable; one input per network input."""
        inputs = tensors[0] if len(tensors) == 1 else list(tensors)
        outputs = self.model(inputs, training=False)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def take(self, graph: Graph) -> None:
        """Computes with another graph's weights from now on.

        Args:
            graph: with the same layers, of the same shapes.

        Raises:
            ModelError: a layer does not take them.
        """
        for name, layer in self.graph.layers.items():
            now = graph.layers[name]
            same = all(now.weights[key] is value for key, value in layer.weights.items())
            if not same and (problems := write_weights(self._made[name], now)):
                raise ModelError(f"'{name}' does not take other weights", problems)
        layers = {name: graph.layers[name] for name in self.graph.layers}
        self.graph = dataclasses.replace(self.graph, layers=layers)

    def weights(self) -> dict[tuple[str, str], np.ndarray]:
        """What the model's weights are now, by layer and name."""
        return {
            (name, weight): value
            for name, layer in self.graph.layers.items()
            for weight, value in written_weights(self._made[name], layer).items()
        }

    def run(self, inputs: Sequence[np.ndarray], batch: int | None = None) -> list[np.ndarray]:
        """The tensors as arrays, one row per input, computed batch by batch."""
        batch = batch or self.batch_size()
        parts = [
            [np.asarray(tensor) for tensor in self.batch([x[k : k + batch] for x in inputs])]
            for k in range(0, len(inputs[0]), batch)
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def batch(self, inputs: Sequence[Any]) -> list[Any]:
        """The tensors for one batch, compiled."""
        tf = backends.tensorflow()
        tensors = [tf.convert_to_tensor(x) for x in inputs]
        if self._compiled is None:
            signature = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in tensors]
            # Of many functions with one name TensorFlow would say that one is traced too often: this one is given its
            # signature.
            self._compiled = self._replicas.by_rows(
                lambda *given: self(given), signature, len(signature)
            )
        return self._compiled(*tensors)

    def batch_size(self) -> int:
        """Inputs that go through at once within the memory we allow ourselves, 1 to 250."""
        return batch_size(self.graph)


def batch_size(graph: Graph) -> int:
    """How many inputs of a graph keep all of its tensors within `memory.TENSORS`, 1 to 250."""
    return int(np.clip(memory.most(memory.TENSORS) / bytes_per_input(graph), 1, 250))


def bytes_per_input(graph: Graph) -> float:
    """Bytes of all tensors of a graph for one input, float32; open lengths count as 1."""
    sizes = [
        np.prod([length or 1 for length in shape], dtype=float)
        for node in graph.nodes
        for shape in node.shapes
    ]
    return 4 * max(sum(sizes), 1.0)


def logit_refs(graph: Graph) -> tuple[Ref, ...]:
    """The outputs before their last softmax or sigmoid, in a graph with split activations.

    A probability saturates in float32, and with it every gradient; its logit does not. Outputs
    without such an activation are their own logits.
    """
    return tuple(_logit(graph, ref) for ref in graph.outputs)


def _logit(graph: Graph, ref: Ref) -> Ref:
    layer = graph.layer_of(ref)
    closes = layer_type(layer).gives_probabilities(layer)
    return graph.node[ref.node].inputs[0] if closes else ref


def scores(logits: Any) -> Any:
    """Logits as `(batch, classes)`: averaged over positions; a single one stands against 0."""
    tf = backends.tensorflow()
    if logits.shape.rank == 1:
        logits = logits[:, None]
    if logits.shape.rank > 2:
        logits = tf.reduce_mean(logits, list(range(1, logits.shape.rank - 1)))
    return tf.concat([tf.zeros_like(logits), logits], -1) if logits.shape[-1] == 1 else logits
