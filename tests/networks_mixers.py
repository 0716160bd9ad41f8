"""Mixers as people write them by hand, where units and places change their axes. Small, of Keras 3."""

from __future__ import annotations

from typing import Any


def gated_mixer(keras: Any) -> Any:
    """Half of a block's channels, mixed along places, is the gate of the other half."""
    layers, ops = keras.layers, keras.ops

    class Block(layers.Layer):
        def __init__(self, places: int, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.norms = [layers.LayerNormalization(name=f"norm_{k}") for k in (1, 2)]
            self.first = layers.Dense(2 * width, "gelu", name="first")
            self.along = layers.Dense(places, bias_initializer="ones", name="along")
            self.last = layers.Dense(width, name="last")

        def call(self, x: Any) -> Any:
            kept, gate = ops.split(self.first(self.norms[0](x)), 2, axis=-1)
            gate = self.along(ops.transpose(self.norms[1](gate), (0, 2, 1)))
            return x + self.last(kept * ops.transpose(gate, (0, 2, 1)))

    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 40))(layers.Conv2D(40, 4, 4, name="patches")(inputs))
    for number in (1, 2):
        x = Block(16, 40, name=f"block_{number}")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(5, name="head")(x), name="gated_mixer")


def learnt_tokens(keras: Any) -> Any:
    """A few maps say where each of a few tokens looks, channel by channel alike; a transformer follows."""
    layers, ops = keras.layers, keras.ops

    class Tokens(layers.Layer):
        def __init__(self, number: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.norm = layers.LayerNormalization(name="norm")
            self.looks = layers.Conv2D(10, 3, padding="same", activation="gelu", name="looks")
            self.maps = layers.Conv2D(number, 1, activation="sigmoid", name="maps")

        def call(self, x: Any) -> Any:
            maps = self.maps(self.looks(self.norm(x)))
            places, tokens, width = maps.shape[1] * maps.shape[2], maps.shape[-1], x.shape[-1]
            maps = ops.transpose(ops.reshape(maps, (-1, places, tokens)), (0, 2, 1))
            seen = ops.expand_dims(maps, -1) * ops.reshape(x, (-1, 1, places, width))
            return ops.mean(seen, axis=2)

    inputs = keras.Input((16, 16, 3))
    x = Tokens(4, name="tokens")(layers.Conv2D(40, 4, 4, name="patches")(inputs))
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(4, 10, name="attention")(y, y)
    y = layers.Dense(80, "gelu", name="wide")(layers.LayerNormalization()(x))
    x = layers.GlobalAveragePooling1D()(x + layers.Dense(40, name="narrow")(y))
    return keras.Model(inputs, layers.Dense(5, name="head")(x), name="learnt_tokens")
