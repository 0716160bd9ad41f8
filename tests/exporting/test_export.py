"""Several files at once, each checked: agreement with the model, the runtime it needs, calibration without data."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting.test_tflite import branched

from keras_robust_prune import backends, cli, demo
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.exporting.checking import (
    MOST_DECIBELS,
    agreement,
    every_tensor,
    layer_noise,
)
from keras_robust_prune.exporting.converting import convert
from keras_robust_prune.exporting.metadata import Metadata
from keras_robust_prune.exporting.quantization import (
    Quantization,
    quantization_for,
    register_quantization,
)
from keras_robust_prune.exporting.tflite import export, export_tflite


@pytest.fixture(scope="module")
def digits() -> tuple[Any, np.ndarray, np.ndarray]:
    return demo.load()


@pytest.mark.slow
def test_several_files_in_one_run(digits: Any, tmp_path: Path) -> None:
    model, x, y = digits
    ways = ["float32", "float16", "dynamic", "int8", "int8_float32", "int8_uint8"]
    reports = export(model, tmp_path / "small.tflite", ways, calibration=x[:200])
    assert {path.name for path in tmp_path.iterdir()} == {f"small.{way}.tflite" for way in ways}
    kinds = {}
    for way, report in zip(ways, reports, strict=True):
        assert report.quantize == (None if way == "float32" else way)
        assert report.description is not None
        kinds[way] = (report.description.inputs[0].dtype, report.description.outputs[0].dtype)
        assert report.agreement is not None
        assert report.agreement >= 0.98
        assert report.num_held_out == 50  # every fourth of 200
        file = LiteFile(report.path)
        assert (file(file.layout.pack(x[200:]))[0].argmax(1) == y[200:]).mean() > 0.93
    one = ("float32", "float32")
    assert kinds == dict.fromkeys(ways, one) | {
        "int8": ("int8", "int8"),
        "int8_uint8": ("uint8", "uint8"),
    }
    sizes = [report.num_bytes for report in reports]
    assert sizes[0] > sizes[1] > sizes[2]
    assert [bool(report.layers) for report in reports] == [False] * 3 + [True] * 3


def test_layers_are_compared_with_their_float32_selves(digits: Any) -> None:
    model, x, _ = digits
    content = convert(model, quantization_for(None))
    layout = LiteFile(content).layout
    rows = layout.pack(x[:4])
    kept = every_tensor(content, layout, rows)
    wanted = np.asarray(model(x[:4])).ravel()
    assert any(
        value.size == wanted.size and np.allclose(value.ravel(), wanted, atol=1e-5)
        for value in kept.values()
    )
    assert all(
        item.decibels == MOST_DECIBELS for item in layer_noise(content, content, layout, rows)
    )


def outlier() -> Any:
    """A network of which int8 keeps nothing: one unit is 10,000 times as large as those that matter."""
    layers = backends.tf_keras().layers
    model = backends.tf_keras().Sequential(
        [layers.Input((2,)), layers.Dense(3), layers.Dense(2, name="scores")]
    )
    model.set_weights(
        [
            np.array([[1, 0, 1e4], [0, 1, 1e4]]), np.zeros(3),
            np.array([[1, 0], [0, 1], [0, 0]]), np.zeros(2),
        ]
    )  # fmt: skip
    return model


def test_a_file_that_says_something_else_is_not_written(tmp_path: Path) -> None:
    """It was, with exit status 0: its report told of a difference, and a script does not read reports."""
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"held-out inputs, and 90\.0% are asked for.*force=True"):
        export(outlier(), path, "int8", calibration="weights")
    assert list(tmp_path.iterdir()) == []
    with pytest.warns(UserWarning, match="Written all the same, as asked"):
        report = export_tflite(outlier(), path, "int8", calibration="weights", force=True)
    assert path.exists()
    assert report.agreement is not None
    assert report.agreement < 0.9
    assert export_tflite(outlier(), tmp_path / "half.tflite", "float16").agreement == 1.0


def test_one_bad_file_of_several_stops_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.int8\.tflite.*\nNothing was written"):
        export(outlier(), tmp_path / "model.tflite", ["float32", "int8"], calibration="weights")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_runtimes_that_are_too_old_are_refused(digits: Any, tmp_path: Path) -> None:
    """The file itself says 1.14, which reads one scale of a Dense kernel that has ten."""
    model, x, _ = digits
    options: dict[str, Any] = {"calibration": x[:40], "max_runtime": "2.16"}
    path = tmp_path / "model.tflite"
    with pytest.raises(
        ValueError, match=r"Dense kernels with a scale per output.*dense_per_tensor"
    ):
        export(model, path, "int8", **options)
    (report,) = export(model, path, "int8", dense_per_tensor=True, **options)
    assert report.description is not None
    assert report.description.runtime == "1.14"
    assert report.description.stated_runtime == "1.14.0"
    with pytest.raises(ValueError, match=r"CONV_2D 3.*newer runtime"):
        export(model, tmp_path / "b.tflite", "int8", calibration=x[:40], max_runtime="1.13")
    with pytest.raises(ValueError, match=r"Give one such as '2\.16'"):
        export(model, tmp_path / "b.tflite", max_runtime="new")


@pytest.mark.slow
def test_calibration_without_data_knows_what_inputs_look_like(digits: Any, tmp_path: Path) -> None:
    model, x, y = digits
    report = export_tflite(model, tmp_path / "model.tflite", "int8")
    file = LiteFile(report.path)
    scores = model.predict(x, verbose=0)
    right = (scores.argmax(1) == y).mean()
    assert (file(file.layout.pack(x))[0].argmax(1) == y).mean() >= right - 0.02


def test_agreement_depends_on_the_kind_of_output() -> None:
    one, other = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 2.0], [1.0, 2.0]])
    assert agreement([one], [other], ["linear"]) == 0.5
    assert agreement([one / 4], [other / 4], ["sigmoid"]) == 1.0  # 1/4 and 1/2: none above
    maps = np.zeros((1, 2, 2, 2))
    moved = maps.copy()
    moved[0, 0, 0, 1] = 1
    assert agreement([maps], [moved], ["softmax"]) == 0.75
    line = np.array([[0.0], [2.0]])  # varies by 1
    assert agreement([line], [line + 0.09], ["linear"]) == 1.0
    assert agreement([line], [line + [[0.0], [0.2]]], ["linear"]) == 0.5
    assert agreement([one, line], [one, line + 0.2], ["softmax", "linear"]) == 0.0


def test_a_quantization_of_the_users_own(tmp_path: Path) -> None:
    """Weights in float16, which the GPU likes, but under a name of one's own."""

    def halves(converter: Any) -> None:
        quantization_for("float16").configure(converter)

    mine = Quantization("halves", halves)
    report = export_tflite(branched("tf_keras"), tmp_path / "a.tflite", mine)
    assert report.quantize == "halves"
    assert report.ops["DEQUANTIZE"] >= 3  # the kernels at least
    with pytest.raises(ValueError, match="letters"):
        register_quantization(Quantization("1/2", halves))
    with pytest.raises(ValueError, match="float32, int8 or uint8"):
        register_quantization(Quantization("halves", halves, io="int4"))


