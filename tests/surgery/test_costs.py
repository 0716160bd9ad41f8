"""What is counted: multiplications and the values of all tensors."""

from __future__ import annotations

import tf_keras

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.samples import macs_of
from keras_robust_prune.surgery.costs import num_macs, num_values, work_of
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal


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
    # A value takes as long as 50 multiplications.
    assert work_of(graph) == 50 * num_values(graph)
    assert work_of(graph, graph.nodes[1:2]) == 50 * 36 * 4
    dense = tf_keras.Sequential([tf_keras.Input((300,)), layers.Dense(200)])
    assert work_of(read(dense)) == 300 * 200


def test_windows_that_became_samples_count_as_often_as_there_are():
    """4 x 4 places in 4 windows of 4: a dense layer works at all 16 of them, before and after a cut."""
    keras = backends.keras()
    ops, inputs = keras.ops, keras.Input((4, 4, 3))
    x = ops.reshape(inputs, (-1, 2, 2, 2, 2, 3))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 4, 3))  # batch and windows in one
    x = keras.layers.Dense(6, name="inside")(x)
    x = ops.reshape(x, (-1, 4, 4, 6))
    graph = read(keras.Model(inputs, keras.layers.Dense(5, name="outside")(x)))
    assert macs_of(graph, graph.node["inside"]) == 16 * 3 * 6
    assert macs_of(graph, graph.node["outside"]) == 16 * 6 * 5
    groups = find_groups(graph)
    plan = Plan((Removal("inside", 0),), dict(groups.widths))
    assert num_macs(cut(graph, groups, plan)) == 16 * 5 * (3 + 5)
