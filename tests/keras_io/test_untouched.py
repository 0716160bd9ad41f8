"""Reading calls the user's layers on symbolic tensors, and leaves the model as it was, whatever they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from tests.keras_io.test_opening import BOTH, beside, depends_on_values, example, layer

HOSTILE: dict[str, Callable[..., Any]] = {
    "prints": lambda self, x: [print(x.shape), self.part(x)][1],
    "twice": lambda self, x: self.part(self.part(x)),
    "an attribute": lambda self, x: [setattr(self, "seen", 1), self.part(x)][1],
    "training": lambda self, x, training=None: self.part(x * 2.0 if training else x),
    "values": lambda self, x: depends_on_values(self, self.part(x)),
    "raises": lambda self, x: self.part(x) / (0 if hasattr(x, "_keras_history") else 1),
}


@BOTH
@pytest.mark.parametrize("name", list(HOSTILE))
@pytest.mark.filterwarnings("ignore:.*computes something else in training")
def test_reading_leaves_a_hostile_model_as_it_was(keras: str, name: str) -> None:
    module = backends.module(keras)
    part = module.layers.Dense(4, name="inner")
    model = beside(module, layer(module, HOSTILE[name], part=part))
    x = example(model)

    def state() -> list[Any]:
        parts = list(model._flatten_layers())
        calls = [(len(p._inbound_nodes), len(p._outbound_nodes), type(p)) for p in parts]
        training = np.array(model(x, training=True)).tolist()
        return [calls, [w.tolist() for w in model.get_weights()], training, len(vars(part))]

    before = state()
    build(read(model))
    assert state() == before
