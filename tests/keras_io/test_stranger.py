"""A model file from a stranger runs no code: through whatever door, in whatever format, under whatever name."""

from __future__ import annotations

import os
import socket
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import hostile_files
import numpy as np
import pytest
from hostile_files import FORMATS, LAMBDAS, layer_of, spliced, written
from networks import network, outputs_of, random_inputs

import keras_robust_prune as krp
from keras_robust_prune import ModelError, backends, cli
from keras_robust_prune.keras_io.files import load

HDF5_AND_ZIP = [kind for kind in FORMATS if kind != "tf_keras SavedModel"]


@pytest.mark.parametrize("make", LAMBDAS.values(), ids=LAMBDAS)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_lambda_is_refused_by_name_and_runs_only_if_trusted(
    kind: str, make: Any, tmp_path: Path
) -> None:
    path, mark = written(kind, make, tmp_path)
    with pytest.raises(ModelError, match=r"'evil' \(Lambda\).*trust=True"):
        load(path)
    assert not mark.exists()
    if make is LAMBDAS["plain"]:
        model = load(path, trust=True)
        model(np.zeros((1, 4), np.float32))
        assert mark.exists()


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return written("tf_keras .h5", LAMBDAS["plain"], tmp_path_factory.mktemp("evil"))


@pytest.mark.parametrize("name", ["m.keras", "m.hdf5", "m", "m.tflite.h5"])
def test_the_name_of_a_file_does_not_help_it(
    evil: tuple[Path, Path], name: str, tmp_path: Path
) -> None:
    path, mark = evil
    (tmp_path / name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="'evil'"):
        load(tmp_path / name)
    assert not mark.exists()


