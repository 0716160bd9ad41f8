"""Attacks against closed forms, literal twins and each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from classifiers import attacked, classifier_of, dense_classifier, robust_share, threat_of
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_robust_prune import backends
from keras_robust_prune.evaluation.attacks import ATTACKS, Attack
from keras_robust_prune.evaluation.attacks.apgd import auto_ascend, checkpoints
from keras_robust_prune.evaluation.attacks.pgd import ascend
from keras_robust_prune.evaluation.classifier import Classifier
from keras_robust_prune.evaluation.losses import LOSSES


@pytest.fixture(scope="module")
def points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(20, 6)).astype(np.float32)
    return x, rng.integers(0, 2, 20), rng.normal(size=(6, 2)).astype(np.float32)


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "pgd-5x2", "apgd"])
def test_linear_networks_are_attacked_to_the_optimum_in_linf(
    name: str, keras: str, points: tuple[np.ndarray, ...]
) -> None:
    x, y, kernel = points
    classifier = dense_classifier(kernel, keras=keras)
    uphill = np.sign(kernel[:, 1 - y] - kernel[:, y]).T
    best = np.clip(x + 0.2 * uphill, 0, 1) @ kernel
    rows = np.arange(20)
    expected = best[rows, 1 - y] - best[rows, y]
    np.testing.assert_allclose(attacked(f"{name}@0.2", classifier, x, y), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "tolerance"), [("fgsm", 1e-5), ("pgd", 0.03), ("apgd", 1e-3)])
def test_linear_networks_are_attacked_to_the_optimum_in_l2(
    name: str, tolerance: float, points: tuple[np.ndarray, ...]
) -> None:
    # PGD's steps add up to 2.5 radii, after which its angle to the optimum is exp(-2.5) of what it was.
    x, y, kernel = points
    classifier = dense_classifier(kernel)
    wide = (-10.0, 10.0)
    gain = 0.3 * np.linalg.norm(kernel[:, 1] - kernel[:, 0])
    expected = classifier.margins(x, y) + gain
    found = attacked(f"{name}@0.3:l2", classifier, x, y, wide)
    np.testing.assert_allclose(found, expected, atol=tolerance * gain)


def test_square_comes_near_the_optimum_of_a_linear_network(
    points: tuple[np.ndarray, ...],
) -> None:
    x, y, kernel = points
    classifier = dense_classifier(kernel)
    best = attacked("pgd@0.05", classifier, x, y)
    found = attacked("square-500@0.05", classifier, x, y)
    assert (found <= best + 1e-5).all()
    holds = found <= 0
    assert holds.sum() > 5
    np.testing.assert_allclose(found[holds], best[holds], atol=1e-5)


def test_a_radius_in_percent_counts_in_widths_of_the_range(
    points: tuple[np.ndarray, ...],
) -> None:
    x, y, kernel = points
    classifier = dense_classifier(kernel)
    width = np.array([1, 2, 4, 8, 16, 32], np.float32)
    uphill = np.sign(kernel[:, 1 - y] - kernel[:, y]).T
    moved = np.clip(x * width + 0.1 * width * uphill, 0, width)
    expected = classifier.margins(moved.astype(np.float32), y)
    found = attacked("pgd@10%", classifier, x * width, y, (0.0, width))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def twin_pgd(
    kernels: list[np.ndarray], x: np.ndarray, start: np.ndarray, y: int, eps: float, steps: int
) -> np.ndarray:
    """PGD on one input of a two-layer ReLU network, formula by formula."""
    point, best, largest = start.copy(), start.copy(), -np.inf
    for step in range(steps + 1):
        before = point @ kernels[0]
        logits = np.maximum(before, 0) @ kernels[1]
        others = [k for k in range(len(logits)) if k != y]
        margin = max(logits[others]) - logits[y]
        if margin > largest:
            best, largest = point.copy(), margin
        if step == steps:
            return best
        share = np.exp(logits[others] - max(logits[others]))
        slope = -np.eye(len(logits))[y]
        slope[others] += share / share.sum()
        gradient = kernels[0] @ ((kernels[1] @ slope) * (before > 0))
        point = point + 2.5 * eps / steps * np.sign(gradient)
        point = np.clip(np.clip(point, x - eps, x + eps), 0, 1)
    raise AssertionError


def test_pgd_equals_its_literal_twin() -> None:
    rng = np.random.default_rng(1)
    kernels = [rng.normal(size=(5, 8)).astype("f"), rng.normal(size=(8, 3)).astype("f")]
    classifier = dense_classifier(*kernels)
    x = rng.uniform(size=(15, 5)).astype("f")
    y = rng.integers(0, 3, 15)
    threat = threat_of("pgd@0.1", classifier)
    start = threat.sample(x, rng)
    found = ascend(classifier, x, start, y, threat, steps=10, step_size=0.025)
    expected = [twin_pgd(kernels, x[i], start[i], y[i], 0.1, 10) for i in range(15)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def twin_apgd(kernel: np.ndarray, x: np.ndarray, start: np.ndarray, y: int, eps: float) -> Any:
    """Auto-PGD on one input of a linear network, after the paper's listing."""
    steps = 40

    def loss_and_gradient(point: np.ndarray) -> tuple[float, float, np.ndarray]:
        logits = point @ kernel
        others = np.delete(logits, y)
        share = np.exp(others) / np.exp(others).sum()
        uphill = np.delete(kernel, y, 1) @ share - kernel[:, y]
        return np.log(np.exp(others).sum()) - logits[y], others.max() - logits[y], uphill

    def project(point: np.ndarray) -> np.ndarray:
        return np.clip(np.clip(point, x - eps, x + eps), 0, 1)

    point = before = best = answer = start
    loss, largest, gradient = loss_and_gradient(start)
    best_loss, best_gradient, size = loss, gradient, 2 * eps
    losses, last, halved, loss_then = [loss], 0, True, loss
    for k in range(1, steps + 1):
        ahead = project(point + size * np.sign(gradient))
        share = 1.0 if k == 1 else 0.75
        ahead = project(point + share * (ahead - point) + (1 - share) * (point - before))
        before, point = point, ahead
        loss, margin, gradient = loss_and_gradient(point)
        losses.append(loss)
        if margin > largest:
            answer, largest = point, margin
        if loss > best_loss:
            best, best_loss, best_gradient = point, loss, gradient
        if k in checkpoints(steps):
            rises = sum(losses[i] > losses[i - 1] for i in range(last + 1, k + 1))
            stalled = not halved and best_loss <= loss_then
            halved, loss_then = rises < 0.75 * (k - last) or stalled, best_loss
            last = k
            if halved:
                size, point, before, gradient = size / 2, best, best, best_gradient
                losses[-1] = best_loss
    return answer


