"""A classifier: one question of a network, the function that attacks turn against."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.adapters import KerasAdapter, ModelAdapter
from keras_robust_prune.evaluation.logits import PROBABILITIES
from keras_robust_prune.evaluation.losses import wrong_log_odds
from keras_robust_prune.keras_io.compiling import gradients


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """One question that a network answers: which class?

    Attributes:
        name: of the output; of a multi-label output with the label's number.
        output: which output of the network.
        activation: the output's last activation.
        labels: the right classes, `(num_inputs,)`.
        column: which unit of a multi-label output; None takes them all.
        num_classes: at least 2.
    """

    name: str
    output: int
    activation: str
    labels: np.ndarray
    column: int | None
    num_classes: int

    def predict(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """Predicted classes `(num_inputs,)`: the largest output; for one unit whether it exceeds one half."""
        value = self._own(outputs[self.output])
        if self.num_classes > 2 or value.shape[1] == 2:
            return value.argmax(1)
        return (value[:, 0] > (0.5 if self.activation in PROBABILITIES else 0.0)).astype(np.int64)

    def logits(self, logits: Sequence[Any], concat: Callable[[list[Any], int], Any]) -> Any:
        """Logits `(num_inputs, num_classes)`; one unit z becomes the two logits -z/2 and z/2."""
        value = self._own(logits[self.output])
        return value if value.shape[1] > 1 else concat([-value / 2, value / 2], 1)

    def _own(self, value: Any) -> Any:
        return value if self.column is None else value[:, self.column : self.column + 1]


class Classifier:
    """One head of one model adapter.

    Args:
        adapter: the network.
        head: which of its questions.
        batch_size: how many inputs are computed at once.
    """

    def __init__(self, adapter: ModelAdapter, head: Head, batch_size: int = 256) -> None:
        self.adapter, self.head, self.batch_size = adapter, head, batch_size
        self.compiled: dict[Any, Any] = {}

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Predicted classes `(num_inputs,)`."""
        return self.head.predict(self.adapter.run(rows, self.batch_size)[0])

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Logits `(num_inputs, num_classes)`."""
        return self.head.logits(self.adapter.run(rows, self.batch_size)[1], np.concatenate)

    def margins(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Best wrong logit minus the right one, `(num_inputs,)`: above 0 is misclassified."""
        logits = self.logits(rows)
        index = np.arange(len(rows))
        right = logits[index, labels].copy()
        logits = logits.copy()
        logits[index, labels] = -np.inf
        return logits.max(1) - right

    def gradient(self, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Gradient of the log-odds of a wrong class by the inputs, `(num_inputs, num_features)`: the way to an error.

        The log-odds rise where cross-entropy does, and do not saturate where the network is sure of itself. Only Keras
        models have gradients.
        """
        tf = backends.tensorflow()
        if "gradient" not in self.compiled:
            row = tf.TensorSpec([None, self.adapter.layout.num_features], tf.float32)
            signature = [row, tf.TensorSpec([None], tf.int32)]
            self.compiled["gradient"] = self.by_rows(self._gradient, signature, 2)
        found = [np.zeros_like(rows[:0])]
        for begin in range(0, len(rows), self.batch_size):
            part = slice(begin, begin + self.batch_size)
            given = tf.constant(rows[part], tf.float32), tf.constant(labels[part], tf.int32)
            found.append(self.compiled["gradient"](*given).numpy())
        return np.concatenate(found)

    def _gradient(self, rows: Any, labels: Any) -> Any:
        return gradients(wrong_log_odds(self.tensor(rows), labels), [rows])[0]

    def by_rows(self, function: Any, signature: Sequence[Any], num_rows: int) -> Any:
        """A function compiled for the replicas that the network is on; see `Replicas.by_rows`."""
        assert isinstance(self.adapter, KerasAdapter)
        return self.adapter.replicas.by_rows(function, signature, num_rows)

    def tensor(self, rows: Any) -> Any:
        """Logits as a tensor that gradients pass."""
        assert isinstance(self.adapter, KerasAdapter)
        return self.head.logits(self.adapter.tensors(rows), backends.tensorflow().concat)
