"""What a `call` does with the batch, in Keras 3: tokens of all samples in one row, experts, queries that are learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.surgery.groups import find_groups
from tests.keras_io.test_opening import agree_once_cut, around, example, layer


def experts(keras: Any, form: str) -> Any:
    """Four experts, of which every token takes two; `form` is how their outputs are joined."""
    ops = keras.ops

    class Experts(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.router = keras.layers.Dense(4, name="router")

        def build(self, shape: Any) -> None:
            self.wide = self.add_weight(name="wide", shape=(4, shape[-1], 12))
            self.bias = self.add_weight(name="bias", shape=(4, 12), initializer="normal")
            self.narrow = self.add_weight(name="narrow", shape=(4, 6, shape[-1]))
            self.router.build(shape)

        def call(self, x: Any) -> Any:
            count, steps, width = ops.shape(x)
            tokens = ops.reshape(x, (-1, width))
            chances, chosen = ops.top_k(ops.softmax(self.router(tokens)), 2)
            weights = ops.sum(ops.one_hot(chosen, 4) * chances[..., None], axis=1)
            if form == "products":
                wide = ops.matmul(ops.expand_dims(tokens, 0), self.wide)
            elif form == "stacked":
                wide = ops.stack([ops.matmul(tokens, self.wide[k]) for k in range(4)], axis=0)
            else:
                wide = ops.einsum("th,ehm->etm", tokens, self.wide)
            wide = wide + self.bias[:, None, :]
            gate, value = (
                (wide[..., ::2], wide[..., 1::2]) if form == "strided" else ops.split(wide, 2, -1)
            )
            found = ops.einsum("etm,emh->eth", value * ops.sigmoid(gate * 1.7), self.narrow)
            found = found * ops.transpose(weights)[:, :, None]
            return ops.reshape(ops.sum(found, axis=0), (count, steps, width))

    return Experts()


@pytest.mark.parametrize("form", ["split", "strided", "stacked", "products"])
def test_experts_lose_units_and_let_the_trunk_lose_them(form: str, tmp_path: Path) -> None:
    model = around(backends.keras(), experts(backends.keras(), form), (5, 6), 8)
    widths = agree_once_cut(model, example(model), tmp_path)
    # Those of the trunk, of the gates with their values, of what the experts give.
    assert list(widths.values()) == [8, 6, 8]


def test_the_weights_of_experts_count() -> None:
    graph = read(around(backends.keras(), experts(backends.keras(), "split"), (5, 6), 8))
    assert graph.num_params >= 4 * 8 * 12 + 4 * 6 * 8


def test_a_query_that_is_learnt_and_repeated_for_every_sample(tmp_path: Path) -> None:
    keras = backends.keras()

    class Pooling(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.attention = keras.layers.MultiHeadAttention(2, 4, name="attention")

        def build(self, shape: Any) -> None:
            self.probe = self.add_weight(name="probe", shape=(1, 1, shape[-1]))
            self.attention.build((shape[0], 1, shape[-1]), shape)

        def call(self, x: Any) -> Any:
            probe = keras.ops.repeat(self.probe, keras.ops.shape(x)[0], axis=0)
            return self.attention(probe, x)[:, 0]

    model = around(keras, Pooling(), (5, 6), 8)
    assert "before" in agree_once_cut(model, example(model), tmp_path)


def test_a_constant_beside_the_scores_of_every_sample(tmp_path: Path) -> None:
    """A sink: one more score for each head, which takes a share of the softmax."""
    keras = backends.keras()
    ops = keras.ops

    class Sink(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.sink = self.add_weight(name="sink", shape=(shape[1],))

        def call(self, x: Any) -> Any:
            count, steps, _ = ops.shape(x)
            scores = ops.matmul(x, ops.swapaxes(x, 1, 2))
            sink = ops.broadcast_to(ops.reshape(self.sink, (1, -1, 1)), (count, steps, 1))
            shares = ops.softmax(ops.concatenate([scores, sink], axis=-1))[..., :-1]
            return ops.matmul(shares, x)

    model = around(keras, Sink(name="own"), (5, 6), 8)
    assert agree_once_cut(model, example(model), tmp_path) == {"before": 8}


def test_a_tensor_spread_over_the_shape_of_another(tmp_path: Path) -> None:
    """`broadcast_to` is told the size of the batch."""
    keras = backends.keras()
    ops = keras.ops

    def call(self: Any, x: Any) -> Any:
        count, steps, width = ops.shape(x)
        least = ops.broadcast_to(ops.min(x, 1, True), (count, steps, width))
        alike = ops.broadcast_to(ops.max(x, 1, True) < 0.0, (count, steps, width))
        return ops.where(alike, x, x - least)

    model = around(keras, layer(keras, call), (5, 6), 8)
    assert agree_once_cut(model, example(model), tmp_path) == {"before": 8}


def test_samples_that_are_mixed_stay_closed() -> None:
    keras = backends.keras()
    mixing = layer(keras, lambda self, x: x - keras.ops.mean(x, axis=0, keepdims=True))
    turned = layer(keras, lambda self, x: keras.ops.sum(keras.ops.transpose(x), axis=1)[None])
    for own in (mixing, turned):
        with pytest.raises(ValueError, match="no unit"):
            find_groups(read(around(keras, own)))


def test_only_the_composite_that_differs_is_closed() -> None:
    """It stands between others, which are judged each by itself."""
    keras = backends.keras()
    calls: list[int] = []

    def differs(self: Any, x: Any) -> Any:
        calls.append(1)
        return x * (2.0 if isinstance(x, keras.KerasTensor) else 3.0)

    inputs = keras.Input((6,))
    x = keras.layers.Dense(4, name="before")(inputs)
    for own in (
        layer(keras, lambda self, x: keras.ops.tanh(x), "first"),
        layer(keras, differs, "other"),
        layer(keras, lambda self, x: self.part(x) * 2.0, "last", part=keras.layers.Dense(4)),
    ):
        x = own(x)
    graph = read(keras.Model(inputs, keras.layers.Dense(3, name="behind")(x)))
    assert [layer.name for layer in graph.layers.values() if layer.closed] == ["other"]