def test_apgd_equals_its_literal_twin() -> None:
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(6, 4)).astype("f")
    classifier = dense_classifier(kernel)
    x = rng.uniform(size=(12, 6)).astype("f")
    y = rng.integers(0, 4, 12)
    threat = threat_of("apgd@0.1", classifier)
    start = threat.sample(x, rng)
    found = auto_ascend(classifier, x, start, y, threat, steps=40, loss="ce")
    expected = np.array([twin_apgd(kernel, x[i], start[i], y[i], 0.1) for i in range(12)])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_logits_ratio_is_that_of_the_paper() -> None:
    logits = np.array([[3.0, 1.0, 0.0, -1.0], [3.0, 1.0, 0.0, -1.0]], np.float32)
    ratio = LOSSES["dlr"](backends.tensorflow().constant(logits), np.array([0, 1], np.int32))
    np.testing.assert_allclose(ratio, [(1 - 3) / (3 - 0), (3 - 1) / (3 - 0)], rtol=1e-6)


def test_the_log_odds_ascend_as_cross_entropy_does() -> None:
    tf = backends.tensorflow()
    logits = tf.constant(np.random.default_rng(0).normal(size=(9, 5)).astype("f"))
    labels = np.arange(9, dtype=np.int32) % 5
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    np.testing.assert_allclose(tf.nn.softplus(LOSSES["ce"](logits, labels)), entropy, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(["fgsm", "pgd-3", "apgd-5", "noise-3", "square-20"]),
    eps=st.floats(0.001, 3.0),
    norm=st.sampled_from(["linf", "l2"]),
    percent=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_attacks_stay_within_ball_and_range(
    name: str, eps: float, norm: str, percent: bool, seed: int
) -> None:
    if name.startswith("square"):
        norm = "linf"
    rng = np.random.default_rng(seed)
    lower = np.array([-1, 0, 0, -5], np.float32)
    upper = np.array([1, 1, 0, 5], np.float32)
    x = rng.uniform(lower, upper, (5, 4)).astype(np.float32)
    y = rng.integers(0, 3, 5)
    attack = Attack.parse(f"{name}@{eps}{'%' if percent else ''}:{norm}")
    threat = attack.threat(SHARED.adapter.layout, (lower, upper))
    moved = attack.run(SHARED, x, y, threat, seed=seed)
    assert moved.dtype == np.float32
    assert (moved >= lower).all()
    assert (moved <= upper).all()
    shift = (moved - x) / threat.scale
    size = np.abs(shift).max(1) if norm == "linf" else np.linalg.norm(shift, axis=1)
    assert (size <= attack.eps * (1 + 1e-4) + 1e-6).all()


SHARED = dense_classifier(
    np.random.default_rng(5).normal(size=(4, 6)), np.random.default_rng(6).normal(size=(6, 3))
)


@pytest.mark.parametrize("ball", ["0.1", "0.2", "1:l2"])
def test_stronger_attacks_break_more_of_a_real_network(
    ball: str, digits: tuple[Classifier, np.ndarray, np.ndarray]
) -> None:
    noise, fgsm, one, many, auto = (
        robust_share(f"{name}@{ball}", digits)
        for name in ("noise", "fgsm", "pgd", "pgd-40x2", "apgd-40")
    )
    assert one <= noise
    assert one <= fgsm
    assert many <= one
    assert auto <= one + 0.02


def test_square_lies_between_noise_and_pgd(
    digits: tuple[Classifier, np.ndarray, np.ndarray],
) -> None:
    noise, square, gradient = (
        robust_share(f"{name}@0.15", digits) for name in ("noise", "square-300", "pgd-50x2")
    )
    assert gradient <= square < noise


def test_an_attack_is_repeatable_and_independent_of_batches(
    digits: tuple[Classifier, np.ndarray, np.ndarray],
) -> None:
    classifier, x, y = digits
    attack = Attack.parse("pgd-5@0.1")
    threat = attack.threat(classifier.adapter.layout, (0.0, 1.0))
    first = attack.run(classifier, x, y, threat, seed=4)
    np.testing.assert_array_equal(first, attack.run(classifier, x, y, threat, seed=4))
    small = Classifier(classifier.adapter, classifier.head, batch_size=17)
    np.testing.assert_allclose(first, attack.run(small, x, y, threat, seed=4), atol=0.02)
    assert np.abs(first - attack.run(classifier, x, y, threat, seed=5)).max() > 0


@pytest.mark.parametrize("scale", [1e6])
def test_a_network_sure_of_itself_is_attacked_no_less(
    scale: float, points: tuple[np.ndarray, ...]
) -> None:
    x, y, kernel = points
    module = backends.tf_keras()
    model = module.Sequential([module.Input((6,)), module.layers.Dense(2, "softmax")])
    model.set_weights([kernel * scale, np.zeros(2)])
    probability = model.predict(x, verbose=0)
    # the gradient of a softmax of two is their product; what is not 0 may round to just below 1
    assert (probability.min(axis=1) == 0).mean() > 0.9
    calm = attacked("pgd@0.1", dense_classifier(kernel), x, y)
    sure = attacked("pgd@0.1", classifier_of(model, 2), x, y)
    np.testing.assert_allclose(sure, calm * scale, rtol=1e-3, atol=1e-3 * scale)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pgd@0.05", Attack("pgd", 0.05, steps=20)),
        ("PGD-50x5@8/255", Attack("pgd", 8 / 255, steps=50, restarts=5)),
        ("apgd-dlr@.1", Attack("apgd-dlr", 0.1, steps=100)),
        ("apgd-dlr-10@1e-3:l2", Attack("apgd-dlr", 1e-3, "l2", steps=10)),
        ("noise@5%", Attack("noise", 0.05, steps=20, relative=True)),
    ],
)
def test_texts_name_attacks(text: str, expected: Attack) -> None:
    found = Attack.parse(text)
    assert found == expected
    assert Attack.parse(expected) is expected


