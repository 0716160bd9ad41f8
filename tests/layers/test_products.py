"""Attention by hand, channel slices, splits and shuffles: cut equals mask, saved and loaded, both Keras versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import outputs_of, randomise

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, load, read
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal

BOTH = pytest.mark.parametrize("keras", backends.NAMES)


class Ops:
    """The operators of either Keras under one name."""

    def __init__(self, keras: str) -> None:
        tf, self.new = backends.tensorflow(), keras == "keras"
        ops = backends.keras().ops if self.new else None
        self.matmul = ops.matmul if ops else tf.matmul
        self.einsum = ops.einsum if ops else tf.einsum
        self.softmax = ops.softmax if ops else tf.nn.softmax
        self.reshape = ops.reshape if ops else tf.reshape
        self.transpose = ops.transpose if ops else tf.transpose
        self.concatenate = ops.concatenate if ops else tf.concat
        self.pad = ops.pad if ops else tf.pad
        self.ops, self.tf = ops, tf

    def split(self, x: Any, sizes: list[int]) -> Any:
        if self.new:
            return self.ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis=-1)
        return self.tf.split(x, sizes, axis=-1)

    def batch(self, x: Any) -> Any:
        return self.ops.shape(x)[0] if self.new else self.tf.shape(x)[0]


def agree_once_cut(model: Any, path: Path | None, seed: int = 0) -> dict[str, int]:
    """Read and built the same; cut equals mask under a random plan; saved and loaded equal. Gives the groups."""
    randomise(model)
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(5, *model.inputs[0].shape[1:])).astype("float32")
    graph = read(model)
    for ours, theirs in zip(outputs_of(build(graph), x), outputs_of(model, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6 * max(1, np.abs(theirs).max()))
    groups = find_groups(graph)
    removals = [
        Removal(group.name, int(unit))
        for group in groups.groups
        for unit in draw.permutation(group.num_units)[: draw.integers(1, group.num_units)]
    ]
    plan = Plan(tuple(removals), dict(groups.widths))
    small = build(cut(graph, groups, plan))
    found = outputs_of(small, x)
    for ours, theirs in zip(found, outputs_of(build(mask(graph, groups, plan)), x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1, np.abs(theirs).max()))
    if path is None:
        return dict(groups.widths)
    small.save(path / "small.keras")
    for ours, theirs in zip(outputs_of(load(path / "small.keras"), x), found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert small.count_params() < model.count_params()
    return dict(groups.widths)


def attention(keras: str, by: str) -> Any:
    """A layer that attends to its input with three dense layers, by hand."""
    module, ops = backends.module(keras), Ops(keras)

    class Attention(module.layers.Layer):  # type: ignore[misc]
        def __init__(self, heads: int, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.heads, self.width = heads, width
            names = ("query", "key", "value")
            self.parts = [module.layers.Dense(heads * width, name=name) for name in names]
            self.out = module.layers.Dense(heads * width, name="out")

        def build(self, input_shape: Any) -> None:
            for part in self.parts if keras == "keras" else ():
                part.build(input_shape)
            if keras == "keras":
                self.out.build((*input_shape[:-1], self.heads * self.width))
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            shape = (ops.batch(x), x.shape[1], self.heads, self.width)
            q, k, v = (ops.reshape(part(x), shape) for part in self.parts)
            if by == "matmul":
                q, k, v = (ops.transpose(part, (0, 2, 1, 3)) for part in (q, k, v))
                scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * self.width**-0.5
                y = ops.transpose(ops.matmul(ops.softmax(scores), v), (0, 2, 1, 3))
            else:
                scores = ops.einsum("bqhd,bkhd->bhqk", q, k) * self.width**-0.5
                y = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), v)
            return self.out(ops.reshape(y, (ops.batch(x), x.shape[1], self.heads * self.width)))

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    return Attention


@BOTH
@pytest.mark.parametrize("by", ["matmul", "einsum"])
def test_attention_by_hand(keras: str, by: str, tmp_path: Path) -> None:
    module = backends.module(keras)
    inputs = module.Input((6, 5))
    x = module.layers.Dense(8, name="embed")(inputs)
    x = x + attention(keras, by)(2, 4, name="mha")(module.layers.LayerNormalization(name="ln")(x))
    x = x + module.layers.Dense(8, name="down")(
        module.layers.Dense(12, activation="gelu", name="up")(x)
    )
    model = module.Model(inputs, module.layers.Dense(3)(module.layers.GlobalAveragePooling1D()(x)))
    # tf_keras cannot load its own tf.einsum
    found = agree_once_cut(model, None if (keras, by) == ("tf_keras", "einsum") else tmp_path)
    assert found == {"embed": 8, "mha.query": 4, "mha.value": 4, "up": 12}


@BOTH
def test_entries_within_heads_of_multi_head_attention(keras: str, tmp_path: Path) -> None:
    module = backends.module(keras)
    inputs = module.Input((6, 5))
    x = module.layers.MultiHeadAttention(3, 4, value_dim=5, name="mha")(inputs, inputs)
    model = module.Model(inputs, module.layers.Dense(3)(module.layers.GlobalAveragePooling1D()(x)))
    found = agree_once_cut(model, tmp_path)
    assert sorted(found.values()) == [
        3,
        4,
        5,
        5,
    ]  # heads, keys, values, and the 5 units of the output


@BOTH
def test_a_dense_layer_by_hand_is_one(keras: str, tmp_path: Path) -> None:
    """`Linear` of Keras's guide to writing layers."""
    module, ops = backends.module(keras), Ops(keras)

    class Linear(module.layers.Layer):  # type: ignore[misc]
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.units = units

        def build(self, input_shape: Any) -> None:
            self.w = self.add_weight(name="w", shape=(input_shape[-1], self.units))
            self.b = self.add_weight(name="b", shape=(self.units,))
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            return ops.matmul(x, self.w) + self.b

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (*input_shape[:-1], self.units)

    inputs = module.Input((5,))
    x = module.layers.ReLU()(Linear(6, name="one")(inputs))
    model = module.Model(inputs, Linear(3, name="two")(x))
    graph = read(model)
    assert [layer.kind for layer in graph.layers.values()] == [
        "InputLayer",
        "Dense",
        "ReLU",
        "Dense",
    ]
    assert graph.num_params == 5 * 6 + 6 + 6 * 3 + 3
    (width,) = agree_once_cut(model, tmp_path).values()
    assert width == 6


