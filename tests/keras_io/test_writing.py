"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import network, outputs_of, random_inputs

from keras_robust_prune.keras_io import outputs, writing
from keras_robust_prune.keras_io.files import load

OLD = f"<html>{outputs.PAGE_MARK.decode()}old</html>"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("reason", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("is_folder", [False, True])
def test_what_was_there_stays_if_the_writing_fails(
    tmp_path: Path, reason: type[BaseException], is_folder: bool
) -> None:
    place = tmp_path / "result.html"
    place.write_text(OLD)
    kind = outputs.PAGE
    with pytest.raises(reason), writing.replacing(place, kind, overwrite=True) as draft:  # noqa: PT012
        if is_folder:
            draft.mkdir()
            (draft / "half").write_text("new")
        else:
            draft.write_text("half of the n")
        raise reason
    assert place.read_text() == OLD
    assert names(tmp_path) == {"result.html"}


def test_a_folder_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "model"
    writing.save(network("mlp"), place)
    writing.save(network("conv_bn"), place, overwrite=True)
    assert load(place).name == network("conv_bn").name
    assert names(tmp_path) == {"model"}


def test_nothing_is_replaced_unasked_and_all_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(OLD)
    (tmp_path / "b").mkdir()
    places = [outputs.Output("a", tmp_path / "a.html", outputs.PAGE)]
    places += [outputs.Output("b", tmp_path / "b", outputs.SAVED_MODEL)]
    places += [outputs.Output("c", tmp_path / "c.tflite", outputs.LITE)]
    with pytest.raises(FileExistsError, match=r"a\.html: there already") as caught:
        outputs.check(places)
    assert "b' is no SavedModel" in str(caught.value)
    with pytest.raises(FileExistsError), writing.replacing(*places[0][1:3]) as draft:
        draft.write_text("theirs")
    assert (tmp_path / "a.html").read_text() == OLD


@pytest.mark.parametrize(
    ("keras", "name"),
    [("tf_keras", "m"), ("tf_keras", "m.keras"), ("tf_keras", "m.h5"), ("keras", "m.keras")]
    + [("keras", "m.h5")],
)
def test_what_is_saved_can_be_loaded(tmp_path: Path, keras: str, name: str) -> None:
    model = network("mlp", keras)
    writing.save(model, tmp_path / "deep" / name)
    inputs = random_inputs(model)
    for got, wanted in zip(
        outputs_of(load(tmp_path / "deep" / name), inputs), outputs_of(model, inputs), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


def test_keras_3_writes_no_saved_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"small\.keras"):
        writing.save(network("mlp", "keras"), tmp_path / "small")
    assert names(tmp_path) == set()
