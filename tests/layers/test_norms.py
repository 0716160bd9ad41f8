"""Root mean squares by hand, in every form, are the layer of Keras; what only looks like them is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import outputs_of, randomise

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal

GAIN = np.linspace(0.5, 2.0, 8).astype("float32")


def squares(ops: Any, x: Any) -> Any:
    return ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-3


FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "rsqrt": lambda ops, x: x * ops.rsqrt(squares(ops, x)) * GAIN,
    "divided": lambda ops, x: x / ops.sqrt(squares(ops, x)) * GAIN,
    "reciprocal": lambda ops, x: x * ops.reciprocal(ops.sqrt(squares(ops, x))),
    "power": lambda ops, x: ops.multiply(GAIN, x * ops.power(squares(ops, x), -0.5)),
    "product": lambda ops, x: x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + 1e-3),
}
OTHERS: dict[str, Callable[[Any, Any], Any]] = {
    "inverted": lambda ops, x: ops.sqrt(squares(ops, x)) / x,
    "another power": lambda ops, x: x * ops.power(squares(ops, x), -1.0),
    "of another tensor": lambda ops, x: ops.relu(x) * ops.rsqrt(squares(ops, x)),
    "read twice": lambda ops, x: (lambda y: x * ops.rsqrt(y) + y)(squares(ops, x)),
}


def network(form: Callable[[Any, Any], Any]) -> Any:
    keras = backends.keras()
    inputs = keras.Input((4, 5))
    x = form(keras.ops, keras.layers.Dense(8, name="before")(inputs))
    return randomise(keras.Model(inputs, keras.layers.Dense(3, name="behind")(x)))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_form_of_it_is_the_layer_and_is_cut(form: Callable[[Any, Any], Any]) -> None:
    model = network(form)
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    graph = read(model)
    assert [layer.kind for layer in graph.layers.values()].count("RMSNormalization") == 1
    (ours,), (theirs,) = outputs_of(build(graph), x), outputs_of(model, x)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
    groups = find_groups(graph)
    assert groups.widths == {"before": 8}
    plan = Plan(tuple(Removal("before", unit) for unit in (0, 3, 7)), dict(groups.widths))
    (small,) = outputs_of(build(cut(graph, groups, plan)), x)
    (masked,) = outputs_of(build(mask(graph, groups, plan)), x)
    np.testing.assert_allclose(small, masked, rtol=0, atol=1e-5 * np.abs(masked).max())
    assert np.abs(small - theirs).max() > 1e-3


@pytest.mark.parametrize("form", OTHERS.values(), ids=OTHERS)
def test_what_only_looks_like_it_stays_as_it_is(form: Callable[[Any, Any], Any]) -> None:
    kinds = {layer.kind for layer in read(network(form)).layers.values()}
    assert "RMSNormalization" not in kinds
