"""A trained network and images that it classifies rightly."""

from __future__ import annotations

import numpy as np
import pytest
from classifiers import classifier_of

from keras_robust_prune import demo
from keras_robust_prune.evaluation.classifier import Classifier


@pytest.fixture(scope="module")
def digits() -> tuple[Classifier, np.ndarray, np.ndarray]:
    model, x, y = demo.load()
    classifier = classifier_of(model, 10, batch_size=64)
    rows = classifier.adapter.layout.pack(x[:60])
    right = classifier.predict(rows) == y[:60]
    return classifier, rows[right], y[:60][right]
