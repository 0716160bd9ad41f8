"""What int8 is helped by: units that use their tensors' ranges alike, and biases that take rounding errors over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.exporting.converting import convert
from keras_robust_prune.exporting.correcting import corrected
from keras_robust_prune.exporting.equalizing import MARGIN, equalized
from keras_robust_prune.exporting.quantization import quantization_for
from keras_robust_prune.exporting.tflite import export_tflite
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.surgery.folding import folded

IMAGES = np.random.default_rng(0).uniform(size=(64, 12, 12, 3)).astype("float32")


def uneven(model: Any) -> Any:
    """The model with normalisations that give every unit a range of its own, from 1 to 100."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            rest = layer.get_weights()[1:]
            layer.set_weights([rng.normal(0.0, 0.3, layer.kernel.shape), *rest])
        if hasattr(layer, "moving_variance"):
            width = layer.gamma.shape[0]
            values = [
                10 ** rng.uniform(-1, 1, width),
                rng.normal(size=width),
                rng.uniform(0, 0.5, width),
                rng.uniform(0.1, 1, width),
            ]
            layer.set_weights(values)
        elif getattr(layer, "use_bias", False):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.normal(0.0, 0.1, bias.shape)])
    return model


def behind_relu(keras: str, padding: str = "valid") -> Any:
    """Normalisations that melt into no kernel before them."""
    layers = backends.module(keras).layers
    stack = [layers.Input((12, 12, 3))]
    for width in (8, 6):
        stack += [
            layers.Conv2D(width, 3, padding=padding, activation="relu", use_bias=width > 6),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
        ]
    stack += [layers.Flatten(), layers.Dropout(0.1), layers.Dense(16, activation="relu")]
    return uneven(backends.module(keras).Sequential([*stack, layers.Dense(4)]))


def spread(model: Any) -> Any:
    """The same function with units from 1 to 100 times as large, which those that read them divide by."""
    norms = [layer for layer in model.layers if hasattr(layer, "moving_variance")]
    readers = [layer for layer in model.layers if hasattr(layer, "kernel")][1:]
    for norm, reader in zip(norms, readers, strict=False):
        gamma, beta, *moments = norm.get_weights()
        by = np.geomspace(1, 100, len(gamma))
        norm.set_weights([gamma * by, beta * by, *moments])
        kernel, *rest = reader.get_weights()
        rows = kernel.reshape(-1, len(by), kernel.shape[-1]) / by[:, None]
        reader.set_weights([rows.reshape(kernel.shape), *rest])
    return model


def residual() -> Any:
    """Sums, depthwise kernels, padding, and a cap."""
    backends.tf_keras().utils.set_random_seed(0)
    layers = backends.tf_keras().layers
    x = inputs = layers.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = start = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.ReLU(6.0, name="capped")(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(8, 1, name="reads_capped")(x))
    x = layers.ZeroPadding2D()(layers.Add()([x, start]))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, strides=2, activation="relu")(x))
    return uneven(backends.tf_keras().Model(inputs, layers.Dense(4)(x)))


def same(first: Any, second: Any, x: np.ndarray) -> bool:
    """Whether two models give the same, to the rounding of float32."""
    one, other = np.asarray(first(x)), np.asarray(second(x))
    return bool(np.abs(one - other).max() < 1e-4 * np.abs(one).max())


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_normalisations_behind_relu_are_gone_and_the_function_is_not(keras: str) -> None:
    model = behind_relu(keras)
    found = equalized(read(model), [IMAGES])
    assert not any("moving_mean" in layer.weights for layer in found.layers.values())
    assert same(model, build(found), IMAGES)
    # Elsewhere, too: nothing here has a cap.
    assert same(model, build(found), 3 * IMAGES - 1)


def test_where_zeros_are_padded_a_shift_stays() -> None:
    model = behind_relu("tf_keras", "same")
    graph, passing = folded(read(model))
    kept = [layer for layer in graph.layers.values() if "moving_mean" in layer.weights]
    assert [layer.name for layer in kept] == list(passing)
    assert len(kept) == 1  # before the Dense layer nothing is padded
    (norm,) = kept
    assert np.all(norm.weights["gamma"] == 1)
    assert np.all(norm.weights["moving_variance"] + np.float32(norm.config["epsilon"]) == 1)
    assert same(model, build(graph), IMAGES)
    assert same(model, build(equalized(read(model), [IMAGES])), IMAGES)


def test_units_take_their_tensors_ranges_alike() -> None:
    tf_keras = backends.tf_keras()
    model = behind_relu("tf_keras")
    found = build(equalized(read(model), [IMAGES]))

    def ranges(network: Any) -> np.ndarray:
        inner = next(layer for layer in network.layers if "max_pooling" in layer.name).output
        values = np.asarray(tf_keras.Model(network.inputs, inner)(IMAGES))
        return np.abs(values).reshape(-1, values.shape[-1]).max(0)

    before, after = ranges(model), ranges(found)
    assert before.max() / before.min() > 5
    np.testing.assert_allclose(after, after.max(), rtol=1e-4)


