"""The network and images that come along are what their description says."""

from __future__ import annotations

import numpy as np

import keras_robust_prune as krp
from keras_robust_prune import cli, demo


def test_the_network_was_really_trained_and_has_robustness_to_lose() -> None:
    model, x, y = demo.load()
    assert x.shape == (360, 8, 8, 1)
    assert x.dtype == np.float32
    assert (x.min(), x.max()) == (0.0, 1.0)
    # A stratified part: of each digit about a tenth.
    assert np.bincount(y, minlength=10).min() >= 35
    attack = f"pgd@{cli.DEMO_RADIUS}"
    found = krp.evaluate(model, x, y, attacks=[attack])
    assert found.accuracy >= 0.98
    assert 0.6 <= found[attack] <= 0.9


def test_it_travels_light() -> None:
    sizes = [path.stat().st_size for path in demo.FOLDER.iterdir() if path.is_file()]
    assert sum(sizes) < 300_000
