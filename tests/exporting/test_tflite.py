"""Exported files compute what the model computes, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_robust_prune import backends, demo
from keras_robust_prune.evaluation.evaluate import evaluate
from keras_robust_prune.evaluation.layout import Layout
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.exporting.source import range_points
from keras_robust_prune.exporting.tflite import export_tflite, measure_latency
from keras_robust_prune.keras_io.reading import read

BACKENDS = ["tf_keras", "keras"]


def branched(keras: str) -> Any:
    """Two inputs and two outputs, whose names sort otherwise than they stand."""
    module = backends.module(keras)
    layers = module.layers
    module.utils.set_random_seed(0)
    image, extra = module.Input((8, 8, 1), name="zebra"), module.Input((3,), name="ant")
    wide = layers.Conv2D(4, 3, activation="relu")(image)
    both = layers.Concatenate()([layers.Flatten()(layers.MaxPooling2D()(wide)), extra])
    classes = layers.Dense(5, "softmax", name="yes")(both)
    return module.Model([image, extra], [classes, layers.Dense(1, name="amount")(both)])


@pytest.mark.parametrize("keras", BACKENDS)
def test_outputs_in_a_dictionary_keep_their_names(keras: str, tmp_path: Path) -> None:
    """Whose keys stand in another order than they sort: in the file, and where labels are given by name."""
    module = backends.module(keras)
    x = module.Input((3,))
    layers = {"score": "b", "other": "c", "third": "a"}
    ends = {name: module.layers.Dense(2, name=layer) for name, layer in layers.items()}
    model = module.Model(x, {name: end(x) for name, end in ends.items()})
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    wanted = {name: np.asarray(value) for name, value in model(rows).items()}

    report = export_tflite(model, tmp_path / "model.tflite")
    assert report.max_difference is not None
    assert report.max_difference <= 1e-6
    file = LiteFile(report.path)
    called = layers if keras == "tf_keras" else {name: name for name in layers}
    found = dict(zip(file.output_names, file(rows), strict=True))
    for name, value in wanted.items():
        np.testing.assert_allclose(found[called[name]], value, atol=1e-6)
    for name, value in wanted.items():
        assert evaluate(model, rows, {name: value.argmax(-1)}).accuracy == 1.0
        assert evaluate(model, rows, {name: value.argmin(-1)}).accuracy == 0.0
        assert evaluate(report.path, rows, {called[name]: value.argmax(-1)}).accuracy == 1.0


@pytest.mark.parametrize("keras", BACKENDS)
def test_a_sequential_that_was_never_called(keras: str, tmp_path: Path) -> None:
    module = backends.module(keras)
    model = module.Sequential([module.layers.Dense(3)])
    model.build((None, 4))
    assert export_tflite(model, tmp_path / "model.tflite").ops == {"FULLY_CONNECTED": 1}


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_inputs_in_a_dictionary_that_must_come_as_one(quantize: str | None, tmp_path: Path) -> None:
    """A composite inside takes the dictionary, which a list does not replace; its keys do not stand as they sort."""
    keras = backends.module("keras")
    keras.utils.set_random_seed(0)
    inner = {name: keras.Input((width,), name=name) for name, width in (("wide", 4), ("deep", 4))}
    y = keras.layers.Dense(6, "relu")(inner["deep"])
    inner_model = keras.Model(inner, keras.layers.Concatenate()([inner["wide"], y]))
    given = {name: keras.Input((4,), name=name) for name in inner}
    model = keras.Model(given, keras.layers.Dense(3)(inner_model(given)))
    report = export_tflite(model, tmp_path / "model.tflite", quantize)
    assert report.max_difference is not None
    assert report.max_difference <= (0.2 if quantize else 1e-6)
    assert set(LiteFile(report.path).layout.names) == {"wide", "deep"}


@pytest.mark.parametrize("keras", BACKENDS)
@pytest.mark.parametrize(
    ("quantize", "tolerance"), [(None, 1e-5), ("float16", 5e-3), ("dynamic", 0.05), ("int8", 0.2)]
)
def test_files_agree_with_the_model(
    keras: str, quantize: str | None, tolerance: float, tmp_path: Path
) -> None:
    model = branched(keras)
    report = export_tflite(model, tmp_path / "model.tflite", quantize)
    assert report.max_difference is not None
    assert report.max_difference <= tolerance
    assert report.num_bytes == (tmp_path / "model.tflite").stat().st_size
    again = measure_latency(
        report.path, seconds=0.0
    )  # in the same unit: a busy machine is not 50 times slower
    assert again / 50 < report.latency_ms < again * 50
    assert report.ops["CONV_2D"] == 1
    assert report.ops["FULLY_CONNECTED"] == 2
    rng = np.random.default_rng(1)
    x = [rng.uniform(size=(5, 8, 8, 1)).astype("f"), rng.uniform(size=(5, 3)).astype("f")]
    file = LiteFile(report.path, model.input_names if keras == "tf_keras" else ("zebra", "ant"))
    names = list(file.output_names)
    found = file(file.layout.pack(x), batch_size=2)
    wanted = [np.asarray(value) for value in model(x)]
    # tf_keras names outputs after their layers, Keras 3 numbers them.
    order = ["yes", "amount"] if keras == "tf_keras" else ["output_0", "output_1"]
    for want, name in zip(wanted, order, strict=True):
        have = found[names.index(name)]
        np.testing.assert_allclose(have, want, atol=2 * tolerance * np.abs(want).max())


def test_reports_print_and_convert(tmp_path: Path) -> None:
    report = export_tflite(branched("tf_keras"), tmp_path / "a.tflite", "float16")
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["num_bytes"] == report.num_bytes
    assert plain["quantize"] == "float16"
    text = str(report)
    assert f"{report.num_bytes:,}" in text
    assert "CONV_2D 1" in text
    assert "64 points of the input range" in text


def test_int8_files_take_int8_and_serve_real_inputs(tmp_path: Path) -> None:
    model, x, y = demo.load()
    sizes = {}
    for quantize, calibration in ((None, None), ("int8", x[100:200])):
        path = tmp_path / f"{quantize}.tflite"
        export_tflite(model, path, quantize, calibration)
        file = LiteFile(path)
        right = file(file.layout.pack(x[:100]))[0].argmax(1) == y[:100]
        assert right.mean() > 0.9
        sizes[quantize] = path.stat().st_size
    interpreter = backends.interpreter(tmp_path / "int8.tflite")
    assert interpreter.get_input_details()[0]["dtype"] == np.int8
    assert interpreter.get_output_details()[0]["dtype"] == np.int8
    assert sizes["int8"] < 0.5 * sizes[None]


def test_the_path_of_a_model_serves_as_well(tmp_path: Path) -> None:
    model = branched("tf_keras")
    model.save(tmp_path / "model.h5")
    report = export_tflite(tmp_path / "model.h5", tmp_path / "model.tflite", verify=False)
    assert report.max_difference is None
    assert "difference" not in str(report)


@pytest.mark.parametrize("keras", BACKENDS)
def test_an_operator_that_is_no_builtin_one_is_named(keras: str, tmp_path: Path) -> None:
    module = backends.module(keras)
    tf = backends.tensorflow()
    given = module.Input((2, 2))
    inverse = module.layers.Lambda(tf.linalg.inv, output_shape=(2, 2), name="inverse")(given)
    model = module.Model(given, module.layers.Dense(2)(module.layers.Flatten()(inverse)))
    with pytest.raises(ValueError, match=r"\['MatrixInverse'\] have no builtin counterpart"):
        export_tflite(model, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_text("mine")
    model = branched("tf_keras")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="never replaced"):
            export_tflite(model, path, overwrite=overwrite)
        assert path.read_text() == "mine"
    path.unlink()
    export_tflite(model, path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="allow to overwrite"):
        export_tflite(model, path)
    assert path.read_bytes() == before
    report = export_tflite(model, path, overwrite=True)
    assert path.stat().st_size == report.num_bytes
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"quantize": "int4"}, "one of"),
        ({"calibration": np.zeros((3, 8, 8, 1))}, "quantize='int8'"),
        (
            {"quantize": "int8", "calibration": np.zeros((0, 8, 8, 1))},
            "'input_1' is given no input",
        ),
        ({"input_range": (1.0, 0.0)}, "range is empty: lower is 1, upper 0"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], fix: str, tmp_path: Path) -> None:
    model, _, _ = demo.load()
    with pytest.raises(ValueError, match=fix):
        export_tflite(model, tmp_path / "model.tflite", **change)
    assert list(tmp_path.iterdir()) == []


def test_points_of_the_range_reach_its_ends() -> None:
    layout = Layout(("x",), ((3,),))
    lower, upper = np.array([0.0, -1.0, 5.0]), np.array([1.0, 1.0, 5.0])
    points = range_points(layout, (lower, upper), 40)
    assert points.shape == (40, 3)
    np.testing.assert_array_equal(points[:3], [lower, upper, (lower + upper) / 2])
    assert (points >= lower).all()
    assert (points <= upper).all()
    assert (points[1::2] == lower).mean() > (points[::2] == lower).mean()


def test_latency_counts_the_work() -> None:
    module = backends.tf_keras()
    tf = backends.tensorflow()
    contents = []
    for width in (8, 1024):
        model = module.Sequential([module.Input((256,)), module.layers.Dense(width, "relu")])
        model.add(module.layers.Dense(width))
        contents.append(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    small, large = (measure_latency(content) for content in contents)
    assert 0 < small < large
    assert read(model).num_params == 257 * 1024 + 1025 * 1024


@pytest.mark.parametrize("content", [b"no file at all", b""])
def test_bytes_that_are_no_file_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"no \.tflite file that the interpreter can read"):
        LiteFile(content)