def test_below_a_cap_units_grow_so_far_that_they_stay_below_it() -> None:
    tf_keras = backends.tf_keras()
    model = residual()
    found = build(equalized(read(model), [IMAGES]))
    assert same(model, found, IMAGES)
    ends = []
    for network in (model, found):
        inner = tf_keras.Model(network.inputs, network.get_layer("capped").output)
        ends.append(np.asarray(inner(IMAGES)).reshape(-1, 8).max(0))
    before, after = ends
    low = (before > 0) & (before < 6 / MARGIN)
    assert low.any()
    assert not low.all()
    np.testing.assert_allclose(after[low], 6 / MARGIN, rtol=1e-4)
    np.testing.assert_allclose(after[~low], before[~low], rtol=1e-5)


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
@pytest.mark.parametrize("verify", [True, False])
def test_a_file_has_no_operators_for_normalisations_behind_relu(
    keras: str, verify: bool, tmp_path: Path
) -> None:
    """Each was a product and a sum: two fifths of the time of an int8 file of six such layers."""
    model = behind_relu(keras)
    as_it_is = LiteFile(convert(model, quantization_for(None)))
    assert as_it_is.ops()["MUL"] == 2
    place = tmp_path / "small.tflite"
    report = export_tflite(model, place, input_range=(0, 1), verify=verify)
    assert not {"MUL", "ADD"} & set(report.ops)
    wanted = np.asarray(model(IMAGES))
    np.testing.assert_allclose(LiteFile(place.read_bytes())(IMAGES)[0], wanted, atol=1e-4)


@pytest.mark.slow
def test_int8_of_uneven_units_is_what_the_model_says(tmp_path: Path) -> None:
    """It lost a quarter of the answers of a network of six such layers."""
    model = spread(behind_relu("tf_keras"))
    noise = {}
    for adjust in ((), ("equalization",), ("equalization", "bias")):
        path = tmp_path / f"{len(adjust)}.tflite"
        report = export_tflite(
            model, path, "int8", calibration=IMAGES, adjust=adjust, min_agreement=0.0
        )
        assert set(report.adjusted) <= set(adjust)
        noise[len(adjust)] = report.decibels or 0.0
        assert ("MUL" in report.ops) == (not adjust)
    assert noise[1] > noise[0] + 3
    assert noise[2] >= noise[1]
    assert "adjusted    equalization +" in str(report)
    with pytest.raises(ValueError, match=r"adjust holds \['luck'\], but there are"):
        export_tflite(model, tmp_path / "a.tflite", "int8", adjust=["luck"])


def test_a_bias_takes_what_rounding_adds_on_average() -> None:
    """A scale of 1 rounds each of the weights .4 to 0: at inputs of mean 1/2, 63 * .4 / 2 = 12.6 are lost."""
    layers = backends.tf_keras().layers
    model = backends.tf_keras().Sequential([layers.Input((64,)), layers.Dense(2, name="d")])
    kernel = np.full((64, 2), 0.4)
    kernel[0] = 127
    model.set_weights([kernel, np.ones(2)])
    x = np.random.default_rng(0).uniform(size=(64, 64)).astype("float32")
    x[:, 0] = 0
    examples = [[x[k : k + 1]] for k in range(64)]
    reference = convert(model, quantization_for(None))
    content = convert(model, quantization_for("int8_float32"), examples)
    wanted = np.asarray(model(x))
    layout = LiteFile(content).layout
    before = LiteFile(content)(x)[0] - wanted
    after = LiteFile(corrected(content, reference, layout, x))(x)[0] - wanted
    step = LiteFile(convert(model, quantization_for("int8"), examples)).resolution()[0]
    assert np.abs(before.mean(0) + 12.6).max() < 0.5
    assert np.abs(after.mean(0)).max() < step


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_a_layer_that_is_always_0_is_named_where_int8_kernels_refuse_it(
    keras: str, tmp_path: Path
) -> None:
    module = backends.module(keras)
    layers = module.layers
    below = module.initializers.Constant(-100.0)
    chain = [
        layers.Input((8, 8, 3)),
        layers.Conv2D(4, 3, activation="relu", bias_initializer=below, name="dead"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    ]
    model = module.Sequential(chain, name="sleeper")
    place = tmp_path / "small.tflite"
    with pytest.raises(ValueError, match=r"(?s)'sleeper' does not run: .*'.*dead.*' is 0 on every"):
        export_tflite(model, place, "int8", input_range=(0, 1))
    assert not place.exists()
    export_tflite(model, place, "float16", input_range=(0, 1))  # the way out
