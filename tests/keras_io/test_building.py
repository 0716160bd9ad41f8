"""A graph becomes the model that it was read from, and edits of it are honoured or refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from networks import CASES, CHAIN_CASES, network, outputs_of, random_inputs

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Layer, Ref
from keras_robust_prune.keras_io.reading import ModelError, build, read
from keras_robust_prune.layers.splitting import split_activations, split_strides

BOTH = pytest.mark.parametrize("keras", backends.NAMES)


def with_layer(graph: Graph, name: str, config: dict, weights: dict[str, np.ndarray]) -> Graph:
    """The graph with a layer's configuration and weights changed."""
    layer = graph.layers[name]
    changed: Layer = dataclasses.replace(
        layer, config={**layer.config, **config}, weights={**layer.weights, **weights}
    )
    return graph.with_layers([changed])


@pytest.mark.parametrize(("name", "keras"), CASES)
def test_a_round_trip_is_the_identity(name: str, keras: str) -> None:
    model = network(name, keras)
    graph = read(model)
    rebuilt = build(graph)
    inputs = random_inputs(model)
    for before, after in zip(outputs_of(model, inputs), outputs_of(rebuilt, inputs), strict=True):
        np.testing.assert_array_equal(before, after)
    assert rebuilt.name == model.name
    assert rebuilt.count_params() == model.count_params()
    assert [tensor.dtype for tensor in rebuilt.inputs] == [tensor.dtype for tensor in model.inputs]
    again = read(rebuilt)
    assert [node.name for node in again.nodes] == [node.name for node in graph.nodes]
    assert again.output_structure == graph.output_structure


@pytest.mark.parametrize(("name", "keras"), CHAIN_CASES)
def test_a_chain_stays_sequential(name: str, keras: str) -> None:
    model = network(name, keras)
    rebuilt = build(read(model))
    assert isinstance(rebuilt, backends.module(keras).Sequential)
    assert [layer.name for layer in rebuilt.layers] == [layer.name for layer in model.layers]


@BOTH
def test_the_new_model_has_variables_of_its_own(keras: str) -> None:
    model = network("shared", keras)
    before = model.get_weights()
    rebuilt = build(read(model))
    rebuilt.set_weights([value + 1 for value in before])
    for value, after in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, after)


@pytest.mark.parametrize(("name", "keras"), CASES)
def test_split_activations_compute_the_same(name: str, keras: str) -> None:
    model = network(name, keras)
    inputs = random_inputs(model)
    split = build(split_activations(read(model)))
    for before, after in zip(outputs_of(model, inputs), outputs_of(split, inputs), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-6, atol=1e-6)


