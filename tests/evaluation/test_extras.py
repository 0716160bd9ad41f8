"""What the extra `attacks` adds, and what is said where it is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from keras_robust_prune import demo
from keras_robust_prune.evaluation.corruptions import CORRUPTIONS
from keras_robust_prune.evaluation.evaluate import evaluate


@pytest.mark.parametrize("ball", ["0.1", "1:l2"])
def test_autoattack_is_no_weaker_than_pgd(ball: str) -> None:
    pytest.importorskip("art")
    model, x, y = demo.load()
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    attacks = [f"pgd@{ball}", f"autoattack-8@{ball}"]
    found = evaluate(model, x[:25], y[:25], attacks=attacks)
    assert found[attacks[1]] <= found[attacks[0]] + 1 / 25
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert evaluate(model, x[:25], y[:25], attacks=attacks[1])[attacks[1]] == found[attacks[1]]


@pytest.mark.parametrize(
    ("module", "name"), [("scipy.ndimage", "defocus_blur"), ("PIL.Image", "jpeg")]
)
def test_a_missing_extra_is_named(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"keras-robust-prune\[attacks\]"):
        CORRUPTIONS[name](np.zeros((1, 8, 8, 1)), 1)


def test_a_missing_toolbox_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "art.attacks", None)
    monkeypatch.setitem(sys.modules, "art", None)
    model, x, y = demo.load()
    with pytest.raises(ImportError, match=r"keras-robust-prune\[attacks\]"):
        evaluate(model, x[:5], y[:5], attacks="autoattack@0.1")
