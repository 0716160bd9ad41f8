"""What is said where the extra `attacks` is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from keras_robust_prune.evaluation.corruptions import CORRUPTIONS


@pytest.mark.parametrize(
    ("module", "name"), [("scipy.ndimage", "defocus_blur"), ("PIL.Image", "jpeg")]
)
def test_a_missing_extra_is_named(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"keras-robust-prune\[attacks\]"):
        CORRUPTIONS[name](np.zeros((1, 8, 8, 1)), 1)