@BOTH
@pytest.mark.parametrize("strides", [(2, 2), (3, 1), (1, 1)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_strides_of_single_places_are_taken_before(keras: str, strides, padding: str) -> None:
    layers = backends.module(keras).layers
    x = layers.Input((7, 8, 3))
    y = layers.Conv2D(5, 1, strides, padding, name="single", activation="relu")(x)
    z = layers.Conv2D(4, 3, 2, "same", name="window")(y)
    model = backends.module(keras).Model(x, [y, z])
    graph = read(model)
    split = split_strides(split_activations(graph))
    inputs = random_inputs(model)
    for before, after in zip(
        outputs_of(model, inputs), outputs_of(build(split), inputs), strict=True
    ):
        np.testing.assert_allclose(before, after, rtol=1e-6, atol=1e-6)
    assert set(split.layers["single"].config["strides"]) == {1}
    assert split.layers["window"].config["strides"] == graph.layers["window"].config["strides"]
    assert ("single__strides" in split.node) == (strides != (1, 1))
    for name, layer in graph.layers.items():
        assert split.layers[name].weights == layer.weights


@BOTH
def test_any_tensor_can_be_the_output(keras: str) -> None:
    model = network("residual", keras)
    graph = read(model)
    refs = [node.ref for node in graph.nodes if graph.layer_of(node).kind == "ReLU"]
    parts = build(graph.ending_at(refs))(random_inputs(model))
    assert [tuple(part.shape)[1:] for part in parts] == [graph.shape(ref) for ref in refs]
    (last,) = outputs_of(build(graph.ending_at(graph.outputs)), random_inputs(model))
    np.testing.assert_array_equal(last, outputs_of(model, random_inputs(model))[0])


@BOTH
def test_smaller_layers_are_built_as_configured(keras: str) -> None:
    """Units 1 and 3 of a 12-16-10-5 network are taken out by hand."""
    model = network("mlp", keras)
    graph = read(model)
    first, second = [name for name, layer in graph.layers.items() if layer.kind == "Dense"][:2]
    keep = np.delete(np.arange(16), [1, 3])
    weights, after = graph.layers[first].weights, graph.layers[second].weights
    small = with_layer(
        graph,
        first,
        {"units": 14},
        {"kernel": weights["kernel"][:, keep], "bias": weights["bias"][keep]},
    )
    small = with_layer(small, second, {}, {"kernel": after["kernel"][keep]})
    zero = after["kernel"].copy()
    zero[[1, 3]] = 0
    masked = with_layer(graph, second, {}, {"kernel": zero})
    inputs = random_inputs(model)
    cut = build(small)
    assert cut.count_params() == (12 * 14 + 14) + (14 * 10 + 10) + (10 * 5 + 5)
    np.testing.assert_allclose(
        outputs_of(cut, inputs)[0], outputs_of(build(masked), inputs)[0], atol=1e-6
    )


@BOTH
def test_a_layer_can_be_given_a_bias(keras: str) -> None:
    graph = read(network("conv_bn", keras))
    (name, *_) = [name for name, layer in graph.layers.items() if layer.kind == "Conv2D"]
    bias = np.arange(8, dtype="float32")
    rebuilt = build(with_layer(graph, name, {"use_bias": True}, {"bias": bias}))
    np.testing.assert_array_equal(rebuilt.get_layer(name).get_weights()[1], bias)


@BOTH
def test_configuration_and_weights_must_agree(keras: str) -> None:
    graph = read(network("mlp", keras))
    first, second, third = [name for name, layer in graph.layers.items() if layer.weights]
    wrong = with_layer(graph, first, {"units": 15}, {})
    wrong = with_layer(wrong, third, {"use_bias": False}, {})
    with pytest.raises(ModelError) as caught:
        build(wrong)
    text = str(caught.value)
    assert f"'kernel' of layer '{first}' (Dense) has shape (12, 15), but is given (12, 16)" in text
    assert f"'kernel' of layer '{second}' (Dense) has shape (15, 10)" in text
    assert (
        f"layer '{third}' (Dense) has the weights 'kernel', but is given 'kernel', 'bias'" in text
    )


@BOTH
def test_a_layer_that_cannot_be_made(keras: str) -> None:
    graph = read(network("mlp", keras))
    unknown = Layer("strange", "Strange", {"name": "strange"})
    strange = dataclasses.replace(graph, layers={**graph.layers, "strange": unknown})
    with pytest.raises(ModelError, match=r"'strange' \(Strange\) cannot be made"):
        build(strange)


@BOTH
def test_mixed_precision_is_kept(keras: str) -> None:
    module = backends.module(keras)
    half = {"dtype": "mixed_float16"}
    inner = module.Sequential(
        [module.Input((4,)), module.layers.Dense(3, **half), module.layers.BatchNormalization()],
        name="inner",
    )
    inputs = module.Input((5,))
    x = inner(module.layers.Dense(4, **half)(inputs))
    model = module.Model(inputs, module.layers.Dense(2, name="last")(x))
    rebuilt = build(read(model))
    dense = [layer for layer in rebuilt.layers if "dense" in layer.name]
    assert [layer.compute_dtype for layer in dense] == ["float16", "float16"]
    np.testing.assert_array_equal(
        outputs_of(model, random_inputs(model))[0], outputs_of(rebuilt, random_inputs(model))[0]
    )


@BOTH
def test_an_input_that_nothing_reads_is_kept(keras: str) -> None:
    module = backends.module(keras)
    used, unused = module.Input((3,), name="used"), module.Input((4,), name="unused")
    model = module.Model([used, unused], module.layers.Dense(2)(used))
    graph = read(model)
    assert graph.inputs == (Ref("used"), Ref("unused"))
    assert len(build(graph).inputs) == 2