def test_a_range_that_contradicts_the_network_is_told_before_the_work(tmp_path: Path) -> None:
    """It ruined int8 with exit status 0: inputs up to 1 where the network divides by 255 itself."""
    layers = backends.tf_keras().layers
    model = backends.tf_keras().Sequential(
        [
            layers.Input((4, 4, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(3, name="scores"),
        ]
    )
    with pytest.warns(UserWarning, match="255"):
        export(model, tmp_path / "a.tflite", "int8", calibration="weights", input_range=(0, 1))
    said = Metadata("small")
    (report,) = export(model, tmp_path / "b.tflite", "int8", calibration="weights", metadata=said)
    assert report.description is not None
    # What the network says is taken: one step of the input is one step of a pixel.
    assert report.description.inputs[0].scale == pytest.approx(1.0, rel=0.01)


def test_the_worst_layers_stay_in_float_where_that_is_asked(digits: Any, tmp_path: Path) -> None:
    model, x, _ = digits
    given: dict[str, Any] = {"calibration": x[:64], "adjust": ()}
    plain = export_tflite(model, tmp_path / "a.tflite", "int8_float32", **given)
    mixed = export_tflite(model, tmp_path / "b.tflite", "int8_float32", float_layers=2, **given)
    worst = {item.layer for item in plain.layers[:2]}
    interpreter = backends.interpreter(tmp_path / "b.tflite")
    interpreter.allocate_tensors()
    kinds = {item["name"]: item["dtype"] for item in interpreter.get_tensor_details()}
    assert {kinds[name] for name in worst} == {np.float32}
    assert np.int8 in kinds.values()
    assert mixed.decibels is not None
    assert mixed.decibels == pytest.approx(plain.decibels + mixed.adjusted["float layers"])
    assert plain.num_bytes < mixed.num_bytes
    assert mixed.description is not None
    assert mixed.description.inputs[0].dtype == "float32"
    with pytest.raises(ValueError, match="float_layers is for quantize='int8_float32'"):
        export_tflite(model, tmp_path / "c.tflite", "int8", float_layers=1)


def test_the_command_names_classes_and_leaves_layers_in_float(
    digits: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metadata, softmax and float layers were for Python alone."""
    model, x, _ = digits
    model.save(tmp_path / "digits.h5")
    np.save(tmp_path / "x.npy", x[:64])
    names = [f"the {k}" for k in range(10)]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    out = tmp_path / "digits.tflite"
    flags = ["--quantize=int8_float32", f"--labels={tmp_path / 'names.txt'}", "--float_layers=1"]
    flags += [f"--calibration={tmp_path / 'x.npy'}", "--json"]
    assert cli.run(["export", str(tmp_path / "digits.h5"), str(out), *flags]) == 0
    (found,) = json.loads(capsys.readouterr().out)["found"]
    assert "float layers" in found["adjusted"]
    with zipfile.ZipFile(out) as archive:
        assert archive.read("labels.txt").decode().split("\n")[:10] == names
    # Its outputs are probabilities already.
    again = ["export", str(tmp_path / "digits.h5"), str(tmp_path / "b.tflite"), "--softmax"]
    assert cli.run(again) == 1
    assert "softmax=True is for logits" in capsys.readouterr().err
