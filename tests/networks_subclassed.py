"""Subclassed models, one of each idiom of Keras's guides, written for both. Small, random weights, called once.

The benchmark `keras_hub` has a row for each, the tests cut each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from networks import randomise

from keras_robust_prune import backends


def own_weights(keras: Any) -> tuple[Any, Any]:
    """Layers with a matrix and a bias of their own, which build themselves from their input, nested in a block."""

    class Linear(keras.layers.Layer):
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape: Any) -> None:
            self.w = self.add_weight(name="w", shape=(input_shape[-1], self.units))
            self.b = self.add_weight(name="b", shape=(self.units,), initializer="zeros")
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            return x @ self.w + self.b

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (*input_shape[:-1], self.units)

    class Block(keras.layers.Layer):
        def __init__(self, widths: tuple[int, ...], **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.parts = [Linear(width, name=f"linear_{k}") for k, width in enumerate(widths)]

        def call(self, x: Any) -> Any:
            for part in self.parts:
                x = keras.activations.relu(part(x))
            return x

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="own_weights")
            self.block, self.head = Block((20, 30), name="block"), Linear(5, name="head")

        def call(self, x: Any) -> Any:
            return self.head(self.block(x))

    return Net(), (12,)


def autoencoder(keras: Any) -> tuple[Any, Any]:
    """Two models in a third, and a layer between them that is noisy in training only."""
    layers = keras.layers

    class Half(keras.Model):
        def __init__(self, widths: tuple[int, ...], **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.parts = [
                layers.Dense(width, "relu", name=f"dense_{k}") for k, width in enumerate(widths)
            ]

        def call(self, x: Any) -> Any:
            for part in self.parts:
                x = part(x)
            return x

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="autoencoder")
            self.encoder = Half((30, 10), name="encoder")
            self.decoder = Half((30, 20), name="decoder")
            self.noise = layers.GaussianNoise(0.1, name="noise")

        def call(self, x: Any, training: Any = None) -> Any:
            return self.decoder(self.noise(self.encoder(x), training=training))

    return Net(), (20,)


def text_classifier(keras: Any) -> tuple[Any, Any]:
    """Embeddings of tokens and places, and a block of attention and a small network with sums and norms."""
    layers = keras.layers

    class Places(layers.Layer):
        def __init__(self, length: int, words: int, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.token = layers.Embedding(words, width, name="token")
            self.place = layers.Embedding(length, width, name="place")
            self.length = length

        def call(self, x: Any) -> Any:
            return self.token(x) + self.place(np.arange(self.length)[None])

    class Block(layers.Layer):
        def __init__(self, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.attention = layers.MultiHeadAttention(2, width // 2, name="attention")
            parts = [layers.Dense(2 * width, "relu"), layers.Dense(width)]
            self.mlp = keras.Sequential(parts, name="mlp")
            self.norm_1 = layers.LayerNormalization(epsilon=1e-6, name="norm_1")
            self.norm_2 = layers.LayerNormalization(epsilon=1e-6, name="norm_2")
            self.dropout = layers.Dropout(0.1, name="dropout")

        def call(self, x: Any, training: Any = None) -> Any:
            y = self.norm_1(x + self.dropout(self.attention(x, x), training=training))
            return self.norm_2(y + self.mlp(y))

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="text_classifier")
            self.places, self.block = Places(8, 30, 20, name="places"), Block(20, name="block")
            self.pool = layers.GlobalAveragePooling1D(name="pool")
            self.head = layers.Dense(3, name="head")

        def call(self, x: Any, training: Any = None) -> Any:
            return self.head(self.pool(self.block(self.places(x), training=training)))

    return Net(), np.random.default_rng(0).integers(0, 30, (4, 8)).astype("int32")


def mixer(keras: Any) -> tuple[Any, Any]:
    """Patches that a network mixes along places, then along channels."""
    layers = keras.layers

    class Mix(layers.Layer):
        def __init__(self, places: int, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.norms = [layers.LayerNormalization(name=f"norm_{k}") for k in (1, 2)]
            self.turn = layers.Permute((2, 1), name="turn")
            self.by_place = [layers.Dense(20, "gelu", name="place_1")]
            self.by_place += [layers.Dense(places, name="place_2")]
            self.by_channel = [layers.Dense(2 * width, "gelu", name="channel_1")]
            self.by_channel += [layers.Dense(width, name="channel_2")]

        def call(self, x: Any) -> Any:
            y = self.turn(self.norms[0](x))
            for layer in self.by_place:
                y = layer(y)
            x = x + self.turn(y)
            y = self.norms[1](x)
            for layer in self.by_channel:
                y = layer(y)
            return x + y

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="mixer")
            self.patches = layers.Conv2D(20, 4, 4, name="patches")
            self.flat = layers.Reshape((16, 20), name="flat")
            self.blocks = [Mix(16, 20, name=f"mix_{k}") for k in (1, 2)]
            self.pool = layers.GlobalAveragePooling1D(name="pool")
            self.head = layers.Dense(5, name="head")

        def call(self, x: Any) -> Any:
            x = self.flat(self.patches(x))
            for block in self.blocks:
                x = block(x)
            return self.head(self.pool(x))

    return Net(), (16, 16, 3)


def wide_and_deep(keras: Any) -> tuple[Any, Any]:
    """A dictionary of inputs, two of outputs."""
    layers = keras.layers

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="wide_and_deep")
            deep = [layers.Dense(20, "relu", name=f"deep_{k}") for k in (1, 2)]
            self.deep = keras.Sequential(deep, name="deep")
            self.join = layers.Concatenate(name="join")
            self.ends = {name: layers.Dense(2, name=name) for name in ("score", "other")}

        def call(self, inputs: Any) -> Any:
            x = self.join([inputs["wide"], self.deep(inputs["deep"])])
            return {name: end(x) for name, end in self.ends.items()}

    normal = np.random.default_rng(0).normal
    return Net(), {
        "deep": normal(size=(4, 12)).astype("float32"),
        "wide": normal(size=(4, 6)).astype("float32"),
    }


NETWORKS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    made.__name__: made
    for made in (own_weights, autoencoder, text_classifier, mixer, wide_and_deep)
}


def make(name: str, keras: str = "keras") -> tuple[Any, Any]:
    """One of the models with random weights, and four inputs that it takes."""
    model, x = NETWORKS[name](backends.module(keras))
    if isinstance(x, tuple):  # a shape
        x = np.random.default_rng(0).normal(size=(4, *x)).astype("float32")
    model(x)
    return randomise(model), x
