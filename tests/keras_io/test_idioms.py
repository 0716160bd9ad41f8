"""Networks with the idioms of KerasHub and of mobile networks: opened whole, cut to what masks compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networks_idioms
import networks_subclassed
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
from keras_robust_prune.verify.bounds import interval_bounds


def a_third_less(model: Any, path: Path, x: Any = None) -> tuple[dict[str, int], float]:
    """Cuts a third of the units of every group; gives the widths and the share of operations that is left."""
    if x is None:
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


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize("name", list(networks_subclassed.NETWORKS))
def test_a_subclassed_idiom_is_opened_and_cut(name: str, keras: str, tmp_path: Path) -> None:
    model, x = networks_subclassed.make(name, keras)
    _, left = a_third_less(model, tmp_path, x)
    assert left < 0.72


def test_the_channels_of_a_mixer_pass_what_works_along_places(tmp_path: Path) -> None:
    model, x = networks_subclassed.make("mixer")
    widths, _ = a_third_less(model, tmp_path, x)
    assert widths == {"patches": 20, "mix_1.channel_1": 40, "mix_2.channel_1": 40}
    reasons = {item.layer: item.code for item in find_groups(read(model)).kept}
    assert reasons["mix_1.place_1"] == reasons["mix_2.place_2"] == "other_axis"


def test_a_layer_along_places_loses_units_where_none_lie_beside_it() -> None:
    """The units beside it are the input's, which stay: so its own go."""
    keras = backends.module("keras")
    x = keras.Input((6, 4))
    y = keras.layers.Dense(8, "relu", name="along")(keras.layers.Permute((2, 1))(x))
    y = keras.layers.Dense(5, name="behind")(y)
    assert find_groups(read(keras.Model(x, y))).widths == {"along": 8}


def test_an_einsum_along_places_lets_channels_pass(tmp_path: Path) -> None:
    keras = backends.module("keras")
    x = keras.Input((6, 4))
    y = keras.layers.Dense(9, name="channels")(x)
    y = keras.layers.EinsumDense("btc,ts->bcs", (9, 7), "relu", "s", name="places")(y)
    y = keras.layers.Dense(5, name="behind")(keras.layers.Permute((2, 1))(y))
    model = randomise(keras.Model(x, y))
    assert a_third_less(model, tmp_path)[0] == {"channels": 9}


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize("end", ["relu", "relu6", "elu", "leaky_relu", "gelu", "softplus", "tanh"])
def test_an_activation_called_as_a_function(keras: str, end: str, tmp_path: Path) -> None:
    """Units pass it, what is computed by hand is what Keras computes, and what is saved is read again."""
    module = backends.module(keras)
    if not hasattr(module.activations, end):
        pytest.skip(f"{keras} has no activations.{end}")
    x = module.Input((5,))
    y = getattr(module.activations, end)(module.layers.Dense(12, name="units")(x))
    model = randomise(module.Model(x, module.layers.Dense(3)(y)))
    assert a_third_less(model, tmp_path)[0] == {"units": 12}
    of_points_agree(model)


@pytest.mark.parametrize(
    ("end", "given"),
    [
        ("elu", {"alpha": 3.0}),
        ("celu", {"alpha": 0.3}),
        ("squareplus", {"b": 1.0}),
        ("hard_shrink", {"threshold": 0.1}),
        ("soft_shrink", {"threshold": 0.1}),
        ("leaky_relu", {"negative_slope": 0.7}),
    ],
)
def test_an_operation_with_arguments_of_its_own(end: str, given: dict[str, float]) -> None:
    keras = backends.module("keras")
    x = keras.Input((5,))
    y = getattr(keras.ops, end)(keras.layers.Dense(12)(x), **given)
    of_points_agree(randomise(keras.Model(x, keras.layers.Dense(3)(y))))


def of_points_agree(model: Any) -> None:
    """Bounds of single points are what Keras computes there."""
    rows = np.random.default_rng(0).uniform(-1, 1, (20, 5)).astype("float32")
    found = interval_bounds(read(model), rows, rows).logits
    wanted = np.asarray(model(rows))
    np.testing.assert_allclose(found.lower, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.upper, wanted, rtol=1e-5, atol=1e-5)


def test_tokens_that_are_spread_over_channels_stay(tmp_path: Path) -> None:
    model = networks_idioms.make("learnt_tokens")
    widths, _ = a_third_less(model, tmp_path)
    assert widths["patches"] == 40  # the trunk, in front of the tokens and behind them
    (maps,) = [item for item in find_groups(read(model)).kept if item.layer == "tokens.maps"]
    assert (maps.num_units, maps.code) == (4, "broadcast")


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
