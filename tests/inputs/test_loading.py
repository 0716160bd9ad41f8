"""Real inputs from wherever they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import keras_robust_prune as krp
from keras_robust_prune.inputs import InputSpec, with_examples
from keras_robust_prune.inputs.loading import load_labelled, load_range
from keras_robust_prune.inputs.pictures import load_pictures
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.synthesis.kinds import Synthesis

IMAGE = InputSpec((4, 6, 3), lower=0, upper=255, name="image")


def held(source: Any, *specs: InputSpec) -> list[np.ndarray]:
    found = [spec.examples for spec in with_examples(specs or (IMAGE,), source)]
    assert all(array is not None and array.dtype == np.float32 for array in found)
    return found  # type: ignore[return-value]


def test_arrays_mappings_and_files(tmp_path: Path) -> None:
    x = np.arange(2 * 72).reshape(2, 4, 6, 3).astype("uint8")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, y=[0, 1])
    np.savez(tmp_path / "named.npz", image=x)
    for source in (
        x,
        [x],
        {"image": x},
        *(tmp_path / name for name in ("x.npy", "x.npz", "named.npz")),
    ):
        np.testing.assert_array_equal(held(source)[0], x)
    grey = InputSpec((4, 6, 1), name="grey")
    assert held(np.zeros((5, 4, 6)), grey)[0].shape == (5, 4, 6, 1)


def test_datasets() -> None:
    x = np.arange(5 * 72).reshape(5, 4, 6, 3) % 256
    labelled = tf.data.Dataset.from_tensor_slices((x, np.zeros(5)))
    named = tf.data.Dataset.from_tensor_slices({"image": x})
    for dataset in (labelled, labelled.batch(2), named.batch(5)):
        np.testing.assert_array_equal(held(dataset)[0], x)
    assert len(held(labelled.batch(2).repeat())[0]) == 12_000


def test_several_inputs_from_one_dataset() -> None:
    specs = InputSpec((2,), name="a"), InputSpec((1,), name="b")
    values = {"b": np.full((3, 1), 0.5), "a": np.zeros((3, 2))}
    a, b = held(tf.data.Dataset.from_tensor_slices((values, np.zeros(3))).batch(2), *specs)
    assert (a.shape, b.shape) == ((3, 2), (3, 1))


def test_everything_wrong_is_told_at_once() -> None:
    specs = InputSpec((2,), name="a"), InputSpec((1,), name="b"), InputSpec((2,), 0, 4, 5, name="c")
    given = {"a": np.zeros((3, 4)), "b": np.full((3, 1), np.nan), "c": np.full((3, 2), 5)}
    with pytest.raises(ValueError, match=r"'a' takes \(2,\).*'b'.*NaN.*'c' takes tokens below 5"):
        with_examples(specs, given)
    with pytest.raises(ValueError, match=r"\[3, 2\] examples"):
        with_examples(specs[:2], {"a": np.zeros((3, 2)), "b": np.zeros((2, 1))})
    with pytest.raises(ValueError, match=r"nothing lies.*'weights'"):
        with_examples([IMAGE], "weight")


def pictures(folder: Path) -> Any:
    """A red landscape, the same stored on its side, a grey one, one broken and one that is text."""
    image = pytest.importorskip("PIL.Image")
    wide = np.zeros((8, 12, 3), np.uint8)
    wide[:, :6] = (255, 0, 0)
    image.fromarray(wide).save(folder / "a.png")
    turned = image.fromarray(np.ascontiguousarray(np.rot90(wide)))
    exif = turned.getexif()
    exif[0x0112] = 6  # shown turned by a quarter, clockwise
    turned.save(folder / "b.jpg", quality=100, subsampling=0, exif=exif)
    image.fromarray(np.full((8, 8), 255, np.uint8)).save(folder / "c.png")
    (folder / "d.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "e.txt").write_text("notes")
    return image


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.warns(UserWarning, match=r"1 of 4 pictures.*left out: d.jpg"):
        (x,) = held(str(tmp_path))
    assert x.shape == (3, 4, 6, 3)
    np.testing.assert_array_equal(x[0, :, 0], [[255, 0, 0]] * 4)  # left red, right black
    np.testing.assert_array_equal(x[0, :, -1], [[0, 0, 0]] * 4)
    np.testing.assert_allclose(x[1], x[0], atol=12)  # upright again, as JPEG keeps it
    np.testing.assert_array_equal(
        x[2], np.full((4, 6, 3), 255)
    )  # grey made coloured, covered, cropped


def test_pictures_take_the_range_and_the_layout_of_the_network(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "d.jpg").unlink()
    first = InputSpec((3, 4, 6), lower=-1, upper=1, name="image")
    (x,) = held(tmp_path, first)
    np.testing.assert_array_equal(x[0, :, 0, 0], [1, -1, -1])
    with pytest.raises(ValueError, match="no picture"):
        with_examples([InputSpec((7,), name="row")], tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="holds no picture"):
        with_examples([IMAGE], empty)


def test_prune_takes_a_folder(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "d.jpg").unlink()
    stack = [
        tf_keras.Input((4, 6, 3)),
        tf_keras.layers.Rescaling(1 / 255),
        tf_keras.layers.Flatten(),
    ]
    model = tf_keras.Sequential([*stack, tf_keras.layers.Dense(8), tf_keras.layers.Dense(2)])
    method = Robust(repair="reconstruct", synthesis=Synthesis(num_inputs=64))
    result = krp.prune(model, method=method, calibration=str(tmp_path), verbose=0)
    assert result.tier == "T2: 3 unlabelled inputs"
    assert result.inputs[0].ends == "[0, 255]"


def test_labelled_files(tmp_path: Path) -> None:
    x, y = np.zeros((2, 3)), np.array([0, 1])
    for names in (("x", "y"), ("x_test", "y_test")):
        np.savez(
            tmp_path / "data.npz", **dict(zip(names, (x, y), strict=True)), x_train=x, y_train=y
        )
        found = load_labelled(tmp_path / "data.npz")
        np.testing.assert_array_equal(found[0], x)
        np.testing.assert_array_equal(found[1], y)
    np.savez(tmp_path / "none.npz", x=x)
    with pytest.raises(ValueError, match="no arrays x and y"):
        load_labelled(tmp_path / "none.npz")


def test_ranges_by_input_from_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "range.npz")
    np.savez(path, **{"a.lower": 0, "a.upper": 2, "b.lower": [0, 1], "b.upper": [1, 3]})
    found = load_range(path)
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["b"][1], [1, 3])


def test_a_generator_is_read_as_far_as_needed() -> None:
    spec = InputSpec((2000, 2000), name="map")  # 33 of them fill half a gigabyte
    read: list[int] = []

    def batches() -> Any:
        for number in range(100):
            read.append(number)
            yield np.full((8, 2000, 2000), number / 200, np.float16), np.zeros(8)

    found = held(batches(), spec)[0]
    assert found.shape == (33, 2000, 2000)
    assert found[:, 0, 0].tolist() == [np.float32(np.float16(k // 8 / 200)) for k in range(33)]
    assert read == [0, 1, 2, 3, 4]


def test_of_many_examples_some_are_taken_evenly() -> None:
    spec = InputSpec((2,), lower=0, upper=1, name="x")
    x = np.linspace(0, 1, 26_000).reshape(-1, 1).repeat(2, 1)
    found = held(x, spec)[0]
    assert found.shape == (12_000, 2)
    assert found[0, 0] == 0
    assert found[-1, 0] == 1
    assert np.diff(found[:, 0]).max() < 3 / 26_000 + 1e-6


def test_a_folder_sorted_by_class_gives_pictures_of_every_class(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for number in range(10):
        image.new("L", (6, 4), 25 * number).save(tmp_path / f"{number}.png")
    spec = InputSpec((4, 6, 1), lower=0, upper=1)
    found = load_pictures(tmp_path, spec, 4)
    assert (found[:, 0, 0, 0] * 255 / 25).round().tolist() == [0, 3, 6, 9]
    (tmp_path / "3.png").write_bytes(b"broken")
    with pytest.warns(UserWarning, match=r"3\.png"):
        found = load_pictures(tmp_path, spec, 4)  # the first of the others takes its place
    assert (found[:, 0, 0, 0] * 255 / 25).round().tolist() == [0, 6, 9, 1]
