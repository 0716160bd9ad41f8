"""`evaluate` on networks whose answers can be counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_robust_prune as krp
from keras_robust_prune import backends, demo
from keras_robust_prune.evaluation.corruptions import CORRUPTIONS
from keras_robust_prune.evaluation.evaluate import evaluate
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.exporting.tflite import export_tflite

BACKENDS = ["tf_keras", "keras"]


def line(
    keras: str = "tf_keras", units: int = 1, activation: str = "sigmoid", slope: float = 10.0
) -> Any:
    """Says class 1 where the one feature exceeds .5: a single unit, or a pair of opposite ones."""
    module = backends.module(keras)
    model = module.Sequential([module.Input((1,)), module.layers.Dense(units, activation)])
    kernel = np.array([[slope]]) if units == 1 else np.array([[-slope / 2, slope / 2]])
    model.set_weights([kernel, -0.5 * kernel[0]])
    return model


# Ten inputs .05, .15, ... .95; the labels are wrong at .05 and .95.
X = (np.arange(10)[:, np.newaxis] + 0.5).astype(np.float32) / 10
Y = np.array([1, 0, 0, 0, 0, 1, 1, 1, 1, 0])


@pytest.mark.parametrize("keras", BACKENDS)
@pytest.mark.parametrize(("units", "activation"), [(1, "sigmoid"), (2, "softmax"), (2, None)])
def test_shares_are_those_counted_by_hand(keras: str, units: int, activation: str) -> None:
    model = line(keras, units, activation)
    found = evaluate(model, X, Y, attacks=["fgsm@0.1", "pgd@0.2", "noise@0.01", "pgd@0.2:l2"])
    assert found.find("clean").count == 8
    assert found.find("fgsm@0.1").count == 8 - 2  # .45 and .55 lie within .1 of the border
    assert found.find("pgd@0.2").count == 8 - 4
    assert found.find("pgd@0.2:l2").count == 8 - 4
    assert found.find("noise@0.01").count == 8
    assert found.warnings == ()
    holds = found.find("fgsm@0.1").holds
    assert holds.tolist() == [False, True, True, True, False, False, True, True, True, False]


@pytest.mark.parametrize("form", ["numbers", "column", "one-hot", "list", "mapping"])
def test_labels_come_in_every_usual_form(form: str) -> None:
    model = line(units=2, activation="softmax")
    y = {
        "numbers": Y,
        "column": Y[:, np.newaxis],
        "one-hot": np.eye(2)[Y],
        "list": Y.tolist(),
        "mapping": {model.output_names[0]: Y},
    }[form]
    assert evaluate(model, X, y).find("clean").count == 8


def test_agreement_compares_with_the_reference() -> None:
    shifted = line(units=2, activation=None)
    shifted.set_weights([np.array([[-5.0, 5.0]]), np.array([1.0, -1.0])])  # the border is .2
    found = evaluate(shifted, X, Y, reference=line())
    assert found.find("agreement").count == 10 - 3  # .25, .35 and .45


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
def test_a_last_activation_that_keeps_the_order_is_walked_back(activation: str) -> None:
    # At .15, relu gives the wrong class exactly 0 with no slope; without it the attack goes on.
    model = line(units=2, activation=activation)
    found = evaluate(model, X, Y, attacks=["pgd@0.2"])
    assert found.find("pgd@0.2").count == 8 - 4


@pytest.mark.parametrize("keras", BACKENDS)
def test_every_output_is_attacked_by_itself(keras: str) -> None:
    module = backends.module(keras)
    layers = module.layers
    given = [module.Input((1,), name="second"), module.Input((1,), name="first")]
    both = layers.Concatenate()(given)
    outputs = [
        layers.Dense(1, "sigmoid", name="one")(both),
        layers.Dense(2, "softmax", name="two")(both),
        layers.Dense(1, name="amount")(both),
    ]
    model = module.Model(given, outputs)
    model.get_layer("one").set_weights([np.array([[10.0], [0.0]]), np.array([-5.0])])
    kernel = np.array([[0.0, 0.0], [-5.0, 5.0]])
    model.get_layer("two").set_weights([kernel, np.array([2.5, -2.5])])
    x = {"first": X, "second": X}
    found = evaluate(model, x, {"one": X > 0.5, "two": Y}, attacks=["pgd@0.1"])
    assert found.heads == ("one", "two", "all outputs")
    assert found.find("clean", "one").count == 10
    assert found.find("pgd@0.1", "one").count == 10 - 2
    assert found.find("clean", "two").count == found.find("clean").count == 8
    assert found.find("pgd@0.1", "two").count == found["pgd@0.1"] * 10 == 8 - 2
    assert "all outputs" in str(found)
    by_list = evaluate(model, [X, X], [X > 0.5, Y, None])
    assert by_list.find("clean").count == 8


def test_a_range_for_each_input_bounds_the_attack() -> None:
    module = backends.tf_keras()
    given = [module.Input((1,), name="free"), module.Input((1,), name="fixed")]
    total = module.layers.Dense(1, name="sum")(module.layers.Concatenate()(given))
    model = module.Model(given, total)
    model.get_layer("sum").set_weights([np.ones((2, 1)), np.array([-1.0])])
    x = [X, np.full_like(X, 0.5)]
    ranges = {"free": (0.0, 1.0), "fixed": (0.5, 0.5)}
    y = X > 0.5
    free = evaluate(model, x, y, attacks=["pgd@0.2"])
    fixed = evaluate(model, x, y, attacks=["pgd@0.2"], input_range=ranges)
    assert free.find("pgd@0.2").count == 10 - 8  # both move by .2
    assert fixed.find("pgd@0.2").count == 10 - 4


def test_several_yes_or_no_labels_are_several_heads() -> None:
    module = backends.tf_keras()
    model = module.Sequential([module.Input((1,)), module.layers.Dense(2, "sigmoid", name="tags")])
    model.set_weights([np.array([[10.0, 10.0]]), np.array([-5.0, -2.0])])  # borders .5 and .2
    y = np.concatenate([X > 0.5, X > 0.2], 1)
    found = evaluate(model, X, y, attacks=["pgd@0.1"])
    assert found.heads == ("tags[0]", "tags[1]", "all outputs")
    assert found.find("pgd@0.1", "tags[0]").count == 10 - 2
    assert found.find("pgd@0.1", "tags[1]").count == 10 - 2
    assert found.find("pgd@0.1").count == 10 - 4


def test_a_flat_network_is_flagged() -> None:
    module = backends.tf_keras()
    model = module.Sequential([module.Input((1,)), module.layers.Dense(1, "hard_sigmoid")])
    model.set_weights([np.array([[1e6]]), np.array([-0.5e6])])
    model.add(module.layers.Dense(1, "sigmoid"))
    model.layers[-1].set_weights([np.array([[10.0]]), np.array([-5.0])])
    with pytest.warns(UserWarning, match="loss is flat"):
        found = evaluate(model, X, X > 0.5, attacks=["fgsm@0.2"])
    assert found["fgsm@0.2"] == 1.0
    assert "rely on 'square' and 'noise'" in str(found)
    assert len(found.to_dict()["warnings"]) == 1


def saw() -> Any:
    """Rises from -1 to 1 in 50 steep jumps, between which it falls: gradients point the wrong way."""
    module = backends.tf_keras()
    num, steep = 50, 2000.0
    corners = np.arange(num) / num
    # relu(x - c) raises the slope at c by `steep`, relu(x - c - w) lowers it again.
    up = 2 * (1 + 1.0) / num
    width = up / (steep + 1)
    model = module.Sequential(
        [module.Input((1,)), module.layers.Dense(2 * num + 1, "relu"), module.layers.Dense(1)]
    )
    bias = -np.concatenate([corners + 0.5 / num, corners + 0.5 / num + width, [0.0]])
    heights = np.concatenate([np.full(num, steep), np.full(num, -steep), [-2.0]])
    model.set_weights([np.ones((1, 2 * num + 1)), bias, heights[:, np.newaxis], np.array([-1.0])])
    return model


def test_gradients_that_mislead_are_flagged() -> None:
    x = np.concatenate([np.linspace(0.3, 0.45, 40), np.linspace(0.55, 0.7, 40)])[:, np.newaxis]
    model = saw()
    y = model.predict(x, verbose=0) > 0
    with pytest.warns(UserWarning, match="noise@.* breaks .* that fgsm|that pgd"):
        found = evaluate(model, x, y, attacks=["pgd-2@0.25", "noise@0.25"])
    assert found["noise@0.25"] < found["pgd-2@0.25"]


def test_an_output_that_compares_inputs_of_a_batch_is_refused() -> None:
    keras = backends.module("keras")
    x = keras.Input((4,))
    y = keras.layers.Dense(3)(x)
    alike = keras.ops.matmul(y, keras.ops.transpose(y))
    with pytest.raises(
        ValueError, match=r"Output .* has the open shape \(None, None\): .* Leave it"
    ):
        evaluate(keras.Model(x, [y, alike]), X, Y)


def test_an_honest_network_is_not_flagged() -> None:
    model, x, y = demo.load()
    found = evaluate(model, x[:80], y[:80], attacks=["pgd@0.1", "fgsm@0.1"])
    assert found.warnings == ()
    assert found["pgd@0.1"] <= found["fgsm@0.1"] < found.accuracy


def test_nothing_right_and_nothing_left_are_no_trouble() -> None:
    model, x, y = demo.load()
    attacks = ["fgsm@0.9", "pgd@0.9", "apgd-5@0.9", "noise@0.9", "square-5@0.9"]
    wrong = evaluate(model, x[:9], (y[:9] + 1) % 10, attacks=attacks)
    assert {measure.count for measure in wrong.measures} == {0}
    broken = evaluate(model, x[:9], y[:9], attacks=["pgd@0.9"])
    assert broken["pgd@0.9"] == 0
    assert wrong.warnings == broken.warnings == ()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, Path]:
    model, x, _ = demo.load()
    folder = tmp_path_factory.mktemp("files")
    paths = {quantize: folder / f"{quantize}.tflite" for quantize in (None, "int8")}
    for quantize, path in paths.items():
        export_tflite(model, path, quantize, calibration=x[:50] if quantize else None)
    return paths


def test_a_file_is_attacked_without_gradients_and_by_transfer(files: dict[Any, Path]) -> None:
    model, x, y = demo.load()
    x, y = x[:60], y[:60]
    attacks = ["pgd@0.2", "square-60@0.2", "noise-5@0.2"]
    of_model = evaluate(model, x, y, attacks=attacks)
    of_file = evaluate(files[None], x, y, attacks=attacks, reference=model)
    assert of_file["agreement"] == 1.0
    assert of_file.accuracy == of_model.accuracy
    assert of_file["pgd@0.2 (transfer)"] == pytest.approx(of_model["pgd@0.2"], abs=0.02)
    assert of_file["square-60@0.2"] == pytest.approx(of_model["square-60@0.2"], abs=0.1)
    assert of_file["square-60@0.2"] < of_file["noise-5@0.2"]


def test_an_integer_file_is_evaluated_on_real_inputs(files: dict[Any, Path]) -> None:
    model, x, y = demo.load()
    attacks = ["pgd@0.2", "square-60@0.2"]
    found = evaluate(
        str(files["int8"]),
        x[:60],
        y[:60],
        attacks=attacks,
        surrogate=model,
        corruptions="motion_blur@5",
    )
    assert found.subject == "int8.tflite"
    assert found.accuracy > 0.9
    assert found["pgd@0.2 (transfer)"] < 0.5
    assert found["square-60@0.2"] < found.accuracy
    pictures = CORRUPTIONS["motion_blur"](x[:60], 5)
    seen = LiteFile(files["int8"])(pictures.reshape(60, -1))[0].argmax(1)
    right = int((seen == y[:60]).sum())
    assert found.find("motion_blur@5").count == right < found.find("clean").count


def test_corruptions_are_measured_one_by_one() -> None:
    model, x, y = demo.load()
    found = evaluate(model, x[:50], y[:50], corruptions="standard")
    names = [m.name for m in found.measures if m.kind == "corruption"]
    assert len(names) == 10 * 5  # all but 'saturate', which needs colour
    assert "saturate@1" not in names
    assert found.corruption_accuracy < found.accuracy
    assert "gaussian_noise" in str(found)


def test_progress_is_printed_only_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(line(), X, Y, verbose=0)
    assert capsys.readouterr().out == ""
    evaluate(line(), X, Y, verbose=2)
    assert "clean: 0.8000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"attacks": "pgd"}, "Write 'pgd@0.05'"),
        ({"attacks": "apgd-dlr@0.1"}, "Use 'apgd@eps'"),
        ({"attacks": "pgd@0.1", "input_range": (0.2, 1)}, "Pass the range"),
        ({"attacks": "pgd@0.1", "input_range": (1, 0)}, "range is empty"),
        ({"attacks": "pgd@0.1", "input_range": 1}, "no pair"),
        ({"attacks": "pgd@0.1", "input_range": (np.zeros(3), np.ones(3))}, "have shapes"),
        ({"corruptions": "jpeg"}, "Evaluate without them"),
        ({"x": np.zeros((10, 2))}, "Reshape it"),
        ({"x": np.zeros((0, 1)), "y": np.zeros(0, int)}, "at least one"),
        ({"y": Y + 1}, "knows 0 to 1"),
        ({"y": Y[:5]}, "one label each"),
        ({"y": Y + 0.5}, "needs classes"),
        ({"y": {"nobody": Y}}, "the outputs are"),
        ({"y": [Y, Y]}, "one label each|columns"),
        ({"model": "nothing.tflite"}, "krp.export_tflite"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], fix: str) -> None:
    arguments: dict[str, Any] = {"model": line(), "x": X, "y": Y, **change}
    with pytest.raises(ValueError, match=fix):
        evaluate(**arguments)


def test_a_file_without_surrogate_has_no_gradients(files: dict[Any, Path]) -> None:
    _, x, y = demo.load()
    with pytest.raises(ValueError, match="surrogate="):
        evaluate(files[None], x[:5], y[:5], attacks=["pgd@0.1"])


def test_a_masked_model_is_stripped_first() -> None:
    model, x, y = demo.load()
    masked = krp.wrap(model)
    assert evaluate(masked, x[:20], y[:20]).accuracy == evaluate(model, x[:20], y[:20]).accuracy
    mask = masked.layers[-1].mask
    mask.assign(np.arange(mask.shape[0]) > 5)
    with pytest.raises(ValueError, match=r"krp\.strip"):
        evaluate(masked, x[:20], y[:20])


def test_a_reference_of_another_shape_is_refused() -> None:
    other, _, _ = demo.load()
    with pytest.raises(ValueError, match="answer the same inputs"):
        evaluate(line(), X, Y, reference=other)