@given(
    name=st.sampled_from(sorted(kind.name for kind in ATTACKS.values() if "linf" in kind.norms)),
    eps=st.sampled_from([0.001, 0.05, 1.0, 8.0]),
    steps=st.integers(1, 300),
    restarts=st.integers(1, 9),
    relative=st.booleans(),
)
def test_an_attack_prints_as_the_text_that_names_it(
    name: str, eps: float, steps: int, restarts: int, relative: bool
) -> None:
    attack = Attack(name, eps, "linf", steps, restarts, relative)
    again = Attack.parse(str(attack))
    assert again.eps == pytest.approx(attack.eps)
    assert str(again) == str(attack)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("pgd", "Write 'pgd@0.05'"),
        ("pgd@-1", "above 0"),
        ("pgd@0", "above 0"),
        ("pgd@1/0", "Write 'pgd@0.05'"),
        ("bim@0.1", "expected one of fgsm"),
        ("pgd@0.1:l3", "expected one of linf"),
        ("square@0.1:l2", "pgd@eps:l2"),
        ("bim@0.1", "krp.register_attack"),
    ],
)
def test_what_is_no_attack_is_refused(text: str, fix: str) -> None:
    with pytest.raises(ValueError, match=fix):
        Attack.parse(text)


def test_checkpoints_are_those_of_the_paper() -> None:
    shares = [0.22, 0.41, 0.57, 0.7, 0.8, 0.87, 0.93, 0.99]
    assert checkpoints(100).tolist() == [round(100 * share) for share in shares]
