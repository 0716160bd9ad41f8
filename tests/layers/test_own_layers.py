"""Layers of the user's own, in both Keras versions: unsupported without a description, cut like any other with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Layer, Node
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.layers import base
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.primitives.linear import Scale
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal


def only_on_values(inputs: Any) -> None:
    """Nobody can open a layer that calls this."""
    if hasattr(inputs, "_keras_history"):
        raise TypeError("only on values")


def own_layers(keras: Any) -> tuple[type, type]:
    """A gain per channel that keeps its width in its configuration, and a dense layer of a square's shape."""

    class Gain(keras.layers.Layer):
        def __init__(self, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.width = width

        def build(self, input_shape: Any) -> None:
            self.gain = self.add_weight(name="gain", shape=(self.width,), initializer="ones")
            super().build(input_shape)

        def call(self, inputs: Any) -> Any:
            only_on_values(inputs)
            return inputs * self.gain

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "width": self.width}

    class Mix(keras.layers.Layer):
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape: Any) -> None:
            self.table = self.add_weight(name="table", shape=(self.units, input_shape[-1]))
            super().build(input_shape)

        def call(self, inputs: Any) -> Any:
            only_on_values(inputs)
            return backends.tensorflow().matmul(inputs, self.table, transpose_b=True)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "units": self.units}

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (*input_shape[:-1], self.units)

    return Gain, Mix


class GainType(krp.LayerType):
    """Carries its units."""

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        (labels,) = inputs
        tracing.use(node.layer, "gain", 0, "carries", labels.ids)
        return (labels,)

    def resize(self, layer: Layer, lengths: Mapping[tuple[str, int], int]) -> Mapping[str, Any]:
        return {"width": lengths["gain", 0]}


class MixType(krp.LayerType):
    """Consumes its inputs' units, produces its own."""

    kernels = ("table",)

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        (labels,) = inputs
        units = tracing.fresh(node.layer, graph.layer_of(node).weights["table"].shape[0])
        tracing.use(node.layer, "table", 0, "produces", units)
        tracing.use(node.layer, "table", 1, "consumes", labels.ids)
        return (Labels(labels.axis, units),)

    def resize(self, layer: Layer, lengths: Mapping[tuple[str, int], int]) -> Mapping[str, Any]:
        return {"units": lengths["table", 0]}


@pytest.fixture(autouse=True)
def only_here() -> Iterator[None]:
    """What this file registers does not reach other tests."""
    before = dict(base._USERS)
    yield
    base._USERS.clear()
    base._USERS.update(before)


def network(keras: str) -> tuple[Any, dict[str, type]]:
    module = backends.module(keras)
    gain, mix = own_layers(module)
    inputs = module.Input((6,))
    x = module.layers.Dense(8, activation="relu", name="first")(inputs)
    x = mix(5, name="mix")(gain(8, name="gain")(x))
    model = module.Model(inputs, module.layers.Dense(2, name="last")(x))
    return networks.randomise(model), {"Gain": gain, "Mix": mix}


@pytest.mark.parametrize("keras", backends.NAMES)
def test_without_a_description_the_layer_is_named(keras: str) -> None:
    with pytest.raises(
        ValueError, match=r"(?s)first: its units reach 'gain'.*Gain: krp.register_layer"
    ):
        find_groups(read(network(keras)[0]))


@pytest.mark.parametrize("keras", backends.NAMES)
def test_with_a_description_it_is_cut(keras: str, tmp_path: Path) -> None:
    model, own = network(keras)
    krp.register_layer(own["Gain"], GainType)
    krp.register_layer("Mix", MixType())
    graph = read(model)
    groups = find_groups(graph)
    assert groups.widths == {"first": 8, "mix": 5}
    assert groups.by_name["first"].consumers == ("mix",)
    removals = [Removal("first", unit) for unit in (0, 3, 7)] + [Removal("mix", 2)]
    plan = Plan(tuple(removals), dict(groups.widths))
    inputs = networks.random_inputs(model)
    smaller = build(cut(graph, groups, plan))
    masked = networks.outputs_of(build(mask(graph, groups, plan)), inputs)[0]
    found = networks.outputs_of(smaller, inputs)[0]
    np.testing.assert_allclose(found, masked, rtol=0, atol=1e-5 * np.abs(masked).max())
    assert smaller.count_params() == 6 * 5 + 5 + 5 + 4 * 5 + 4 * 2 + 2

    path = tmp_path / "small.keras"
    smaller.save(path)
    again = backends.module(keras).models.load_model(path, custom_objects=own)
    np.testing.assert_array_equal(networks.outputs_of(again, inputs)[0], found)


def test_a_rule_of_before_goes_on_working() -> None:
    keras = backends.tf_keras()
    with pytest.warns(DeprecationWarning, match="LayerType"):
        rule = krp.Rule

    class Gain(rule):  # type: ignore[valid-type, misc]
        """As it was written for `krp.register_rule`."""

        trace, resize = GainType.trace, GainType.resize

        def lower(self, graph: Graph, node: Node) -> list[Scale]:
            gain = graph.layer_of(node).weights["gain"]
            return [Scale(graph.shape(node.inputs[0]), gain.astype(float))]

    with pytest.warns(DeprecationWarning, match="register_layer"):
        register = krp.register_rule
    own, _ = own_layers(keras)
    register(own, Gain())
    layers = [keras.layers.Dense(8, input_shape=(6,)), own(8), keras.layers.Dense(2)]
    model = networks.randomise(keras.Sequential(layers))
    inputs = networks.random_inputs(model)
    (found,) = lower(read(model))(np.asarray(inputs))
    np.testing.assert_allclose(found, networks.outputs_of(model, inputs)[0], atol=1e-5)
    assert find_groups(read(model)).groups[0].num_units == 8
    with pytest.raises(TypeError, match="Rule"):
        register(own, Gain)
