"""Models and files of both Keras versions become the right graph, and unfit ones one error that says everything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import CASES, network, outputs_of, random_inputs

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.keras_io.reading import ModelError, build, load, read, read_masks

BOTH = pytest.mark.parametrize("keras", backends.NAMES)


def calls_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    """What every node reads, without the inputs."""
    return {
        node.name: tuple(ref.node for ref in node.inputs) for node in graph.nodes if node.inputs
    }


@pytest.mark.parametrize(("name", "keras"), CASES)
def test_every_network_is_read_in_topological_order(name: str, keras: str) -> None:
    model = network(name, keras)
    graph = read(model)
    seen: set[Ref] = set()
    for node in graph.nodes:
        assert set(node.inputs) <= seen
        seen.update(Ref(node.name, index) for index in range(len(node.shapes)))
    assert set(graph.inputs + graph.outputs) <= seen
    assert graph.num_params == model.count_params()
    assert graph.keras == keras
    assert [graph.shape(ref) for ref in graph.inputs] == [
        tuple(tensor.shape)[1:] for tensor in model.inputs
    ]


@BOTH
def test_a_chain_is_read_as_a_chain(keras: str) -> None:
    graph = read(network("conv_flatten", keras))
    kinds = [graph.layer_of(node).kind for node in graph.nodes]
    assert kinds == ["InputLayer", "Conv2D", "MaxPooling2D", "Conv2D", "AveragePooling2D"] + [
        "Flatten",
        "Dense",
        "Dense",
    ]
    # 10x10 -> valid 3x3 -> 8x8 -> pool -> 4x4 -> same -> pool -> 2x2 of 8 channels
    assert [node.shapes[0] for node in graph.nodes] == [
        (10, 10, 2),
        (8, 8, 6),
        (4, 4, 6),
        (4, 4, 8),
        (2, 2, 8),
        (2 * 2 * 8,),
        (12,),
        (5,),
    ]
    assert graph.sequential
    assert graph.num_params == (3 * 3 * 2 * 6 + 6) + (3 * 3 * 6 * 8 + 8) + (32 * 12 + 12) + 13 * 5


@BOTH
def test_nested_models_lie_on_one_level(keras: str) -> None:
    """`first` occurs on three levels: the outermost keeps its name."""
    graph = read(network("nested", keras))
    names = ["first", "middle__first", "block__first", "second", "last"]
    assert [name for name in graph.layers if graph.layers[name].kind == "Dense"] == names
    reads = calls_of(graph)
    assert [reads[name] for name in names[1:]] == [(name,) for name in names[:-1]]


@BOTH
def test_a_model_used_twice_is_one_set_of_layers(keras: str) -> None:
    graph = read(network("nested_twice", keras))
    dense = next(name for name, layer in graph.layers.items() if layer.kind == "Dense")
    first, second = graph.calls[dense]
    assert (first.name, second.name) == (dense, f"{dense}__call2")
    subtract = next(node for node in graph.nodes if graph.layer_of(node).kind == "Subtract")
    assert subtract.inputs == (first.ref, second.ref)


@BOTH
def test_inference_mode_of_a_nested_model_reaches_its_layers(keras: str) -> None:
    """`encoder(x, training=False)`: BatchNormalization inside must not use the batch's statistics."""
    model = network("nested_twice", keras)
    rebuilt, inputs = build(read(model)), random_inputs(model)
    before, after = model(inputs, training=True), rebuilt(inputs, training=True)
    np.testing.assert_array_equal(np.array(before), np.array(after))


@BOTH
def test_a_shared_layer_is_one_layer(keras: str) -> None:
    graph = read(network("shared", keras))
    assert calls_of(graph)["again__call2"] == ("again",)
    assert graph.num_params == (6 * 6 + 6) + (6 * 2 + 2)


@BOTH
def test_structures_of_inputs_and_outputs(keras: str) -> None:
    graph = read(network("two_outputs", keras))
    assert graph.output_structure == {"kind": Ref("kind"), "size": Ref("size")}
    assert graph.outputs == (Ref("kind"), Ref("size"))
    graph = read(network("two_inputs", keras))
    assert graph.input_structure == [Ref("image"), Ref("facts")]


@BOTH
def test_operators_keep_their_constants(keras: str) -> None:
    graph = read(network("operators", keras))
    kinds = {"tf_keras": "TFOpLambda", "keras": "ops.Multiply"}
    found = [
        value
        for node in graph.nodes
        if graph.layer_of(node).kind == kinds[keras]
        for value in [*node.args, *node.kwargs.values()]
        if isinstance(value, np.ndarray) and value.ndim
    ]
    np.testing.assert_allclose(found[0], np.linspace(0.5, 1.5, 12), rtol=1e-6)


