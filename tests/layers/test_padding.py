"""Normalisation of units that are gone: by the formula, in layers of Keras's own, and back from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from hand_made import behind, call, graph_of, told

from keras_robust_prune import backends
from keras_robust_prune.backends import ModelError
from keras_robust_prune.graph.graph import MASK, Graph
from keras_robust_prune.keras_io.reading import build, load, read
from keras_robust_prune.keras_io.writing import save
from keras_robust_prune.layers.padding import recognised, spelled_out
from keras_robust_prune.surgery.costs import num_macs, unit_cost
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.embedding import embed
from keras_robust_prune.surgery.groups import find_groups, trace
from keras_robust_prune.surgery.plan import Plan, Removal

BOTH = pytest.mark.parametrize("keras", backends.NAMES)
EVERY = pytest.mark.parametrize(
    ("name", "keras"),
    [(make.__name__, keras) for make in networks.NORMALISED for keras in backends.NAMES],
)
WIDTH, GONE = 6, [1, 4]
KEPT = [0, 2, 3, 5]


def behind_dense(
    keras: str, norm: Any, shape: tuple[int | None, ...] = (WIDTH - 2,), linear: bool = True
) -> Any:
    """Units, a normalisation of them, and a layer that lets each kept unit through as it is."""
    module = backends.module(keras)
    inputs = module.Input(shape)
    x = module.layers.Dense(WIDTH, activation="softplus", name="units")(inputs)
    x = norm(module)(x)
    model = module.Model(inputs, module.layers.Dense(WIDTH, use_bias=False, name="last")(x))
    networks.randomise(model)
    model.get_layer("last").set_weights([np.eye(WIDTH, dtype="float32")])
    return model


def two_gone(graph: Graph) -> tuple[Any, Plan]:
    groups = find_groups(graph)
    return groups, Plan(tuple(Removal("units", unit) for unit in GONE), dict(groups.widths))


NORMS = {
    "layer": lambda keras: keras.layers.LayerNormalization(epsilon=0.1),
    "no offset": lambda keras: keras.layers.LayerNormalization(center=False),
    "root mean square": lambda keras: keras.layers.RMSNormalization(epsilon=0.1),
    "unit": lambda keras: keras.layers.UnitNormalization(),
}


def formula(name: str, x: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """What is normalised, with the original width in its statistics and zeros for what is gone."""
    if name == "unit":
        return x / np.sqrt(np.square(x).sum(-1, keepdims=True))
    mean = 0.0 if name == "root mean square" else x.sum(-1, keepdims=True) / WIDTH
    epsilon = 0.001 if name == "no offset" else 0.1
    variance = np.square(x).sum(-1, keepdims=True) / WIDTH - mean**2
    offset = weights[1] if name == "layer" else 0.0
    return weights[0] * (x - mean) / np.sqrt(variance + epsilon) + offset


CASES = [
    (n, k) for n in NORMS for k in backends.NAMES if (n, k) != ("root mean square", "tf_keras")
]


@pytest.mark.parametrize(("name", "keras"), CASES)
@pytest.mark.parametrize(
    "shape", [(4,), (3, 4), (None, 4), (3, 2, 4), (None, None, 4), (2, 1, 2, 4)]
)
def test_masked_and_cut_networks_compute_the_formula(
    name: str, keras: str, shape: tuple[int | None, ...]
) -> None:
    model = behind_dense(keras, NORMS[name], shape)
    inputs = np.random.default_rng(0).normal(size=(2, *(n or 3 for n in shape))).astype("float32")
    kernel, bias, *weights = [np.asarray(value, np.float64) for value in model.get_weights()[:-1]]
    units = np.logaddexp(inputs @ kernel + bias, 0)
    units[..., GONE] = 0
    wanted = formula(name, units, weights)
    wanted[..., GONE] = 0
    graph = read(model)
    groups, plan = two_gone(graph)
    small = build(cut(graph, groups, plan))
    for found in (small, build(mask(graph, groups, plan))):
        np.testing.assert_allclose(np.array(found(inputs)), wanted, rtol=0, atol=2e-6)
    assert small.get_layer("units").units == len(KEPT)


@BOTH
def test_several_axes_are_normalised_exactly_too(keras: str) -> None:
    model = behind_dense(keras, lambda k: k.layers.LayerNormalization(axis=[1, 2]), (3, 4))
    inputs = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    graph = read(model)
    groups, plan = two_gone(graph)
    masked, small = (np.array(build(f(graph, groups, plan))(inputs)) for f in (mask, cut))
    assert np.abs(masked - np.array(model(inputs))).max() > 0.01
    np.testing.assert_allclose(small, masked, rtol=0, atol=2e-6)


@EVERY
def test_a_cut_model_is_plain_keras_and_comes_back_from_its_file(
    name: str, keras: str, tmp_path: Path
) -> None:
    graph = read(networks.network(name, keras))
    groups = find_groups(graph)
    assert {item.code for item in groups.kept} == {"output"}
    plan = Plan(tuple(Removal(group.name, 0) for group in groups.groups), dict(groups.widths))
    small = cut(graph, groups, plan)
    model = build(small)
    modules = {type(layer).__module__.partition(".")[0] for layer in model.layers}
    assert modules == {keras}
    save(model, tmp_path / "small.keras")
    again = read(load(tmp_path / "small.keras"))
    assert [node.name for node in again.nodes] == [node.name for node in small.nodes]
    assert [node.shapes for node in again.nodes] == [node.shapes for node in small.nodes]
    for layer, value in small.layers.items():
        assert set(again.layers[layer].weights) == set(value.weights)
        for weight, array in value.weights.items():
            np.testing.assert_array_equal(again.layers[layer].weights[weight], array)
    assert model.count_params() == again.num_params == small.num_params < graph.num_params
    assert num_macs(again) == num_macs(small) < num_macs(graph)


@EVERY
def test_a_pruned_network_can_be_pruned_again_and_embedded(name: str, keras: str) -> None:
    graph = read(networks.network(name, keras))
    inputs = networks.random_inputs(networks.network(name, keras))
    for _ in range(3):
        try:
            groups = find_groups(graph)
        except ValueError:
            break
        plan = Plan(tuple(Removal(group.name, 1) for group in groups.groups), dict(groups.widths))
        masked, small = mask(graph, groups, plan), cut(graph, groups, plan)
        again = cut(masked, groups, plan)
        full = embed(masked, small, groups, plan)
        wanted = networks.outputs_of(build(masked), inputs)
        for other in (small, again, full):
            assert MASK not in {w for layer in again.layers.values() for w in layer.weights}
            for ours, theirs in zip(networks.outputs_of(build(other), inputs), wanted, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
        graph = read(build(small))


def test_a_normalisation_keeps_its_parameters() -> None:
    """A unit costs its 4 weights and its bias before, and its 6 weights behind; gain and offset stay."""
    graph = read(behind_dense("tf_keras", NORMS["layer"]))
    groups, plan = two_gone(graph)
    assert unit_cost(graph, groups.by_name["units"]).params == pytest.approx(4 + 1 + 6)
    assert graph.num_params - cut(graph, groups, plan).num_params == 2 * (4 + 1 + 6)
    masked = mask(graph, groups, plan)
    assert masked.num_params == graph.num_params


def test_what_is_spelled_out_is_recognised() -> None:
    graph = read(networks.network("post_norm", "keras"))
    assert spelled_out(graph) is graph is recognised(graph)
    groups = find_groups(graph)
    plan = Plan(tuple(Removal(group.name, 0) for group in groups.groups), dict(groups.widths))
    small = cut(graph, groups, plan)
    spelled = spelled_out(small)
    assert len(spelled.nodes) == len(small.nodes) + 2 * 4  # of one layer that is called twice
    back = recognised(spelled)
    assert [node.name for node in back.nodes] == [node.name for node in small.nodes]
    assert back.outputs == small.outputs


@BOTH
def test_channels_first_layers_of_ones_own_are_refused_as_before(keras: str) -> None:
    module = backends.module(keras)
    layers = [module.Input((4, 4, 3)), module.layers.ZeroPadding2D(1, data_format="channels_first")]
    with pytest.raises(ModelError, match="channels_last"):
        read(module.Sequential([*layers, module.layers.Conv2D(2, 1)]))


def test_a_unit_norm_needs_no_weights() -> None:
    _, units, uses = behind("UnitNormalization", (4, 3), (4, 3), {"axis": -1})
    assert (units, uses) == ([0, 1, 2], {(MASK, 0): ("consumes", [0, 1, 2])})


def test_normalisation_keeps_units_it_cannot_show_as_zeros() -> None:
    assert behind("LayerNormalization", (4, 3), (4, 3))[1] == [1100, 1101, 1102]  # how many?
    assert behind("LayerNormalization", (3,), (3,), {}, {"gamma": (2,)})[1] == [1100, 1101, 1102]
    shape = (2, 2, 2, 2, 3)
    assert min(behind("LayerNormalization", shape, shape, {}, {"gamma": (3,)})[1]) >= 1000
    ids = call("ids", "InputLayer", (), (4,))
    embedding = {"embeddings": (10, 3)}
    for mask_zero in (False, True):
        nodes = [
            ids,
            call("source", "Embedding", ["ids"], (4, 3), {"mask_zero": mask_zero}, embedding),
            call("layer", "LayerNormalization", ["source"], (4, 3), {}, {"gamma": (3,)}),
        ]
        tracing, labels = trace(graph_of(nodes, ["ids"]))
        assert (min(told(tracing, labels)[1]) >= 1000) == mask_zero