@BOTH
def test_slices_and_splits_of_channels(keras: str, tmp_path: Path) -> None:
    """As in CSP blocks: a part goes on, a part stays, and both meet again."""
    module, ops = backends.module(keras), Ops(keras)
    inputs = module.Input((6, 6, 3))
    x = module.layers.Conv2D(10, 3, name="stem")(inputs)
    first, second = x[..., :4], x[..., 4:]
    second = module.layers.Conv2D(6, 3, padding="same", name="inner")(second) + second
    x = module.layers.Conv2D(9, 1, name="joined")(ops.concatenate([first, second], axis=-1))
    a, b, c = ops.split(x, [2, 3, 4])
    heads = [module.layers.GlobalAveragePooling2D()(part) for part in (a, b, c)]
    model = module.Model(inputs, [module.layers.Dense(2)(head) for head in heads])
    found = agree_once_cut(model, tmp_path)
    assert sum(found.values()) == 10 + 9


@BOTH
def test_channel_shuffle_and_padding(keras: str, tmp_path: Path) -> None:
    module, ops = backends.module(keras), Ops(keras)
    inputs = module.Input((6, 6, 3))
    x = module.layers.Conv2D(8, 3, name="stem")(inputs)
    x = ops.transpose(ops.reshape(x, (-1, 4, 4, 2, 4)), (0, 1, 2, 4, 3))
    x = module.layers.DepthwiseConv2D(3, name="own")(ops.reshape(x, (-1, 4, 4, 8)))
    x = ops.pad(x, [[0, 0], [0, 0], [0, 0], [1, 2]])
    model = module.Model(inputs, module.layers.Dense(2)(module.layers.Flatten()(x)))
    assert agree_once_cut(model, tmp_path) == {"stem": 4}


def test_a_class_token_and_pixel_shuffle_of_tensorflow(tmp_path: Path) -> None:
    module, tf = backends.tf_keras(), backends.tensorflow()
    token = tf.Variable(np.random.default_rng(0).normal(size=(1, 1, 8)).astype("float32"))
    inputs = module.Input((5, 4))
    x = module.layers.Dense(8, name="embed")(inputs)
    tokens = tf.broadcast_to(token.numpy(), [tf.shape(x)[0], 1, 8])
    x = tf.concat([tokens, x], axis=1)
    model = module.Model(inputs, module.layers.Dense(2)(x[:, 0]))
    assert agree_once_cut(model, tmp_path) == {"embed": 8}

    inputs = module.Input((4, 4, 3))
    x = tf.nn.depth_to_space(module.layers.Conv2D(12, 1, name="stem")(inputs), 2)
    x = tf.nn.space_to_depth(module.layers.ReLU()(x), 2)
    model = module.Model(inputs, module.layers.Conv2D(2, 1)(x))
    assert agree_once_cut(model, tmp_path) == {"stem": 3}