DATA = (np.zeros((2, 4), np.float32), [0, 1])
DOORS = {
    "load": krp.load,
    "prune": krp.prune,
    "Pruner": krp.Pruner,
    "inspect": krp.inspect,
    "evaluate": lambda path: krp.evaluate(path, *DATA),
    "reference": lambda path: krp.evaluate(
        hostile_files.small("keras", lambda x: x), *DATA, reference=path
    ),
    "export_tflite": lambda path: krp.export_tflite(path, path.with_name("x.tflite")),
    "wrap": krp.wrap,
    "strip": krp.strip,
    "summary": krp.summary,
    "certify": lambda path: krp.certify(path, path, DATA[0], eps=0.1),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_every_door_is_guarded(evil: tuple[Path, Path], door: Any) -> None:
    path, mark = evil
    with pytest.raises(ModelError, match="'evil'"):
        door(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "words",
    [["inspect", "EVIL"], ["prune", "EVIL", "out"], ["evaluate", "EVIL", "--data=d.npz"]]
    + [["evaluate", "good.keras", "--data=d.npz", "--reference=EVIL"]],
    ids=" ".join,
)
def test_every_command_is_guarded(
    words: list[str],
    evil: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, mark = evil
    monkeypatch.chdir(tmp_path)
    hostile_files.small("keras", lambda x: x).save("good.keras")
    np.savez("d.npz", x=DATA[0], y=DATA[1])
    assert cli.run([word.replace("EVIL", str(path)) for word in words]) == 1
    message = capsys.readouterr().err
    assert "'evil'" in message
    assert "--trust" in message
    assert not mark.exists()


def foreign_function(config: Any) -> Any:
    layer_of(config, "first")["config"]["activation"] = {
        "module": "os",
        "class_name": "function",
        "config": "mkfifo",
        "registered_name": "mkfifo",
    }
    return config


def keras_utility(config: Any) -> Any:
    layer_of(config, "first")["config"]["activation"] = {
        "module": "keras.utils",
        "class_name": "function",
        "config": "get_file",
        "registered_name": "get_file",
    }
    return config


def foreign_class(config: Any) -> Any:
    layer = layer_of(config, "first")
    layer.update(module="subprocess", class_name="Popen", registered_name="Popen")
    return config


def pickled_initializer(config: Any) -> Any:
    layer_of(config, "first")["config"]["kernel_initializer"] = {
        "class_name": "__lambda__",
        "config": {"value": ["4wAAAA==", None, None]},
    }
    return config


def renamed_lambda(config: Any) -> Any:
    layer = layer_of(config, "first")
    layer.update(class_name="Dense", registered_name=None)
    layer["config"]["kernel_constraint"] = {"class_name": "Lambda", "config": {"function": "f"}}
    return config


def another_saved_model(config: Any) -> Any:
    layer_of(config, "first").update(class_name="TFSMLayer", registered_name=None)
    return config


def file_of_words(config: Any) -> Any:
    layer = layer_of(config, "first")
    layer.update(class_name="StringLookup", module="keras.layers", registered_name=None)
    layer["config"] = {"name": "first", "vocabulary": "/etc/passwd"}
    return config


CRAFTED = {
    f"{kind} {change.__name__}": (kind, change)
    for kind in HDF5_AND_ZIP
    for change in (foreign_function, keras_utility, foreign_class, pickled_initializer)
    + (renamed_lambda, another_saved_model, file_of_words)
}


@pytest.mark.parametrize(("kind", "change"), CRAFTED.values(), ids=CRAFTED)
def test_a_crafted_configuration_is_refused(kind: str, change: Any, tmp_path: Path) -> None:
    keras, name = FORMATS[kind]
    path = tmp_path / name
    hostile_files.small(keras, lambda x: x).save(path)
    load(path)
    with pytest.raises(ModelError, match="trust=True"):
        load(spliced(path, change))


@pytest.mark.parametrize("symbol", ["io.write_file", "io.gfile.rmtree", "load_op_library"])
def test_a_function_of_tensorflow_that_does_more_than_compute(symbol: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "m.h5", tmp_path / "mark"
    model = hostile_files.small("tf_keras", lambda x: x * 2.0)
    model.save(path)
    load(path)

    def change(config: Any) -> Any:
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "TFOpLambda":
                layer["config"]["function"] = symbol
                layer["inbound_nodes"] = [["_CONSTANT_VALUE", -1, str(mark), {"contents": "x"}]]
        return config

    with pytest.raises(ModelError, match=f"'{symbol}'"):
        load(spliced(path, change))
    assert not mark.exists()


def test_a_saved_model_whose_computation_writes_files(tmp_path: Path) -> None:
    """tf_keras revives a layer that it does not know from the operations that were saved with it."""
    keras, tf = backends.tf_keras(), backends.tensorflow()

    class Writer(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            tf.io.write_file(str(tmp_path / "mark"), "x")
            return inputs

    hostile_files.small("tf_keras", Writer(name="writer")).save(tmp_path / "m", save_format="tf")
    (tmp_path / "mark").unlink(missing_ok=True)
    with pytest.raises(ModelError, match="WriteFile"):
        load(tmp_path / "m")


@pytest.mark.parametrize("keras", backends.NAMES)
def test_the_users_own_classes_are_fine(keras: str, tmp_path: Path) -> None:
    module = backends.module(keras)

    class Own(module.layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs * 2.0

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    model = hostile_files.small(keras, Own(name="own"))
    for name in ("m.h5", "m.keras"):
        model.save(tmp_path / name)
        with pytest.raises(ModelError, match=r"'own' \(.*Own\).*custom_objects"):
            load(tmp_path / name)
        load(tmp_path / name, {"Own": Own})
        with module.utils.custom_object_scope({"Own": Own}):
            load(tmp_path / name)


@pytest.mark.parametrize("kind", HDF5_AND_ZIP)
def test_a_file_under_another_name_is_what_it_holds(kind: str, tmp_path: Path) -> None:
    keras, name = FORMATS[kind]
    model = network("conv_bn", keras)
    model.save(tmp_path / name)
    other = tmp_path / f"other{'.h5' if name.endswith('.keras') else '.keras'}"
    (tmp_path / name).rename(other)
    inputs = random_inputs(model)
    for got, wanted in zip(outputs_of(load(other), inputs), outputs_of(model, inputs), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_file_that_is_two_formats_at_once(tmp_path: Path) -> None:
    """HDF5 begins with its signature, an archive ends with its directory."""
    network("mlp", "tf_keras").save(tmp_path / "m.h5")
    network("mlp", "tf_keras").save(tmp_path / "m.keras")
    both = tmp_path / "both.keras"
    both.write_bytes((tmp_path / "m.h5").read_bytes() + (tmp_path / "m.keras").read_bytes())
    with pytest.raises(ModelError, match="at once"):
        load(both)


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.keras"))
    (tmp_path / "link.h5").symlink_to(tmp_path / "pipe.h5")
    for path in (
        tmp_path / "pipe.h5",
        tmp_path / "link.h5",
        tmp_path / "socket.keras",
        "/dev/zero",
    ):
        with pytest.raises(ModelError, match=r"pipe|socket|device"):
            load(path)
    network("mlp", "tf_keras").save(tmp_path / "m", save_format="tf")
    (tmp_path / "m" / "keras_metadata.pb").unlink()
    os.mkfifo(tmp_path / "m" / "keras_metadata.pb")
    with pytest.raises(ModelError, match="no file"):
        load(tmp_path / "m")


def test_an_archive_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.5.0"}')
        with archive.open("config.json", "w", force_zip64=True) as config:
            for _ in range(256):
                config.write(b" " * (1 << 20))
    begin = time.process_time()
    with pytest.raises(ModelError, match="unpack to 268,"):
        load(tmp_path / "m.keras")
    assert time.process_time() - begin < 5


def test_arrays_that_claim_to_be_larger_than_they_are(tmp_path: Path) -> None:
    network("mlp", "tf_keras").save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.create_dataset("more", (1 << 18, 1 << 18), "f4", chunks=(1 << 10, 1 << 10))
    with pytest.raises(ModelError, match="unpack to"):
        load(tmp_path / "m.h5")


def test_arrays_that_lie_elsewhere(tmp_path: Path) -> None:
    network("mlp", "tf_keras").save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file["linked"] = h5py.ExternalLink("/etc/passwd", "x")
        file.create_dataset("outside", (4,), "u1", external=[("/etc/passwd", 0, 4)])
    with pytest.raises(ModelError, match="2 problems") as caught:
        load(tmp_path / "m.h5")
    assert "'linked'" in str(caught.value)
    assert "'outside'" in str(caught.value)


@pytest.mark.parametrize("kind", HDF5_AND_ZIP)
def test_a_configuration_that_asks_for_absurd_shapes(kind: str, tmp_path: Path) -> None:
    keras, name = FORMATS[kind]
    path = tmp_path / name
    hostile_files.small(keras, lambda x: x).save(path)

    def change(config: Any) -> Any:
        layer_of(config, "first")["config"]["units"] = 1 << 26
        layer_of(config, "first").pop("build_config", None)
        return config

    with pytest.raises(ModelError, match="more weights than"):
        load(spliced(path, change))


def test_bytes_on_which_hdf5_does_not_come_to_an_end(tmp_path: Path) -> None:
    """The heap that holds the configuration's text says that its next object has no length."""
    network("mlp", "tf_keras").save(tmp_path / "m.h5")
    content = bytearray((tmp_path / "m.h5").read_bytes())
    heap = content.index(b"GCOL")
    # The objects of a heap begin 16 bytes behind its signature; the size of the first is at 8 of them.
    content[heap + 16 : heap + 18] = b"\x63\x00"
    content[heap + 24 : heap + 32] = b"\xf0" + b"\xff" * 7
    (tmp_path / "m.h5").write_bytes(bytes(content))
    with pytest.raises(ModelError, match="damaged"):
        load(tmp_path / "m.h5")
