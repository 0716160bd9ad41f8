"""What cannot be read is refused before any work, with every reason and the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import network

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import ModelError, load, read

BOTH = pytest.mark.parametrize("keras", backends.NAMES)


@BOTH
def test_a_subclassed_model_that_was_never_called(keras: str) -> None:
    module = backends.module(keras)

    class Own(module.Model):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.dense = module.layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    with pytest.raises(
        ModelError, match=r"'own'.*subclassed.*call it once.*Model\(inputs, outputs\)"
    ):
        read(Own())


@BOTH
def test_a_model_that_is_not_built(keras: str) -> None:
    module = backends.module(keras)
    with pytest.raises(ModelError, match=r"not built.*model\.build"):
        read(module.Sequential([module.layers.Dense(2)]))


@BOTH
def test_a_model_without_layers(keras: str) -> None:
    module = backends.module(keras)
    inputs = module.Input((3,))
    with pytest.raises(ModelError, match="holds no layer"):
        read(module.Model(inputs, inputs))


@BOTH
def test_all_problems_are_told_together(keras: str) -> None:
    module = backends.module(keras)

    class Secretive(module.layers.Layer):
        def __init__(self, thing: Any, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.thing = thing

        def call(self, inputs: Any) -> Any:
            if hasattr(inputs, "_keras_history"):
                raise TypeError("only on values")
            return inputs

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    model = module.Sequential(
        [
            module.Input((4, 4, 2)),
            module.layers.GlobalAveragePooling2D(data_format="channels_first", name="pool"),
            Secretive((k for k in range(3)), name="secret"),
            module.layers.Dense(2, name="nan"),
            module.layers.Dense(2, name="inf"),
        ]
    )
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        kernel, bias = model.get_layer(name).get_weights()
        kernel[0, 0] = value
        model.get_layer(name).set_weights([kernel, bias])
    with pytest.raises(ModelError, match="4 problems") as caught:
        read(model)
    text = "\n".join(caught.value.problems)
    for expected in ("'pool' (GlobalAveragePooling2D) is channels-first", "'secret' (Secretive)"):
        assert expected in text
    assert "'kernel' of layer 'nan'" in text
    assert "'kernel' of layer 'inf'" in text


@pytest.mark.parametrize("thing", [None, 3, "layer"])
def test_what_is_no_model(thing: Any) -> None:
    if thing == "layer":
        thing = backends.tf_keras().layers.Dense(2)
    with pytest.raises(ModelError, match=r"not a model|no Keras model"):
        read(thing)


def test_paths_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        load(tmp_path / "nowhere.h5")
    with pytest.raises(ModelError, match="folder is empty"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("not a model")
    with pytest.raises(ModelError, match=r"no saved_model\.pb"):
        load(tmp_path)
    with pytest.raises(ModelError, match=r"neither a SavedModel directory nor"):
        load(tmp_path / "notes.txt")


@BOTH
def test_an_exported_saved_model(keras: str, tmp_path: Path) -> None:
    path = tmp_path / "exported"
    network("mlp", keras).export(str(path))
    with pytest.raises(ModelError, match=r"without Keras metadata.*model\.save"):
        load(path)


def test_keras_3_on_another_backend() -> None:
    """A backend is chosen once for a process, so this takes another one."""
    code = "from keras_robust_prune import backends; backends.keras()"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode != 0
    assert "its backend is 'numpy'" in found.stderr
    assert "KERAS_BACKEND=tensorflow" in found.stderr


def test_a_file_of_weights_only(tmp_path: Path) -> None:
    network("mlp", "tf_keras").save_weights(tmp_path / "weights.h5")
    with pytest.raises(ModelError, match="weights only"):
        load(tmp_path / "weights.h5")


def test_an_archive_that_is_no_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", np.zeros(3))
    with pytest.raises(ModelError, match=r"no \.keras file"):
        load(tmp_path / "arrays.npz")


@BOTH
def test_a_damaged_file(keras: str, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    network("mlp", keras).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(path)