@BOTH
def test_weights_are_named_alike(keras: str) -> None:
    graph = read(network("depthwise", keras))
    named = [set(layer.weights) for layer in graph.layers.values() if layer.weights]
    assert {"depthwise_kernel"} in named
    assert {"depthwise_kernel", "bias"} in named
    assert {"gamma", "beta", "moving_mean", "moving_variance"} in named
    (heads,) = [
        layer
        for layer in read(network("attention", keras)).layers.values()
        if "Multi" in layer.kind
    ]
    parts = ["query", "key", "value", "attention_output"]
    assert list(heads.weights) == [
        f"{part}/{name}" for part in parts for name in ("kernel", "bias")
    ]
    assert heads.weights["query/kernel"].shape == (8, 2, 4)


@BOTH
def test_frozen_parts_of_a_nested_model_stay_frozen(keras: str) -> None:
    model = network("nested_twice", keras)
    model.get_layer("encoder").trainable = False
    graph = read(model)
    trainable = {layer.kind: layer.trainable for layer in graph.layers.values() if layer.weights}
    assert trainable["Conv2D"] is False
    rebuilt = build(graph)
    assert len(rebuilt.trainable_weights) == len(model.trainable_weights) == 2


@BOTH
def test_the_model_read_is_not_touched(keras: str) -> None:
    model = network("nested", keras)
    weights, config = model.get_weights(), model.get_config()
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    graph = read(model)
    build(graph)
    assert [len(layer._inbound_nodes) for layer in model.layers] == calls
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    with pytest.raises(ValueError, match="read-only"):
        graph.layers["last"].weights["bias"][0] = 1.0


@BOTH
@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_files_are_loaded_by_the_keras_that_wrote_them(
    keras: str, ending: str, tmp_path: Path
) -> None:
    model = network("residual", keras)
    path = tmp_path / f"model{ending}"
    model.save(path)
    graph = read(path)
    assert graph.keras == keras
    inputs = random_inputs(model)
    np.testing.assert_array_equal(outputs_of(build(graph), inputs)[0], outputs_of(model, inputs)[0])


def test_a_saved_model_is_read(tmp_path: Path) -> None:
    model = network("operators", "tf_keras")
    model.save(str(tmp_path / "model"))
    graph = read(str(tmp_path / "model"))
    inputs = random_inputs(model)
    np.testing.assert_allclose(
        outputs_of(build(graph), inputs)[0], outputs_of(model, inputs)[0], rtol=0, atol=1e-6
    )


def stays_closed(inputs: Any) -> None:
    """A call that does not let itself be recorded."""
    if hasattr(inputs, "_keras_history"):
        raise TypeError("only on values")


def custom_layer(keras: str) -> Any:
    layers = backends.module(keras).layers

    class Scale(layers.Layer):
        """Multiplies by a weight for each unit."""

        def build(self, input_shape: Any) -> None:
            self.factor = self.add_weight(name="factor", shape=(input_shape[-1],))
            super().build(input_shape)

        def call(self, inputs: Any) -> Any:
            stays_closed(inputs)
            return inputs * self.factor

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    return Scale


def with_custom_layer(keras: str) -> tuple[Any, Any]:
    module, scale = backends.module(keras), custom_layer(keras)
    chain = [
        module.Input((4,)),
        module.layers.Dense(5, activation=lambda x: x * x),
        scale(name="scale"),
        module.layers.Dense(2),
    ]
    return module.Sequential(chain), scale


@BOTH
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_custom_layers_and_functions_are_rebuilt(keras: str) -> None:
    model, scale = with_custom_layer(keras)
    graph = read(model)
    assert graph.layers["scale"].origin is scale
    assert graph.layers["scale"].weights["factor"].shape == (5,)
    inputs = random_inputs(model)
    np.testing.assert_array_equal(outputs_of(build(graph), inputs)[0], outputs_of(model, inputs)[0])


@BOTH
def test_custom_parts_inside_a_wrapper_are_rebuilt(keras: str) -> None:
    module = backends.module(keras)
    inner = module.layers.TimeDistributed(custom_layer(keras)())
    model = module.Sequential([module.Input((3, 4)), inner, module.layers.Dense(2)])
    inputs = random_inputs(model)
    np.testing.assert_array_equal(
        outputs_of(build(read(model)), inputs)[0], outputs_of(model, inputs)[0]
    )


