"""What is counted: multiplications and the values of all tensors."""

from __future__ import annotations

import tf_keras

from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.surgery.costs import num_macs, num_values


def test_a_depthwise_network_multiplies_little_and_writes_much():
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            tf_keras.Input((6, 6, 4)),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    graph = read(model)
    assert num_macs(graph) == 36 * 9 * 4 + 4 * 2
    # The input, what the convolution and the pooling give, and the logits.
    assert num_values(graph) == 36 * 4 + 36 * 4 + 4 + 2
