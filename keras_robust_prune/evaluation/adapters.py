"""Model adapters: a Keras model or a `.tflite` file, seen as rows in, outputs and logits out."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.layout import Layout
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.evaluation.logits import logits
from keras_robust_prune.graph.graph import Graph, map_refs
from keras_robust_prune.keras_io import reading
from keras_robust_prune.keras_io.distributing import Replicas
from keras_robust_prune.layers.asking import said


class ModelAdapter(Protocol):
    """A network that can be asked for outputs and for logits, which order the classes and do not saturate."""

    layout: Layout
    output_names: tuple[str, ...]
    signature_names: tuple[str, ...]
    activations: tuple[str, ...]
    has_gradients: bool
    integer_inputs: tuple[str, ...]

    def run(self, rows: np.ndarray, batch_size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Outputs and logits of every output, each `(num_inputs, width)`."""


class KerasAdapter:
    """A Keras model of either kind, or the path of one."""

    has_gradients = True

    def __init__(self, model: Any, strategy: Any = None) -> None:
        tf = backends.tensorflow()
        self.replicas = Replicas(strategy)
        model = reading.opened(model)
        graph = reading.read(model)
        hidden = [name for name, mask in reading.read_masks(model).items() if not mask.all()]
        if hidden:
            raise ValueError(
                f"{model.name!r} is wrapped, and masks hide units from {hidden}. Pass"
                " krp.strip(model), which computes the same without them."
            )
        scoring, self.activations = logits(graph)
        self.layout = Layout(
            tuple(graph.layer_of(ref).name for ref in graph.inputs),
            tuple(_known(graph.shape(ref), graph.layer_of(ref).name) for ref in graph.inputs),
            said(graph),
        )
        self.dtypes = [_dtype(graph.layer_of(ref).config.get("dtype")) for ref in graph.inputs]
        self.integer_inputs = tuple(
            name
            for name, dtype in zip(self.layout.names, self.dtypes, strict=True)
            if "int" in dtype
        )
        self.output_names, self.signature_names = _output_names(model, graph)
        for name, ref in zip(self.output_names, graph.outputs, strict=True):
            if None in graph.shape(ref):
                raise ValueError(
                    f"Output '{name}' of '{graph.name}' has the open shape {(None, *graph.shape(ref))}: what of it"
                    " is one input's cannot be told. Leave it out: keras.Model(model.inputs, others)."
                )
        self._inputs = graph.inputs
        self._structure = graph.input_structure
        with self.replicas.scope():
            self._model = reading.build(scoring)
        row = tf.TensorSpec([None, self.layout.num_features], tf.float32)
        self._function = self.replicas.by_rows(self._both, [row], 1)

    def _both(self, rows: Any) -> list[Any]:
        tf = backends.tensorflow()
        parts = self.layout.unpack(rows, tf.reshape)
        feeds = {
            ref: tf.cast(part, dtype)
            for ref, part, dtype in zip(self._inputs, parts, self.dtypes, strict=True)
        }
        structure = self._structure
        if structure is None:
            structure = list(self._inputs) if len(self._inputs) > 1 else self._inputs[0]
        values = self._model(map_refs(feeds.__getitem__, structure), training=False)
        return [tf.reshape(tf.cast(v, tf.float32), (-1, math.prod(v.shape[1:]))) for v in values]

    def tensors(self, rows: Any) -> list[Any]:
        """Logits of every output as tensors that gradients pass."""
        return self._both(rows)[len(self.output_names) :]

    def run(self, rows: np.ndarray, batch_size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Outputs and logits of every output, each `(num_inputs, width)`."""
        if not len(rows):  # convolutions fail on batches of none
            one = np.zeros((1, self.layout.num_features), np.float32)
            outputs, scores = self.run(one, 1)
            return [value[:0] for value in outputs], [value[:0] for value in scores]
        tf = backends.tensorflow()
        chunks = [
            [v.numpy() for v in self._function(tf.constant(rows[start : start + batch_size]))]
            for start in range(0, len(rows), batch_size)
        ]
        values = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
        return values[: len(values) // 2], values[len(values) // 2 :]


class LiteAdapter:
    """A `.tflite` file: outputs only, no gradients. Logits are read off the probabilities."""

    has_gradients = False

    def __init__(self, path: str | os.PathLike[str], like: ModelAdapter | None = None) -> None:
        names = ((), ()) if like is None else (like.layout.names, like.signature_names)
        self._file = LiteFile(path, *names)
        self.layout = self._file.layout
        if like is not None and like.layout.shapes == self.layout.shapes:
            self.layout = dataclasses.replace(self.layout, said=like.layout.said)
        self.output_names = self.signature_names = self._file.output_names
        if like is not None and len(like.output_names) == len(self.output_names):
            self.output_names = like.output_names
        self.activations = self._file.activations()
        self.integer_inputs = self._file.integer_inputs

    def run(self, rows: np.ndarray, batch_size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Outputs and logits of every output, each `(num_inputs, width)`."""
        outputs = [value.reshape(len(rows), -1) for value in self._file(rows, batch_size)]
        scores = [
            _log_odds(value, name, step)
            for value, name, step in zip(
                outputs, self.activations, self._file.resolution(), strict=True
            )
        ]
        return outputs, scores


def adapt(model: Any, like: ModelAdapter | None = None, strategy: Any = None) -> ModelAdapter:
    """The adapter of a model, a path or a `.tflite` path, which uses one device; an adapter is left as it is."""
    if isinstance(model, (KerasAdapter, LiteAdapter)):
        return model
    return LiteAdapter(model, like) if is_litefile(model) else KerasAdapter(model, strategy)


def trusted(model: Any) -> Any:
    """The model at a path, loaded though its file may run code; a `.tflite` path and what is no path stay."""
    return model if is_litefile(model) else reading.opened(model, trust=True)


def is_litefile(model: Any) -> bool:
    """Whether something is the path of a `.tflite` file."""
    return isinstance(model, (str, os.PathLike)) and os.fspath(model).endswith(".tflite")


def _log_odds(value: np.ndarray, activation: str, step: float) -> np.ndarray:
    """Logits (up to a constant) of probabilities; half a quantisation step stands for 0."""
    floor = np.float32(max(step / 2, 1e-37))
    if activation == "softmax":
        return np.log(np.maximum(value, floor))
    if activation == "sigmoid":
        rest = np.maximum(1 - value, max(step / 2, np.finfo(np.float32).eps / 4))
        return np.log(np.maximum(value, floor)) - np.log(rest)
    return value


def _known(shape: tuple[int | None, ...], name: str) -> tuple[int, ...]:
    if any(size is None for size in shape):
        raise ValueError(
            f"Input {name!r} has the open shape {shape}. Evaluate a model whose input shape is"
            " fixed: build it with the size of your examples."
        )
    return tuple(int(size) for size in shape if size is not None)


def _dtype(policy: Any) -> str:
    """The name of a type, given as such or as a Keras policy."""
    return policy if isinstance(policy, str) else "float32"


def _output_names(model: Any, graph: Graph) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names by which `y` calls the outputs, and those in the signature of a file, in the order of the outputs.

    Outputs in a dictionary are listed as its keys sort. tf_keras gives files the layers' names all the same.
    """
    names = tuple(getattr(model, "output_names", ()))
    if len(names) != len(graph.outputs):
        names = tuple(graph.layer_of(ref).name for ref in graph.outputs)
    if not isinstance(graph.output_structure, Mapping):
        return names, names
    keys = tuple(str(key) for key in sorted(graph.output_structure))
    return keys, names if graph.keras == "tf_keras" else keys
