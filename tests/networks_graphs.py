"""Test networks with branches, sharing, nesting and operators: functions from a Keras module to a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_robust_prune import backends


def conv_bn_relu(layers: Any, x: Any, filters: int, **kwargs: Any) -> Any:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, **kwargs)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x)


def residual(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = conv_bn_relu(layers, inputs, 8)
    shortcut = x
    x = conv_bn_relu(layers, x, 6)
    x = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(layers.Add()([shortcut, x]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4)(x), name="residual")


def concatenate(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    left = conv_bn_relu(layers, inputs, 6)
    right = layers.Conv2D(4, 1, activation="relu")(inputs)
    x = layers.Concatenate()([left, right, left])
    x = layers.Conv2D(5, 3, activation="relu")(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="concatenate")


def depthwise(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = conv_bn_relu(layers, inputs, 6)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    x = layers.Conv2D(8, 1)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.Conv2D(4, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="depthwise")


def separable(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((9, 9, 3))
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2, activation="relu")(inputs)
    x = layers.SeparableConv2D(5, 3)(x)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="separable")


def grouped(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = layers.Conv2D(12, 3, groups=4, activation="relu")(x)
    x = layers.Conv2D(4, 1)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="grouped")


def squeeze_excite(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = conv_bn_relu(layers, inputs, 8)
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Reshape((1, 1, 8))(gate)
    gate = layers.Conv2D(4, 1, activation="relu")(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.Conv2D(5, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="squeeze_excite")


def transposed(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.UpSampling2D()(x)
    x = layers.Cropping2D(2)(x)
    return keras.Model(inputs, layers.Conv2D(2, 1)(x), name="transposed")


def volumes(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((6, 6, 6, 2))
    x = layers.Conv3D(4, 3, activation="relu")(inputs)
    x = layers.AveragePooling3D(2)(x)
    x = layers.Permute((2, 1, 3, 4))(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="volumes")


def normalized(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3)(inputs)
    x = layers.GroupNormalization(groups=4)(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(6, 1)(x)
    x = layers.LayerNormalization()(x)
    x = layers.Activation("gelu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="normalized")


def nested(keras: Any) -> Any:
    """A functional model in a Sequential in a functional model, and names that occur twice."""
    layers = keras.layers
    inside = keras.Input((8,), name="inside")
    x = layers.Dense(6, activation="relu", name="first")(inside)
    block = keras.Model(inside, layers.Dense(8, name="second")(x), name="block")
    middle = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, activation="relu", name="first"), block],
        name="middle",
    )
    inputs = keras.Input((5,))
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="last")(middle(x)), name="nested")


def nested_twice(keras: Any) -> Any:
    """One encoder for two inputs, with BatchNormalization held in inference mode inside it."""
    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(5, activation="relu"),
        ],
        name="encoder",
    )
    left, right = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    codes = [encoder(left, training=False), encoder(right, training=False)]
    x = layers.Subtract()(codes)
    return keras.Model([left, right], layers.Dense(2)(x), name="nested_twice")


def shared(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((6,))
    again = layers.Dense(6, activation="tanh", name="again")
    x = again(again(inputs))
    return keras.Model(inputs, layers.Dense(2)(x), name="shared")


def two_inputs(keras: Any) -> Any:
    layers = keras.layers
    image, facts = keras.Input((8, 8, 1), name="image"), keras.Input((4,), name="facts")
    x = layers.Conv2D(5, 3, activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(6, activation="relu")(facts)
    x = layers.Concatenate()([x, y])
    return keras.Model([image, facts], layers.Dense(2)(x), name="two_inputs")


def two_outputs(keras: Any) -> Any:
    """Outputs by name, one of them read by the other."""
    layers = keras.layers
    inputs = keras.Input((7,))
    trunk = layers.Dense(9, activation="relu")(inputs)
    kind = layers.Dense(4, name="kind")(trunk)
    size = layers.Dense(1, name="size")(layers.Concatenate()([trunk, kind]))
    return keras.Model(inputs, {"size": size, "kind": kind}, name="two_outputs")


def attention(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((5, 8))
    x = layers.LayerNormalization()(inputs)
    x = layers.MultiHeadAttention(num_heads=2, key_dim=4)(x, x)
    x = layers.Add()([inputs, x])
    y = layers.Dense(12, activation="gelu")(x)
    x = layers.Add()([x, layers.Dense(8)(y)])
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="attention")


def embedding(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 8)(inputs)
    x = layers.TimeDistributed(layers.Dense(6, activation="relu"))(x)
    x = layers.SpatialDropout1D(0.2)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="embedding")


def recurrent(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 6, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True))(x)
    x = layers.SimpleRNN(5)(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="recurrent")


def operators(keras: Any) -> Any:
    """Operators on tensors: layers of their own in tf_keras, operations in Keras 3."""
    layers, old = keras.layers, keras.__name__ == "tf_keras"
    ops = backends.tensorflow() if old else keras.ops
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3)(inputs)
    x = (ops.nn.relu if old else ops.relu)(2 - x * 2 + 1)
    y = layers.Conv2D(6, 1)(x[:, 1:-1, 1:-1, :])
    x = (ops.concat if old else ops.concatenate)([x[:, 1:-1, 1:-1], y / 3], axis=-1)
    x = x * np.linspace(0.5, 1.5, 12, dtype="float32")
    x = (ops.reduce_mean if old else ops.mean)(x, axis=[1, 2])
    return keras.Model(inputs, layers.Dense(3)(x), name="operators")


def constants_as_layers(keras: Any) -> Any:
    """Lambda layers, which only memory can rebuild."""
    layers = keras.layers
    inputs = keras.Input((6,))
    x = layers.Dense(7, activation="relu")(inputs)
    x = layers.Lambda(lambda tensor: tensor * 2.0 + 1.0, output_shape=(7,), name="affine")(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="constants_as_layers")


def average_max(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((8,))
    parts = [layers.Dense(6, activation="relu")(inputs) for _ in range(4)]
    x = layers.Average()(parts[:2])
    y = layers.Maximum()(parts[2:])
    x = layers.Concatenate()([layers.Multiply()([x, y]), layers.Minimum()([x, y])])
    return keras.Model(inputs, layers.Dense(3)(x), name="average_max")


GRAPHS = (
    residual,
    concatenate,
    depthwise,
    separable,
    grouped,
    squeeze_excite,
    transposed,
    volumes,
    normalized,
    nested,
    nested_twice,
    shared,
    two_inputs,
    two_outputs,
    attention,
    embedding,
    recurrent,
    operators,
    constants_as_layers,
    average_max,
)
