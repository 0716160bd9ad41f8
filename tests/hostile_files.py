"""Model files with a payload: what a stranger might send. The payload leaves a file behind, so that it can be seen."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from keras_robust_prune import backends

FORMATS = {
    "tf_keras .h5": ("tf_keras", "m.h5"),
    "tf_keras .keras": ("tf_keras", "m.keras"),
    "tf_keras SavedModel": ("tf_keras", "m"),
    "keras .h5": ("keras", "m.h5"),
    "keras .keras": ("keras", "m.keras"),
}
Change = Callable[[Any], Any]


def payload(mark: Path) -> Any:
    """A function that hands its argument on and leaves `mark` behind."""
    return eval(f"lambda x: (__import__('pathlib').Path({str(mark)!r}).touch(), x)[1]")


def small(keras: str, middle: Any) -> Any:
    """A network of two dense layers and something between them."""
    layers = backends.module(keras).layers
    given = backends.module(keras).Input((4,))
    found = layers.Dense(2, name="last")(middle(layers.Dense(3, name="first")(given)))
    return backends.module(keras).Model(given, found)


def lambda_layer(keras: str, mark: Path) -> Any:
    return backends.module(keras).layers.Lambda(payload(mark), output_shape=(3,), name="evil")


def nested_lambda(keras: str, mark: Path) -> Any:
    module = backends.module(keras)
    given = module.Input((3,))
    return module.Model(given, lambda_layer(keras, mark)(given), name="inner")


def wrapped_lambda(keras: str, mark: Path) -> Any:
    module = backends.module(keras)
    layers = [
        module.layers.Reshape((1, 3)),
        module.layers.TimeDistributed(lambda_layer(keras, mark)),
    ]
    return lambda x: module.layers.Flatten()(layers[1](layers[0](x)))


LAMBDAS = {"plain": lambda_layer, "nested": nested_lambda, "wrapped": wrapped_lambda}


def written(kind: str, make: Any, folder: Path) -> tuple[Path, Path]:
    """A file of that format with such a payload, and the mark it would leave."""
    keras, name = FORMATS[kind]
    mark, path = folder / "mark", folder / name
    model = small(keras, make(keras, mark))
    if name == "m":
        model.save(path, save_format="tf")
    else:
        model.save(path)
    mark.unlink(missing_ok=True)
    return path, mark


def spliced(path: Path, change: Change) -> Path:
    """A `.keras` or `.h5` file with its configuration changed."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = json.dumps(change(json.loads(file.attrs["model_config"])))
        return path
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["config.json"] = json.dumps(change(json.loads(content["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def layer_of(config: Any, name: str) -> Any:
    """The description of a layer, to be changed in place."""
    for layer in config["config"]["layers"]:
        if layer["config"]["name"] == name:
            return layer
    raise KeyError(name)
