"""Trains the network of the demonstration, `python -m keras_robust_prune.demo.train`. Needs scikit-learn.

A small convolutional classifier of 8 x 8 digits. Half of every batch is moved against the network by one signed
gradient step, so that it has a robustness that pruning can lose. Writes `digits.h5` and `digits.npz` beside this file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust_prune import backends

SEED = 0
NUM_TEST = 360
EPOCHS = 60
BATCH = 64
RADIUS = 0.1
FOLDER = Path(__file__).parent


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The images as whole numbers 0..16 and their labels: training part, then test part."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        images.reshape(-1, 8, 8, 1), labels, test_size=NUM_TEST, random_state=SEED, stratify=labels
    )
    return x.astype(np.uint8), y.astype(np.uint8), x_test.astype(np.uint8), y_test.astype(np.uint8)


def network() -> Any:
    """The untrained network, in tf_keras."""
    layers = backends.tf_keras().layers
    return backends.tf_keras().Sequential(
        [
            layers.InputLayer((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv_1"),
            layers.BatchNormalization(name="norm_1"),
            layers.Activation("relu", name="relu_1"),
            layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv_2"),
            layers.BatchNormalization(name="norm_2"),
            layers.Activation("relu", name="relu_2"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(64, activation="relu", name="dense"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )


def shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by up to one pixel, zeros moving in."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = rng.integers(0, 3, (2, len(images), 1, 1))
    ahead = np.arange(8)
    return padded[np.arange(len(images))[:, None, None], rows + ahead[:, None], columns + ahead]


def train(x: np.ndarray, y: np.ndarray) -> Any:
    """The network trained on `x` in [0, 1], shape `(num, 8, 8, 1)`, and labels `y`."""
    tf, tf_keras = backends.tensorflow(), backends.tf_keras()
    tf_keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    model = network()
    steps = EPOCHS * math.ceil(len(x) / BATCH)
    rate = tf_keras.optimizers.schedules.CosineDecay(2e-3, steps)
    optimizer = tf_keras.optimizers.Adam(rate)
    loss_of = tf_keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = loss_of(labels, model(images, training=False))
        moved = images + RADIUS * tf.sign(tape.gradient(loss, images))
        both = tf.concat([images, tf.clip_by_value(moved, 0.0, 1.0)], 0)
        with tf.GradientTape() as tape:
            loss = loss_of(tf.concat([labels, labels], 0), model(both, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    for epoch in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            batch = order[start : start + BATCH]
            images = shifted(x[batch], rng).astype(np.float32)
            loss = step(tf.constant(images), tf.constant(y[batch]))
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {float(loss):.4f}")
    return model


def main() -> None:
    """Trains, reports the accuracy on the test part and writes both files."""
    x, y, x_test, y_test = digits()
    model = train(x / np.float32(16), y)
    probabilities = model.predict(x_test / np.float32(16), verbose=0)
    print(f"test accuracy {np.mean(probabilities.argmax(-1) == y_test):.4f}")
    model.save(FOLDER / "digits.h5", include_optimizer=False)
    np.savez_compressed(FOLDER / "digits.npz", x=x_test, y=y_test)


if __name__ == "__main__":
    main()
