"""Two networks of a million parameters and more, trained here in minutes, that no method was developed on.

    python -m tests.tools.train_networks --shared=../shared --out=FOLDER

`mobilenet_v3` is `keras.applications.MobileNetV3Small` (hard swish, squeeze and excitation; 1.5 M parameters) on MNIST
at twice its size, `residual_mlp` four residual blocks of LayerNormalization and two dense layers (4.6 M) on flat MNIST.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from absl import app

from keras_robust_prune import backends
from tests.benchmarks.benchmark import OUT, SHARED


def mobilenet_v3(keras: Any) -> Any:
    """Grey pictures of 28 x 28 pixels, 0 to 255."""
    x = keras.Input((28, 28, 1))
    body = keras.applications.MobileNetV3Small(
        (56, 56, 3), weights=None, classes=10, classifier_activation=None
    )
    y = keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
    model = keras.Model(x, body(keras.layers.Concatenate()([y, y, y])))
    for layer in body.layers:
        if hasattr(layer, "momentum"):
            layer.momentum = 0.9  # the usual .999 takes longer than this training
    return model


def residual_mlp(keras: Any) -> Any:
    """784 grey values, 0 to 1."""
    layers, x = keras.layers, keras.Input((784,))
    y = layers.Dense(512)(x)
    for _ in range(4):
        z = layers.Dense(1024, activation="gelu")(layers.LayerNormalization()(y))
        y = layers.add([y, layers.Dense(512)(z)])
    return keras.Model(x, layers.Dense(10)(layers.LayerNormalization()(y)))


# Name: network, data, what a grey value is divided by, shape of an input, epochs.
ALL = {
    "mobilenet_v3": (mobilenet_v3, "mnist", 1.0, (28, 28, 1), 5),
    "residual_mlp": (residual_mlp, "mnist", 255.0, (784,), 10),
}


def data(name: str, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and classes of a network's `"train"` or `"test"` data."""
    _, file, scale, shape, _ = ALL[name]
    with np.load(Path(SHARED.value) / "data" / f"{file}.npz") as stored:
        x, y = stored[f"x_{part}"], stored[f"y_{part}"].ravel()
    return (x.reshape(-1, *shape) / np.float32(scale)).astype("float32"), y


def trained(name: str) -> Any:
    """The network, trained from a fixed seed."""
    network, _, _, _, epochs = ALL[name]
    keras = backends.module("keras")
    keras.utils.set_random_seed(0)
    model, (x, y) = network(keras), data(name, "train")
    steps = epochs * (len(x) // 128)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=2)
    print(name, "test accuracy", model.evaluate(*data(name, "test"), verbose=0)[1], flush=True)
    return model


def main(_: list[str]) -> None:
    """Trains both and writes them."""
    for name in ALL:
        trained(name).save(Path(OUT.value) / f"{name}.keras")


if __name__ == "__main__":
    app.run(main)
