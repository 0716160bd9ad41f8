"""Test networks that are chains: functions from a Keras module to a Sequential model."""

from __future__ import annotations

from typing import Any


def mlp(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, activation="relu"),
            layers.Dense(10, activation="relu"),
            layers.Dense(5),
        ],
        name="mlp",
    )


def sigmoid_mlp(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((9,)),
            layers.Dense(12, activation="sigmoid"),
            layers.Dropout(0.5),
            layers.Dense(8, activation="sigmoid"),
            layers.Dense(3, activation="softmax"),
        ],
        name="sigmoid_mlp",
    )


def one_output(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(7, "tanh"), layers.Dense(1, "sigmoid")],
        name="one_output",
    )


def one_unit(keras: Any) -> Any:
    """A layer of one unit, which must stay."""
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(1, "relu"), layers.Dense(4, "relu"), layers.Dense(2)],
        name="one_unit",
    )


def scaled_inputs(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Rescaling(0.5, offset=0.1),
            layers.Normalization(mean=[0.1] * 5, variance=[0.5, 1.0, 1.5, 2.0, 2.5]),
            layers.Dense(6),
            layers.LeakyReLU(),
            layers.Dense(3),
        ],
        name="scaled_inputs",
    )


def conv_bn(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.ZeroPadding2D(1),
            layers.Conv2D(6, 3, strides=2),
            layers.BatchNormalization(scale=False),
            layers.ReLU(6.0),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ],
        name="conv_bn",
    )


def conv_flatten(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((10, 10, 2)),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, padding="same", activation="elu"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(12, activation="relu"),
            layers.Dense(5),
        ],
        name="conv_flatten",
    )


def conv1d(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((16, 3)),
            layers.Conv1D(8, 3, activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(6, 3, padding="same"),
            layers.BatchNormalization(),
            layers.PReLU(shared_axes=[1]),
            layers.GlobalMaxPooling1D(),
            layers.Dense(3),
        ],
        name="conv1d",
    )


def prelu(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(5, 3),
            layers.PReLU(),
            layers.Conv2D(4, 3),
            layers.PReLU(shared_axes=[1, 2]),
            layers.Flatten(),
            layers.Dense(6),
            layers.PReLU(),
            layers.Dense(3),
        ],
        name="prelu",
    )


CHAINS = (
    mlp,
    sigmoid_mlp,
    one_output,
    one_unit,
    scaled_inputs,
    conv_bn,
    conv_flatten,
    conv1d,
    prelu,
)
