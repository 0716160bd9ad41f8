"""Small classifiers to attack, and what is left of their margins."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.adapters import KerasAdapter
from keras_robust_prune.evaluation.attacks import Attack
from keras_robust_prune.evaluation.attacks.threat import Threat
from keras_robust_prune.evaluation.classifier import Classifier, Head


def dense_classifier(
    *weights: np.ndarray, activation: str = "relu", keras: str = "tf_keras"
) -> Classifier:
    """A classifier of a network of Dense layers with the given kernels and zero biases."""
    module = backends.module(keras)
    model = module.Sequential([module.Input((weights[0].shape[0],))])
    for number, kernel in enumerate(weights, 1):
        last = number == len(weights)
        model.add(module.layers.Dense(kernel.shape[1], None if last else activation))
    model.set_weights([part for kernel in weights for part in (kernel, np.zeros(kernel.shape[1]))])
    return classifier_of(model, max(weights[-1].shape[1], 2))


def classifier_of(model: Any, num_classes: int, batch_size: int = 7) -> Classifier:
    adapter = KerasAdapter(model)
    head = Head("class", 0, adapter.activations[0], np.zeros(0, int), None, num_classes)
    return Classifier(adapter, head, batch_size)


def threat_of(text: str, classifier: Classifier, input_range: Any = (0.0, 1.0)) -> Threat:
    return Attack.parse(text).threat(classifier.adapter.layout, input_range)


def attacked(
    text: str, classifier: Classifier, x: np.ndarray, y: np.ndarray, input_range: Any = (0.0, 1.0)
) -> np.ndarray:
    """Margins after the attack."""
    threat = threat_of(text, classifier, input_range)
    return classifier.margins(Attack.parse(text).run(classifier, x, y, threat, seed=3), y)


def robust_share(
    text: str, digits: tuple[Classifier, np.ndarray, np.ndarray], seed: int = 0
) -> float:
    classifier, x, y = digits
    moved = Attack.parse(text).run(classifier, x, y, threat_of(text, classifier), seed=seed)
    return float((classifier.predict(moved) == y).mean())
