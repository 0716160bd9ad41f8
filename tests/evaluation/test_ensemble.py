"""The ensemble, the targeted attack and the losses that they raise."""

from __future__ import annotations

import numpy as np
import pytest
from classifiers import attacked, dense_classifier, robust_share

from keras_robust_prune import backends
from keras_robust_prune.evaluation.attacks import Attack
from keras_robust_prune.evaluation.attacks.ensemble import members_for
from keras_robust_prune.evaluation.classifier import Classifier
from keras_robust_prune.evaluation.losses import LOSSES


@pytest.mark.parametrize(
    ("num_classes", "norm", "expected"),
    [
        (10, "linf", ["apgd", "apgd-t", "square"]),
        (10, "l2", ["apgd", "apgd-t"]),
        (3, "linf", ["apgd", "apgd-dlr", "square"]),
        (2, "linf", ["apgd", "square"]),
    ],
)
def test_the_ensemble_has_the_members_that_fit(
    num_classes: int, norm: str, expected: list[str]
) -> None:
    assert [kind.name for kind in members_for(num_classes, norm)] == expected


@pytest.mark.parametrize("ball", ["0.15", "0.6:l2"])
def test_the_ensemble_is_as_strong_as_each_of_its_members(
    ball: str, digits: tuple[Classifier, np.ndarray, np.ndarray]
) -> None:
    whole, one, towards = (
        robust_share(f"{name}-10@{ball}", digits) for name in ("ensemble", "apgd", "apgd-t")
    )
    assert 0 < whole <= min(one, towards)


def test_a_targeted_attack_reaches_the_class_that_an_untargeted_one_misses() -> None:
    # The likeliest wrong class, 1, is out of reach whatever x is; class 4, the least likely at x, is not.
    kernel = np.zeros((2, 5), np.float32)
    kernel[0] = [1.0, 1.0, 0.0, 0.0, 0.0]
    kernel[1] = [0.0, -0.01, 0.0, 0.0, 4.0]
    classifier = dense_classifier(kernel)
    x, y = np.array([[0.5, 0.05]], np.float32), np.array([0])
    assert classifier.logits(x).argsort()[0, ::-1].tolist()[:3] == [0, 1, 4]
    assert attacked("apgd-t-20@0.2", classifier, x, y) == pytest.approx(4 * 0.25 - 0.3, abs=1e-4)


def test_the_targeted_ratio_is_that_of_the_paper() -> None:
    logits = np.array([[3.0, 1.0, 0.0, -1.0]], np.float32)
    ratio = LOSSES["dlr-targeted"](
        backends.tensorflow().constant(logits), np.array([0], np.int32), np.array([2], np.int32)
    )
    np.testing.assert_allclose(ratio, [(0 - 3) / (3 - (0 - 1) / 2)], rtol=1e-6)


def test_autoattack_answers_by_its_new_name() -> None:
    with pytest.warns(DeprecationWarning, match="FAB") as caught:
        attack = Attack.parse("autoattack-8@0.1")
    assert attack == Attack("ensemble", 0.1, steps=8)
    assert caught[0].filename == __file__


def test_the_gradient_is_that_of_the_log_odds() -> None:
    rng = np.random.default_rng(4)
    kernel = rng.normal(size=(5, 3)).astype("f")
    x, y = rng.uniform(size=(9, 5)).astype("f"), rng.integers(0, 3, 9)
    for i, row in enumerate(dense_classifier(kernel).gradient(x, y)):
        others = [k for k in range(3) if k != y[i]]
        share = np.exp(x[i] @ kernel[:, others])
        expected = kernel[:, others] @ (share / share.sum()) - kernel[:, y[i]]
        np.testing.assert_allclose(row, expected, atol=1e-5)
