"""Networks with the idioms of KerasHub and of mobile networks: opened whole, cut to what masks compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networks_idioms
import numpy as np
import pytest
from networks import outputs_of, randomise

from keras_robust_prune import backends
from keras_robust_prune.keras_io.agreement import random_values
from keras_robust_prune.keras_io.reading import build, load, read
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal


def a_third_less(model: Any, path: Path) -> tuple[dict[str, int], float]:
    """Cuts a third of the units of every group; gives the widths and the share of operations that is left."""
    (x,) = random_values(model.inputs).values()
    graph = read(model)
    assert not [layer for layer in graph.layers.values() if layer.closed]
    for ours, theirs in zip(outputs_of(build(graph), x), outputs_of(model, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1, np.abs(theirs).max()))
    groups = find_groups(graph)
    widths = dict(groups.widths)
    removals = [Removal(name, unit) for name, width in widths.items() for unit in range(width // 3)]
    plan = Plan(tuple(removals), widths)
    smaller = cut(graph, groups, plan)
    small = build(smaller)
    found = outputs_of(small, x)
    masked = outputs_of(build(mask(graph, groups, plan)), x)
    for ours, theirs, dense in zip(found, masked, outputs_of(model, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1, np.abs(theirs).max()))
        assert np.abs(ours - dense).max() > 1e-3
    small.save(path / "small.keras")
    own = {"swish_by_hand": networks_idioms.swish_by_hand}
    again = load(path / "small.keras", own)
    for ours, theirs in zip(outputs_of(again, x), found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * max(1, np.abs(theirs).max()))
    return widths, num_macs(smaller) / num_macs(graph)


@pytest.mark.parametrize("name", list(networks_idioms.NETWORKS))
def test_an_idiom_is_opened_and_cut(name: str, tmp_path: Path) -> None:
    _, left = a_third_less(networks_idioms.make(name), tmp_path)
    assert left < 0.72


def test_heads_and_norms_of_a_decoder_lose_units(tmp_path: Path) -> None:
    widths, _ = a_third_less(networks_idioms.make("decoder"), tmp_path)
    layers = [f"trunk.layer_{number}" for number in (0, 1)]
    assert widths["tokens"] == 40  # through every sum and every norm of the trunk
    for name in layers:  # of two halves that turn together each entry is one
        assert widths[f"{name}.attention.query"] == 5
        assert widths[f"{name}.attention.value"] == 10
        assert widths[f"{name}.gate"] == 80


def test_norms_by_hand_become_layers_of_keras() -> None:
    graph = read(networks_idioms.make("decoder"))
    norms = [layer for layer in graph.layers.values() if layer.kind == "RMSNormalization"]
    assert len(norms) == 7
    assert all(set(layer.weights) == {"scale"} for layer in norms)


def test_a_length_that_is_open_inside_is_the_one_that_the_model_is_called_with() -> None:
    model = networks_idioms.make("decoder")
    before = [len(part._inbound_nodes) for part in model._flatten_layers()]
    graph = read(model)
    assert graph.shape(graph.outputs[0]) == (12, 5)
    assert [len(part._inbound_nodes) for part in model._flatten_layers()] == before
    assert {type(part).__name__ for part in model._flatten_layers()} >= {"Rotary", "Attention"}


def test_a_constant_is_given_to_a_nested_model(tmp_path: Path) -> None:
    keras = backends.keras()

    class Places(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.cos(keras.ops.arange(6, dtype="float32"))[None, :, None]

    first, second = keras.Input((6, 8)), keras.Input((6, 1))
    x = keras.layers.Dense(9, name="wide")(first * second)
    nested = keras.Model([first, second], keras.layers.Dense(4, name="narrow")(x), name="nested")
    inputs = keras.Input((6, 3))
    x = keras.layers.Dense(8, name="before")(inputs)
    model = keras.Model(inputs, nested([x, Places(name="places")(inputs)]))
    widths, _ = a_third_less(randomise(model), tmp_path)
    assert widths == {"before": 8, "wide": 9}


def test_a_constant_beside_what_gives_other_outputs_when_it_is_recorded() -> None:
    keras = backends.keras()

    class Places(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.cos(keras.ops.arange(6, dtype="float32"))[None, :, None]

    class Counting(keras.layers.Layer):
        calls = 0

        def call(self, x: Any) -> Any:
            Counting.calls += 1
            return x * float(Counting.calls)

    inputs = keras.Input((6, 3))
    x = keras.layers.Dense(8, name="before")(inputs) * Places(name="places")(inputs)
    x = keras.layers.Dense(7, name="middle")(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(Counting(name="counting")(x)))
    graph = read(randomise(model))
    assert graph.layers["counting"].closed
    assert find_groups(graph).widths == {"before": 8}