def test_operations_that_only_memory_holds_are_copied() -> None:
    module = backends.keras()

    class Shift(module.Operation):
        def __init__(self, by: np.ndarray) -> None:
            super().__init__()
            self.by = by

        def call(self, inputs: Any) -> Any:
            return inputs + self.by

        def compute_output_spec(self, inputs: Any) -> Any:
            return module.KerasTensor(inputs.shape, inputs.dtype)

    shift = Shift(np.array([1.0, 2.0], "float32"))
    tensor = module.Input((2,))
    model = module.Model(tensor, module.layers.Dense(3)(shift(shift(tensor))))
    graph = read(model)
    assert graph.layers[shift.name].kind == "ops.Shift"
    np.testing.assert_array_equal(graph.layers[shift.name].config["by"], [1.0, 2.0])
    inputs = random_inputs(model)
    np.testing.assert_array_equal(outputs_of(build(graph), inputs)[0], outputs_of(model, inputs)[0])
    assert len(shift._inbound_nodes) == 2


@BOTH
def test_weights_without_names_of_their_own_are_kept_in_order(keras: str) -> None:
    """Keras numbers the two inner layers on with every model it makes."""
    module = backends.module(keras)

    class Twice(module.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.inner, self.outer = module.layers.Dense(4), module.layers.Dense(3)

        def build(self, input_shape: Any) -> None:
            self.inner.build(input_shape)
            self.outer.build((None, 4))
            self.scale = self.add_weight(shape=(3,), initializer="ones")
            super().build(input_shape)

        def call(self, inputs: Any) -> Any:
            stays_closed(inputs)
            return self.outer(self.inner(inputs)) * self.scale

    model = module.Sequential([module.Input((5,)), Twice(name="twice")])
    graph = read(model)
    assert "variable" in graph.layers["twice"].weights
    inputs = random_inputs(model)
    np.testing.assert_array_equal(outputs_of(build(graph), inputs)[0], outputs_of(model, inputs)[0])


@BOTH
def test_a_file_with_custom_layers_asks_for_them(keras: str, tmp_path: Path) -> None:
    module, scale = backends.module(keras), custom_layer(keras)
    model = module.Sequential([module.Input((4,)), scale(), module.layers.Dense(2)])
    path = tmp_path / "model.h5"
    model.save(path)
    with pytest.raises(ModelError, match="custom_objects="):
        load(path)
    graph = read(path, custom_objects={"Scale": scale})
    assert [layer.kind for layer in graph.layers.values()] == ["InputLayer", "Scale", "Dense"]


def test_a_saved_model_with_an_unknown_layer_is_read(tmp_path: Path) -> None:
    module, scale = backends.tf_keras(), custom_layer("tf_keras")
    model = module.Sequential([module.Input((4,)), scale(name="scale"), module.layers.Dense(2)])
    model.save(str(tmp_path / "model"))
    graph = read(tmp_path / "model")
    assert graph.layers["scale"].kind == "Scale"
    inputs = random_inputs(model)
    np.testing.assert_array_equal(outputs_of(build(graph), inputs)[0], outputs_of(model, inputs)[0])


@pytest.mark.parametrize("from_file", [False, True])
def test_tfmot_wrappers_are_taken_off(from_file: bool, tmp_path: Path) -> None:
    model = network("conv_bn", "tf_keras")
    wrapped = backends.tfmot().sparsity.keras.prune_low_magnitude(model)
    assert any("prune_low_magnitude" in layer.name for layer in wrapped.layers)
    if from_file:
        wrapped.save(tmp_path / "wrapped.h5")
    graph = read(tmp_path / "wrapped.h5" if from_file else wrapped)
    assert list(graph.layers)[1:] == [layer.name for layer in model.layers]
    inputs = random_inputs(model)
    np.testing.assert_array_equal(outputs_of(build(graph), inputs)[0], outputs_of(model, inputs)[0])


def test_importing_tfmot_leaves_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "untouched")
    backends.tfmot()
    assert os.environ["TF_USE_LEGACY_KERAS"] == "untouched"


@BOTH
def test_masks_are_read_beside_the_layers_inside(keras: str) -> None:
    module = backends.module(keras)

    class Masked(module.layers.Layer):
        def __init__(self, inner: Any) -> None:
            super().__init__(name=f"masked_{inner.name}")
            self.krp_masked_layer = inner
            self.mask = module.Variable([1.0, 0.0]) if keras == "keras" else None
            if self.mask is None:
                self.mask = self.add_weight(name="mask", shape=(2,), initializer="ones")

        def call(self, inputs: Any) -> Any:
            return self.krp_masked_layer(inputs * self.mask)

    inputs = module.Input((2,))
    model = module.Model(inputs, Masked(module.layers.Dense(3, name="inner"))(inputs))
    expected = [1.0, 0.0] if keras == "keras" else [1.0, 1.0]
    masks = read_masks(model)
    assert list(masks) == ["inner"]
    np.testing.assert_array_equal(masks["inner"], expected)
    assert list(read(model).layers)[1:] == ["inner"]
