"""Networks whose trunk is normalised over its units, as in ConvNeXt, Transformers and mixers."""

from __future__ import annotations

from typing import Any


def convnext(keras: Any) -> Any:
    """Two stages, normalised before, within and behind their blocks."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 2, strides=2)(inputs)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    for width in (6, 8):
        if width > 6:
            x = layers.LayerNormalization()(x)
            x = layers.Conv2D(width, 2, strides=2)(x)
        y = layers.DepthwiseConv2D(3, padding="same")(x)
        y = layers.LayerNormalization()(y)
        y = layers.Dense(2 * width, activation="gelu")(y)
        x = layers.Add()([x, layers.Dense(width)(y)])
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.LayerNormalization()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="convnext")


def transformer(keras: Any) -> Any:
    """Normalised before attention and before the dense layers."""
    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 8)(inputs)
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(num_heads=2, key_dim=4)(y, y)])
    y = layers.LayerNormalization()(x)
    y = layers.Dense(12, activation="gelu")(y)
    x = layers.Add()([x, layers.Dense(8)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(3)(x), name="transformer")


def post_norm(keras: Any) -> Any:
    """Normalised behind every sum; one layer normalises twice, sequences of any length."""
    layers = keras.layers
    inputs = keras.Input((None, 5))
    norm = layers.LayerNormalization()
    x = layers.Dense(8)(inputs)
    x = norm(layers.Add()([x, layers.MultiHeadAttention(num_heads=2, key_dim=3)(x, x)]))
    y = layers.Dense(12, activation="softplus")(x)
    x = norm(layers.Add()([x, layers.Dense(8)(y)]))
    x = layers.UnitNormalization()(layers.GlobalMaxPooling1D()(x))
    return keras.Model(inputs, layers.Dense(3)(x), name="post_norm")


def mixer(keras: Any) -> Any:
    """Convolutions over positions, dense layers over channels, normalised without scale or offset."""
    layers = keras.layers
    inputs = keras.Input((6, 4))
    x = layers.Dense(8)(inputs)
    y = layers.LayerNormalization(center=False)(x)
    x = layers.Add()([x, layers.DepthwiseConv1D(3, padding="same")(y)])
    y = layers.LayerNormalization(scale=False)(x)
    y = layers.Dense(10, activation="relu")(y)
    x = layers.Add()([x, layers.Dense(8)(y)])
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3)(x), name="mixer")


NORMALISED = (convnext, transformer, post_norm, mixer)
