"""A small network that was really trained, and the test images it never saw.

They travel inside the package, so that everything can be tried without a download. README.md in this folder says where
they come from; `train.py` made them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune import backends

FOLDER = Path(__file__).parent


@backends.random_state_kept()
def load() -> tuple[Any, np.ndarray, np.ndarray]:
    """The trained digits network with its test images and labels.

    Returns:
        A tf_keras model, images of shape `(360, 8, 8, 1)` in [0, 1] as float32, and labels of shape `(360,)`, 0 to 9.

    Example:
        >>> from keras_robust_prune import demo
        >>> model, x, y = demo.load()
        >>> x.shape, y.shape, model.count_params()
        ((360, 8, 8, 1), (360,), 38426)
    """
    model = backends.tf_keras().models.load_model(FOLDER / "digits.h5", compile=False)
    with np.load(FOLDER / "digits.npz") as images:
        return model, images["x"] / np.float32(16), images["y"].astype(np.int64)
