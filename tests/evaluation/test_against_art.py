"""Our attacks beside those of the adversarial-robustness-toolbox, written by others: same network, same settings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.evaluation.adapters import KerasAdapter
from keras_robust_prune.evaluation.attacks import Attack
from keras_robust_prune.evaluation.attacks.pgd import ascend
from keras_robust_prune.evaluation.classifier import Classifier, Head

EPS = 0.1


@pytest.fixture(scope="module")
def pair() -> tuple[Classifier, Any]:
    """One small network as ours and as ART's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch, which it looks for, is not there
        from art.estimators.classification import TensorFlowV2Classifier

    keras, rng = backends.tf_keras(), np.random.default_rng(0)
    layers = [keras.Input((8,)), keras.layers.Dense(12, "relu"), keras.layers.Dense(4)]
    model = keras.Sequential(layers)
    model.set_weights([rng.normal(size=w.shape).astype("f") for w in model.get_weights()])
    adapter = KerasAdapter(model)
    head = Head("class", 0, adapter.activations[0], np.zeros(0, int), None, 4)
    art = TensorFlowV2Classifier(
        model=lambda x, training=False: model(x),
        nb_classes=4,
        input_shape=(8,),
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )
    return Classifier(adapter, head), art


@pytest.fixture(scope="module")
def points(pair: tuple[Classifier, Any]) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(1).uniform(size=(60, 8)).astype("f")
    return x, pair[0].predict(x)


def margins_of_art(pair: tuple[Classifier, Any], attack: Any, x: Any, y: Any) -> np.ndarray:
    return pair[0].margins(attack.generate(x, np.eye(4, dtype="f")[y]), y)


def test_one_step_is_the_same_point(pair: tuple[Classifier, Any], points: Any) -> None:
    from art.attacks.evasion import FastGradientMethod

    (ours, art), (x, y) = pair, points
    attack = Attack.parse(f"fgsm@{EPS}")
    moved = attack.run(ours, x, y, attack.threat(ours.adapter.layout, (0.0, 1.0)))
    theirs = FastGradientMethod(art, eps=EPS).generate(x, np.eye(4, dtype="f")[y])
    stepped = ours.margins(theirs, y) >= ours.margins(x, y)  # where it makes things worse, we stay
    assert stepped.mean() > 0.8
    np.testing.assert_allclose(moved[stepped], theirs[stepped], atol=1e-6)


def test_many_steps_go_the_same_way(pair: tuple[Classifier, Any], points: Any) -> None:
    from art.attacks.evasion import ProjectedGradientDescent

    (ours, art), (x, y) = pair, points
    threat = Attack.parse(f"pgd@{EPS}").threat(ours.adapter.layout, (0.0, 1.0))
    mine = ours.margins(ascend(ours, x, x, y, threat, steps=10, step_size=EPS / 4), y)
    theirs = ProjectedGradientDescent(
        art, eps=EPS, eps_step=EPS / 4, max_iter=10, num_random_init=0, verbose=False
    )
    last = margins_of_art(pair, theirs, x, y)
    assert (mine >= last - 1e-5).all()  # ours keep the worst point on the way, theirs the last
    assert np.isclose(mine, last, atol=1e-4).mean() > 0.8


def test_auto_pgd_is_as_strong(pair: tuple[Classifier, Any], points: Any) -> None:
    from art.attacks.evasion import AutoProjectedGradientDescent

    (ours, art), (x, y) = pair, points
    attack = Attack.parse(f"apgd-25@{EPS}")
    threat = attack.threat(ours.adapter.layout, (0.0, 1.0))
    mine = ours.margins(attack.run(ours, x, y, threat, seed=0), y)
    theirs = AutoProjectedGradientDescent(
        art, eps=EPS, eps_step=2 * EPS, max_iter=25, nb_random_init=1, loss_type=None, verbose=False
    )
    np.random.seed(0)  # noqa: NPY002
    found = margins_of_art(pair, theirs, x, y)
    assert (mine > 0).sum() >= (found > 0).sum() - 1
