"""The worst points found so far: what restarts, draws and members of an ensemble add to."""

from __future__ import annotations

import numpy as np

from keras_robust_prune.evaluation.classifier import Classifier


class Worst:
    """For each input the point of largest margin among those offered; the input itself until one is.

    Attributes:
        points: `(num_inputs, num_features)`.
        margins: theirs, `(num_inputs,)`; minus infinity before the first offer.
    """

    def __init__(self, classifier: Classifier, x: np.ndarray, labels: np.ndarray) -> None:
        self._classifier, self._labels = classifier, labels
        self.points = x.copy()
        self.margins = np.full(len(x), -np.inf, np.float32)

    @property
    def holding(self) -> np.ndarray:
        """The numbers of the inputs that are still classified rightly."""
        return np.flatnonzero(self.margins <= 0)

    def offer(self, index: np.ndarray, points: np.ndarray) -> None:
        """Points for the inputs of these numbers, kept where they are worse than what was there."""
        margins = self._classifier.margins(points, self._labels[index])
        worse = margins > self.margins[index]
        self.points[index[worse]], self.margins[index[worse]] = points[worse], margins[worse]
