"""Attacks of one's own: ten lines, then a name that works wherever attacks are named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import keras_robust_prune as krp
from keras_robust_prune import demo
from keras_robust_prune.evaluation.attacks.registry import ATTACKS


def momentum(classifier: Any, x: Any, labels: Any, threat: Any, *, steps: int, rng: Any) -> Any:
    """MI-FGSM (Dong et al., 2018)."""
    point, velocity = x, 0.0
    for _ in range(steps):
        gradient = classifier.gradient(point, labels)
        velocity = velocity + gradient / np.abs(gradient).mean(1, keepdims=True)
        point = threat.clip(x, point + threat.eps / steps * np.sign(velocity))
    return point


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    before = dict(ATTACKS)
    yield
    ATTACKS.clear()
    ATTACKS.update(before)


def test_an_attack_of_ones_own_is_named_in_a_text() -> None:
    krp.register_attack("momentum", momentum, steps=10, norms=("linf",))
    model, x, y = demo.load()
    x, y = x[:60], y[:60]
    found = krp.evaluate(model, x, y, attacks=["momentum@0.1", "fgsm@0.1", "noise@0.1"])
    assert 0 < found["momentum@0.1"] <= found["fgsm@0.1"] < found["noise@0.1"]
    assert str(krp.Attack.parse("momentum-3x2@5%")) == "momentum-3x2@5%"
    with pytest.raises(ValueError, match="knows the norm linf only"):
        krp.Attack.parse("momentum@0.1:l2")


def test_whatever_an_attack_returns_stays_in_the_ball() -> None:
    def far(classifier: Any, x: Any, labels: Any, threat: Any, *, steps: int, rng: Any) -> Any:
        return x + 100.0 * rng.choice([-1.0, 1.0], x.shape)

    krp.register_attack("far", far, needs_gradients=False)
    model, x, y = demo.load()
    found = krp.evaluate(model, x[:40], y[:40], attacks=["far@0.001"])
    assert found["far@0.001"] == found.accuracy


def test_a_file_takes_an_attack_without_gradients(tmp_path: Any) -> None:
    krp.register_attack(
        "black", lambda classifier, x, labels, threat, *, steps, rng: np.zeros_like(x),
        needs_gradients=False,
    )  # fmt: skip
    krp.register_attack("white", momentum)
    model, x, y = demo.load()
    krp.export_tflite(model, tmp_path / "digits.tflite")
    path = str(tmp_path / "digits.tflite")
    assert krp.evaluate(path, x[:40], y[:40], attacks=["black@1"])["black@1"] < 0.5
    with pytest.raises(ValueError, match="surrogate="):
        krp.evaluate(path, x[:40], y[:40], attacks=["white@1"])


@pytest.mark.parametrize(
    ("name", "function", "options", "fix"),
    [
        ("pgd", momentum, {}, "another name"),
        ("Mine", momentum, {}, "small letters"),
        ("mine9", momentum, {}, "small letters"),
        ("mine", momentum, {"steps": 0}, "at least 1"),
        ("mine", momentum, {"norms": ("l1",)}, "some of"),
        ("mine", "momentum", {}, "no function"),
    ],
)
def test_what_cannot_be_registered_is_refused(
    name: str, function: Any, options: dict[str, Any], fix: str
) -> None:
    with pytest.raises(ValueError, match=fix):
        krp.register_attack(name, function, **options)


@pytest.mark.parametrize(
    "wrong", [lambda x: x[:1], lambda x: x * np.nan], ids=["shape", "not a number"]
)
def test_an_attack_that_returns_no_points_is_named(wrong: Any) -> None:
    krp.register_attack(
        "broken", lambda classifier, x, labels, threat, *, steps, rng: wrong(x),
        needs_gradients=False,
    )  # fmt: skip
    model, x, y = demo.load()
    with pytest.raises(ValueError, match=r"'broken' .* a finite point for every input"):
        krp.evaluate(model, x[:20], y[:20], attacks="broken@0.1")


def test_too_few_classes_are_said_before_anything_is_measured() -> None:
    krp.register_attack("wide", momentum, min_classes=11)
    model, x, y = demo.load()
    with pytest.raises(ValueError, match=r"'wide@0.1' needs 11 classes"):
        krp.evaluate(model, x[:20], y[:20], attacks="wide@0.1")
