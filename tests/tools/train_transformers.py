"""Trains two small transformers on data of scikit-learn, `python -m tests.tools.train_transformers`, in half a minute.

`digits_vit` looks at 8 x 8 digits in 16 patches. `features_transformer` takes the 30 measurements of a tumour as tokens
(breast cancer, Wisconsin), each embedded by a scale and a shift of its own, and has attention written by hand. Both are
subclassed Keras 3 models of composite blocks. Of the inputs that they are trained on one half is moved against the
network by one signed gradient step.
"""

from __future__ import annotations

import functools
import time
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune import backends

SEED = 0
EPOCHS = {"digits_vit": 30, "features_transformer": 30}
BATCH = 64


class Trained(NamedTuple):
    """A trained network and its data.

    Attributes:
        model: the network; its outputs are logits.
        x: training inputs.
        y: their labels.
        x_test: inputs that it was not trained on.
        y_test: their labels.
        input_range: the valid inputs.
        eps: the l-inf radius at which it is attacked.
    """

    model: Any
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    input_range: tuple[float, float]
    eps: float


def block(keras: Any, width: int, attention: Any, name: str, times: int = 2) -> Any:
    """Attention and an MLP, each behind a normalisation and beside a shortcut; the MLP is so many times as wide."""
    layers = keras.layers

    class Block(layers.Layer):
        def __init__(self) -> None:
            super().__init__(name=name)
            self.norms = [layers.LayerNormalization(name=f"norm_{k}") for k in (1, 2)]
            self.attention = attention
            self.wide = layers.Dense(times * width, activation="gelu", name="wide")
            self.narrow = layers.Dense(width, name="narrow")

        def call(self, x: Any) -> Any:
            y = self.norms[0](x)
            x = x + self.attention(y, y)
            return x + self.narrow(self.wide(self.norms[1](x)))

    return Block()


def _by_hand(keras: Any, width: int, heads: int) -> Any:
    """Attention of matrix products, reshapes and transpositions."""
    ops, layers = keras.ops, keras.layers

    class Attention(layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="attention")
            self.qkv = layers.Dense(3 * width, name="qkv")
            self.out = layers.Dense(width, name="out")

        def call(self, x: Any, _: Any) -> Any:
            count, steps, _ = ops.shape(x)
            qkv = ops.reshape(self.qkv(x), (count, steps, 3, heads, width // heads))
            query, key, value = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3, axis=0)
            scores = ops.matmul(query, ops.swapaxes(key, -1, -2)) * (width // heads) ** -0.5
            mixed = ops.matmul(ops.softmax(scores), value)
            return self.out(ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (count, steps, width)))

    return Attention()


def _vit(keras: Any) -> Any:
    """Three blocks over 16 patches of a digit."""
    layers, width = keras.layers, 40

    class Vit(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="digits_vit")
            self.patches = layers.Conv2D(width, 2, 2, name="patches")
            self.flat = layers.Reshape((16, width), name="flat")
            self.blocks = [
                block(keras, width, layers.MultiHeadAttention(4, width // 4), f"block_{k}")
                for k in range(3)
            ]
            self.norm = layers.LayerNormalization(name="norm")
            self.pool = layers.GlobalAveragePooling1D(name="pool")
            self.head = layers.Dense(10, name="digit")

        def build(self, input_shape: Any) -> None:
            self.places = self.add_weight(shape=(1, 16, width), name="places")
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            x = self.flat(self.patches(x)) + self.places
            for block in self.blocks:
                x = block(x)
            return self.head(self.pool(self.norm(x)))

    return Vit()


def _features(keras: Any) -> Any:
    """Two blocks over 30 numbers, each of which is a token."""
    ops, layers, width = keras.ops, keras.layers, 40

    class Features(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="features_transformer")
            self.blocks = [
                block(keras, width, _by_hand(keras, width, 4), f"block_{k}") for k in range(2)
            ]
            self.norm = layers.LayerNormalization(name="norm")
            self.head = layers.Dense(2, name="malignant")

        def build(self, input_shape: Any) -> None:
            self.scale = self.add_weight(shape=(30, width), name="scale")
            self.shift = self.add_weight(shape=(30, width), name="shift")
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            x = ops.expand_dims(x, -1) * self.scale + self.shift
            for block in self.blocks:
                x = block(x)
            return self.head(ops.mean(self.norm(x), axis=1))

    return Features()


def data(name: str) -> tuple[np.ndarray, ...]:
    """Inputs and labels, those to train on and those to test on."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    load = datasets.load_digits if name == "digits_vit" else datasets.load_breast_cancer
    x, y = load(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1) if name == "digits_vit" else x
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=SEED, stratify=y)
    if name != "digits_vit":
        mean, deviation = x.mean(0), x.std(0)
        x, x_test = (np.clip((part - mean) / deviation, -3, 3) for part in (x, x_test))
    return x.astype("float32"), y.astype("int64"), x_test.astype("float32"), y_test.astype("int64")


@functools.cache
def trained(name: str) -> Trained:
    """One of the two, trained."""
    keras, tf = backends.keras(), backends.tensorflow()
    keras.utils.set_random_seed(SEED)
    x, y, x_test, y_test = data(name)
    low, high, eps = (0.0, 1.0, 0.1) if name == "digits_vit" else (-3.0, 3.0, 0.25)
    model = (_vit if name == "digits_vit" else _features)(keras)
    model(x[:1])
    epochs, generator = EPOCHS[name], np.random.default_rng(SEED)
    steps = epochs * (len(x) // BATCH)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps))
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images: Any, labels: Any) -> None:
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = loss_of(labels, model(images, training=False))
        moved = images + eps * tf.sign(tape.gradient(loss, images))
        moved = tf.clip_by_value(moved, low, high)
        images = tf.concat([images[: BATCH // 2], moved[BATCH // 2 :]], 0)
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    for _ in range(epochs):
        order = generator.permutation(len(x))[: len(x) // BATCH * BATCH]
        for part in order.reshape(-1, BATCH):
            step(tf.constant(x[part]), tf.constant(y[part]))
    return Trained(model, x, y, x_test, y_test, (low, high), eps)


def main() -> None:
    """Trains both and tells how long that takes and how often they are right."""
    for name in EPOCHS:
        begin = time.perf_counter()
        found = trained(name)
        right = np.mean(np.argmax(found.model(found.x_test), -1) == found.y_test)
        seconds = time.perf_counter() - begin
        print(f"{name}: {right:.3f} of {len(found.y_test)} right, {seconds:.0f} s")


if __name__ == "__main__":
    main()
