"""Random valid networks of either Keras: branches, sharing, nesting, and every layer that has a rule.

`random_network(seed, keras)` builds one. A network grows from one or two inputs: at every step a tensor is drawn and a
layer that fits its rank is put behind it, sometimes one that already serves elsewhere, sometimes one that joins it
with another tensor. What is unread in the end goes, pooled, into one or two heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from networks import random_inputs, randomise

from keras_robust_prune import backends

WIDTHS = (2, 3, 4, 6)
ACTIVATIONS = ("relu", "linear", "tanh", "sigmoid", "elu", "softmax")
DEPTH = 12


class Growth:
    """A network while it grows."""

    def __init__(self, seed: int, keras: str) -> None:
        self.keras = backends.module(keras)
        self.layers = self.keras.layers
        self.old = keras == "tf_keras"
        self.draw = np.random.default_rng(seed)
        self.tensors: list[Any] = []
        self.unread: list[Any] = []
        self.reusable: list[tuple[Any, int, int]] = []

    def one_of(self, items: Any) -> Any:
        return items[int(self.draw.integers(len(items)))]

    def chance(self, probability: float) -> bool:
        return bool(self.draw.random() < probability)

    def width(self) -> int:
        return int(self.one_of(WIDTHS))

    def activation(self) -> str:
        odds = [0.4, 0.3, 0.1, 0.1, 0.07, 0.03]
        return str(ACTIVATIONS[int(self.draw.choice(len(ACTIVATIONS), p=odds))])

    def add(self, tensor: Any, *read: Any) -> None:
        self.unread = [x for x in self.unread if not any(x is other for other in read)]
        self.unread.append(tensor)
        self.tensors.append(tensor)

    def grow(self, depth: int) -> Any:
        inputs = [self.new_input() for _ in range(1 + self.chance(0.25))]
        for _ in range(depth):
            x = self.one_of(self.unread if self.chance(0.7) else self.tensors)
            steps = STEPS[len(x.shape) - 1] + JOINS
            grown, read = None, (x,)
            while grown is None:  # a step that does not fit gives None
                step = self.one_of(steps)
                grown, read = (step(self, x), (x,)) if step not in JOINS else step(self, x)
                grown = None if grown is None or None in size(grown) else grown
            self.add(grown, *read)
        heads = self.heads()
        return self.keras.Model(inputs, heads if len(heads) > 1 else heads[0], name="random")

    def new_input(self) -> Any:
        kind = self.one_of(["image"] * 4 + ["sequence", "vector", "tokens", "volume"])
        if kind == "tokens":
            x = self.keras.Input((5,), dtype="int32")
            self.add(self.layers.Embedding(10, self.width())(x))
            return x
        shape = {"image": (8, 8, 3), "sequence": (6, 4), "vector": (7,), "volume": (5, 5, 5, 2)}
        x = self.keras.Input(shape[kind])
        self.add(x)
        return x

    def heads(self) -> list[Any]:
        rows = [self.flat(x) for x in self.unread]
        x = rows[0] if len(rows) == 1 else self.layers.Concatenate()(rows)
        x = self.layers.Dense(5, activation="relu")(x)
        heads = [self.layers.Dense(3)(x)]
        if self.chance(0.3):
            heads.append(self.layers.Dense(2)(self.flat(self.one_of(self.tensors))))
        return heads

    def flat(self, x: Any) -> Any:
        if len(x.shape) == 2:
            return x
        if len(x.shape) == 5 or self.chance(0.4):
            return self.layers.Flatten()(x)
        pool = f"Global{self.one_of(['Max', 'Average'])}Pooling{len(x.shape) - 2}D"
        return getattr(self.layers, pool)()(x)


def size(x: Any) -> tuple[int, ...]:
    return tuple(x.shape)[1:]


Step = Callable[[Growth, Any], Any]


def convolution(g: Growth, x: Any) -> Any:
    """Plain, with any stride, padding and groups."""
    rank = len(x.shape) - 2
    filters, channels = g.width(), size(x)[-1]
    groups = g.one_of([n for n in (1, 1, 2, 3) if channels % n == 0 and filters % n == 0])
    padding = "same" if min(size(x)[:-1]) < 3 else g.one_of(["same", "valid"])
    return getattr(g.layers, f"Conv{rank}D")(
        filters,
        g.one_of([1, 3]),
        strides=g.one_of([1, 1, 2]),
        padding=padding,
        groups=groups if rank == 2 else 1,
        use_bias=g.chance(0.7),
        activation=g.activation(),
    )(x)


def depthwise(g: Growth, x: Any) -> Any:
    make = getattr(g.layers, f"DepthwiseConv{len(x.shape) - 2}D")
    return make(3, padding="same", depth_multiplier=g.one_of([1, 1, 2]), use_bias=g.chance(0.5))(x)


def separable(g: Growth, x: Any) -> Any:
    make = getattr(g.layers, f"SeparableConv{len(x.shape) - 2}D")
    return make(g.width(), 3, padding="same", depth_multiplier=g.one_of([1, 2]))(x)


def transposed(g: Growth, x: Any) -> Any:
    make = getattr(g.layers, f"Conv{len(x.shape) - 2}DTranspose")
    return (
        make(g.width(), 3, strides=g.one_of([1, 2]), padding="same")(x) if size(x)[0] < 9 else None
    )


def dense(g: Growth, x: Any) -> Any:
    return g.layers.Dense(g.width(), activation=g.activation(), use_bias=g.chance(0.8))(x)


def block(g: Growth, x: Any) -> Any:
    """A model of its own, which may be called again elsewhere."""
    width, channels = g.width(), size(x)[-1]
    inside = g.keras.Input((channels,))
    y = g.layers.Dense(width, activation="relu")(inside)
    model = g.keras.Model(inside, g.layers.Dense(channels)(y))
    if len(x.shape) != 2:
        return None
    g.reusable.append((model, 2, channels))
    return g.keras.Sequential([g.keras.Input((channels,)), model])(x) if g.chance(0.5) else model(x)


def square(g: Growth, x: Any) -> Any:
    """A layer that keeps the shape, so that it can be shared."""
    rank, channels = len(x.shape), size(x)[-1]
    if rank in (3, 4) and g.chance(0.5):
        layer = getattr(g.layers, f"Conv{rank - 2}D")(channels, 3, padding="same")
    else:
        layer = g.layers.Dense(channels, activation="relu")
    g.reusable.append((layer, rank, channels))
    return layer(x)


def again(g: Growth, x: Any) -> Any:
    """A layer or model that already serves elsewhere."""
    fits = [
        layer for layer, rank, width in g.reusable if (rank, width) == (len(x.shape), size(x)[-1])
    ]
    return g.one_of(fits)(x) if fits else None


def normalize(g: Growth, x: Any) -> Any:
    groups = [n for n in (1, 2, 3, -1) if n == -1 or size(x)[-1] % n == 0]
    make = g.one_of(["batch", "batch", "batch", "layer", "group"])
    if make == "group":
        return g.layers.GroupNormalization(groups=g.one_of(groups))(x) if len(x.shape) > 2 else None
    if make == "layer":
        options = {"center": g.chance(0.8), "scale": g.chance(0.8)}
        return g.layers.LayerNormalization(**options)(x)
    return g.layers.BatchNormalization()(x)


def activate(g: Growth, x: Any) -> Any:
    rank = len(x.shape)
    makes = [
        lambda: g.layers.ReLU(),
        lambda: g.layers.LeakyReLU(),
        lambda: g.layers.Activation(g.activation()),
        lambda: g.layers.PReLU(),
        lambda: g.layers.PReLU(shared_axes=list(range(1, rank - 1)) or None),
        lambda: g.layers.Dropout(0.3),
        lambda: g.layers.Softmax(),
    ]
    return g.one_of(makes[:-1] * 3 + makes[-1:])()(x)


def resize(g: Growth, x: Any) -> Any:
    """Pooling, padding, cropping, upsampling."""
    rank = len(x.shape) - 2
    kinds = ["ZeroPadding", "UpSampling"] if max(size(x)[:-1]) < 7 else []
    kinds += ["MaxPooling", "AveragePooling", "Cropping"] if min(size(x)[:-1]) > 4 else []
    return getattr(g.layers, f"{g.one_of(kinds)}{rank}D")(2)(x) if kinds else None


def permute(g: Growth, x: Any) -> Any:
    rank = len(x.shape) - 1
    order = [*g.draw.permutation(rank - 1).tolist(), rank - 1]
    if g.chance(0.15):
        order = g.draw.permutation(rank).tolist()
    return g.layers.Permute([axis + 1 for axis in order])(x)


def reshape(g: Growth, x: Any) -> Any:
    shape = size(x)
    targets = [(*shape[:-1], shape[-1])]
    if len(shape) == 3:
        targets += [
            (shape[0] * shape[1], shape[2]),
            (-1, shape[2]),
            (shape[0], shape[1] * shape[2]),
        ]
    if len(shape) == 1:
        targets += [(1, 1, shape[0]), (1, shape[0])]
    return g.layers.Reshape(g.one_of(targets))(x)


def pool_away(g: Growth, x: Any) -> Any:
    pool = f"Global{g.one_of(['Max', 'Average'])}Pooling{len(x.shape) - 2}D"
    return getattr(g.layers, pool)(keepdims=g.chance(0.4))(x)


def gate(g: Growth, x: Any) -> Any:
    """Squeeze and excite."""
    channels = size(x)[-1]
    y = g.layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = g.layers.Conv2D(2, 1, activation="relu")(y)
    width = g.one_of([channels, 1])
    return g.layers.Multiply()([x, g.layers.Conv2D(width, 1, activation="sigmoid")(y)])


def attention(g: Growth, x: Any) -> Any:
    layer = g.layers.MultiHeadAttention(num_heads=g.one_of([1, 2, 3]), key_dim=2)
    return g.layers.Add()([x, layer(x, x)]) if g.chance(0.5) else layer(x, x)


def einsum(g: Growth, x: Any) -> Any:
    return g.layers.EinsumDense("abc,cd->abd", output_shape=(None, g.width()), bias_axes="d")(x)


def distributed(g: Growth, x: Any) -> Any:
    if len(x.shape) == 4 and g.chance(0.5):
        return g.layers.TimeDistributed(g.layers.Conv1D(g.width(), 3, padding="same"))(x)
    return g.layers.TimeDistributed(g.layers.Dense(g.width(), activation="relu"))(x)


def recur(g: Growth, x: Any) -> Any:
    """A barrier."""
    if not g.chance(0.3):
        return None
    if g.chance(0.5):
        return g.layers.Bidirectional(g.layers.LSTM(2, return_sequences=True))(x)
    return g.layers.GRU(3)(x)


def operate(g: Growth, x: Any) -> Any:
    """Operators on tensors."""
    tf = backends.tensorflow()
    ops = tf if g.old else g.keras.ops
    rank, channels = len(x.shape), size(x)[-1]
    vector = g.draw.uniform(0.5, 1.5, channels).astype("float32")
    choices = [
        lambda: 2.0 - x * 0.5 + 1.0,
        lambda: (tf.nn.relu if g.old else ops.relu)(x),
        lambda: x * vector,
        lambda: ops.maximum(x, -0.5),
        lambda: x * x,
        lambda: (ops.concat if g.old else ops.concatenate)([x, ops.abs(x)], axis=-1),
        lambda: ops.where(x > 0.1, x, 0.5 * x),
        lambda: ops.stack([x, -x], axis=1) if rank < 5 else None,
    ]
    if rank > 2:
        choices += [
            lambda: x[:, 1:] if size(x)[0] > 2 else None,
            lambda: x[:, 0],
            lambda: x[..., :-1] if channels > 2 else None,
            lambda: (ops.reduce_mean if g.old else ops.mean)(x, axis=1, keepdims=g.chance(0.5)),
            lambda: (ops.reduce_max if g.old else ops.max)(x, axis=-1, keepdims=True),
            lambda: ops.transpose(x, [0, *range(2, rank - 1), 1, rank - 1]),
            lambda: ops.reshape(x, (-1, int(np.prod(size(x)[:-1])), channels)),
            lambda: ops.squeeze(ops.expand_dims(x, 1), axis=1),
            lambda: (
                ops.split(x, [1, size(x)[0] - 1], axis=1)[1] if g.old and size(x)[0] > 1 else None
            ),
        ]
    return g.one_of(choices)()


def repeat(g: Growth, x: Any) -> Any:
    return g.layers.RepeatVector(3)(x)


def partner(g: Growth, x: Any, same_width: bool) -> Any:
    """Another tensor that can meet this one, or a projection of one that nearly can."""
    others = [y for y in g.tensors if len(y.shape) == len(x.shape) and size(y)[:-1] == size(x)[:-1]]
    y = g.one_of(others)
    if not same_width or size(y) == size(x):
        return y
    return g.layers.Dense(size(x)[-1])(y)


def join(g: Growth, x: Any) -> Any:
    y = partner(g, x, same_width=True)
    kind = g.one_of(["Add", "Add", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
    return getattr(g.layers, kind)()([x, y]), (x, y)


def concatenate(g: Growth, x: Any) -> Any:
    y = partner(g, x, same_width=False)
    return g.layers.Concatenate()([x, y]), (x, y)


JOINS: list[Step] = [join, join, concatenate]
ANY: list[Step] = [dense, normalize, activate, square, again, operate, reshape]
SEQUENCE: list[Step] = [convolution, separable, depthwise, resize, permute, pool_away, attention]
IMAGE: list[Step] = [
    convolution,
    convolution,
    depthwise,
    separable,
    transposed,
    resize,
    permute,
    pool_away,
    gate,
]
STEPS: dict[int, list[Step]] = {
    1: [*ANY, dense, block, repeat],
    2: [*ANY, *SEQUENCE, einsum, distributed, recur],
    3: [*ANY, *IMAGE, distributed],
    4: [*ANY, convolution, convolution, resize, pool_away],
}


def random_network(seed: int, keras: str, depth: int | None = None) -> tuple[Any, Any]:
    """A model and inputs for it, the same for the same seed; of a depth up to 12."""
    growth = Growth(seed, keras)
    model = growth.grow(depth or int(growth.draw.integers(2, DEPTH + 1)))
    return randomise(model, seed), random_inputs(model, 3, seed)
