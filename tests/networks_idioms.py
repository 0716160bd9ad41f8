"""Networks as people write them by hand: composites, slices, splits, windows, rotary attention. Small, random weights.

All of Keras 3. The benchmark `keras_hub` has a row for each, the tests cut each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from networks import randomise
from networks_mixers import gated_mixer, learnt_tokens

from keras_robust_prune import backends


def _conv(
    keras: Any, x: Any, width: int, size: int = 1, strides: int = 1, act: str = "relu"
) -> Any:
    x = keras.layers.Conv2D(width, size, strides, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.layers.Activation(act)(x) if act else x


def _depthwise(keras: Any, x: Any, strides: int = 1) -> Any:
    x = keras.layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
    return keras.layers.BatchNormalization()(x)


def _classifier(keras: Any, inputs: Any, x: Any, name: str) -> Any:
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x), name=name)


def shufflenet_v2(keras: Any) -> Any:
    """ShuffleNetV2: halves of the channels by split, joined again and shuffled by reshape and transpose."""
    ops = keras.ops

    def shuffle(x: Any) -> Any:
        _, height, width, channels = x.shape
        x = ops.reshape(x, (-1, height, width, 2, channels // 2))
        return ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, height, width, channels))

    def unit(x: Any, width: int) -> Any:
        left, right = ops.split(x, 2, axis=-1)
        right = _conv(keras, right, width // 2)
        right = _conv(keras, _depthwise(keras, right), width // 2)
        return shuffle(keras.layers.Concatenate()([left, right]))

    def down(x: Any, width: int) -> Any:
        left = _conv(keras, _depthwise(keras, x, 2), width // 2)
        right = _conv(keras, x, width // 2)
        right = _conv(keras, _depthwise(keras, right, 2), width // 2)
        return shuffle(keras.layers.Concatenate()([left, right]))

    inputs = keras.Input((16, 16, 3))
    x = _conv(keras, inputs, 20, 3)
    for width in (40, 80):
        x = unit(down(x, width), width)
    return _classifier(keras, inputs, _conv(keras, x, 80), "shufflenet_v2")


def ghostnet(keras: Any) -> Any:
    """GhostNet: half of the channels are cheap copies of the other half, cropped by a slice."""

    def ghost(x: Any, width: int, act: str = "relu") -> Any:
        primary = _conv(keras, x, -(-width // 2), act=act)
        cheap = keras.layers.Activation(act or "linear")(_depthwise(keras, primary))
        return keras.layers.Concatenate()([primary, cheap])[..., :width]

    def bottleneck(x: Any, hidden: int, width: int, strides: int) -> Any:
        short = x
        x = ghost(x, hidden)
        if strides > 1:
            x = _depthwise(keras, x, strides)
            short = _depthwise(keras, short, strides)
        squeezed = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
        squeezed = keras.layers.Conv2D(hidden // 4, 1, activation="relu")(squeezed)
        x = x * keras.layers.Conv2D(hidden, 1, activation="hard_sigmoid")(squeezed)
        x = ghost(x, width, "")
        if short.shape[-1] != width:
            short = _conv(keras, short, width, act="")
        return keras.layers.Add()([x, short])

    inputs = keras.Input((16, 16, 3))
    x = _conv(keras, inputs, 20, 3)
    x = bottleneck(x, 40, 20, 1)
    x = bottleneck(x, 61, 40, 2)
    return _classifier(keras, inputs, _conv(keras, x, 80), "ghostnet")


def yolo_v8_nano(keras: Any) -> Any:
    """YOLOv8: C2f blocks that split channels, SPPF, a path up and down again, outputs of boxes and classes."""
    ops = keras.ops

    def c2f(x: Any, width: int, add: bool = True) -> Any:
        parts = list(ops.split(_conv(keras, x, width, act="silu"), 2, axis=-1))
        inner = _conv(keras, parts[-1], width // 2, 3, act="silu")
        inner = _conv(keras, inner, width // 2, 3, act="silu")
        parts.append(parts[-1] + inner if add else inner)
        return _conv(keras, ops.concatenate(parts, axis=-1), width, act="silu")

    def sppf(x: Any, width: int) -> Any:
        parts = [_conv(keras, x, width // 2, act="silu")]
        for _ in range(3):
            parts.append(keras.layers.MaxPooling2D(5, 1, padding="same")(parts[-1]))
        return _conv(keras, keras.layers.Concatenate()(parts), width, act="silu")

    def detect(x: Any) -> Any:
        boxes = keras.layers.Conv2D(16, 1)(_conv(keras, x, 20, 3, act="silu"))
        classes = keras.layers.Conv2D(4, 1)(_conv(keras, x, 20, 3, act="silu"))
        found = ops.concatenate([boxes, classes], axis=-1)
        return ops.reshape(found, (-1, x.shape[1] * x.shape[2], 20))

    inputs = keras.Input((32, 32, 3))
    x = _conv(keras, inputs, 10, 3, 2, "silu")
    levels = []
    for width in (20, 40, 80):
        x = c2f(_conv(keras, x, width, 3, 2, "silu"), width)
        levels.append(x)
    levels[-1] = sppf(levels[-1], 80)
    up = keras.layers.UpSampling2D()(levels[2])
    middle = c2f(keras.layers.Concatenate()([up, levels[1]]), 40, add=False)
    up = keras.layers.UpSampling2D()(middle)
    fine = c2f(keras.layers.Concatenate()([up, levels[0]]), 20, add=False)
    down = _conv(keras, fine, 20, 3, 2, "silu")
    middle = c2f(keras.layers.Concatenate()([down, middle]), 40, add=False)
    outputs = ops.concatenate([detect(part) for part in (fine, middle, levels[2])], axis=1)
    boxes, classes = outputs[..., :16], outputs[..., 16:]
    return keras.Model(inputs, {"boxes": boxes, "classes": classes}, name="yolo_v8_nano")


def mobilevit(keras: Any) -> Any:
    """MobileViT: convolutions, and a transformer over the places of patches, by reshape and transpose."""
    ops = keras.ops

    def block(x: Any, width: int) -> Any:
        short, (_, height, length, channels) = x, x.shape
        x = _conv(keras, x, channels, 3, act="silu")
        x = _conv(keras, x, width, act="silu")
        x = ops.reshape(x, (-1, height // 2, 2, length // 2, 2, width))
        x = ops.transpose(x, (0, 2, 4, 1, 3, 5))
        x = ops.reshape(x, (-1, 4, height * length // 4, width))
        y = keras.layers.LayerNormalization()(x)
        qkv = ops.reshape(
            keras.layers.Dense(3 * width)(y), (-1, 4, height * length // 4, 3, 2, width // 2)
        )
        query, key, value = (qkv[:, :, :, k] for k in range(3))
        scores = ops.einsum("bpqhd,bpkhd->bphqk", query * (width // 2) ** -0.5, key)
        y = ops.einsum("bphqk,bpkhd->bpqhd", ops.softmax(scores), value)
        x = x + keras.layers.Dense(width)(ops.reshape(y, (-1, 4, height * length // 4, width)))
        y = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.Dense(width)(keras.layers.Dense(2 * width, activation="silu")(y))
        x = ops.reshape(x, (-1, 2, 2, height // 2, length // 2, width))
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 4, 2, 5)), (-1, height, length, width))
        x = _conv(keras, x, channels, act="silu")
        return _conv(keras, keras.layers.Concatenate()([short, x]), channels, 3, act="silu")

    inputs = keras.Input((16, 16, 3))
    x = _conv(keras, inputs, 20, 3, 2, "silu")
    x = block(_conv(keras, x, 20, 3, 2, "silu"), 40)
    return _classifier(keras, inputs, _conv(keras, x, 40, act="silu"), "mobilevit")


def _window(keras: Any) -> Any:
    """Attention in windows, shifted or not; it gives a tuple with None."""
    ops = keras.ops

    class Window(keras.layers.Layer):
        def __init__(self, width: int, side: int, heads: int, shift: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.width, self.side, self.heads, self.shift = width, side, heads, shift
            self.norm = keras.layers.LayerNormalization(name="norm")
            self.qkv = keras.layers.Dense(3 * width, name="qkv")
            self.out = keras.layers.Dense(width, name="out")

        def build(self, input_shape: Any) -> None:
            steps = self.side**2
            self.bias = self.add_weight(shape=(self.heads, steps, steps), name="bias")
            super().build(input_shape)

        def attend(self, windows: Any) -> Any:
            steps, count = self.side**2, ops.shape(windows)[0]
            qkv = ops.reshape(
                self.qkv(windows), (count, steps, 3, self.heads, self.width // self.heads)
            )
            qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
            query, key, value = qkv[0], qkv[1], qkv[2]
            scores = ops.matmul(query * self.heads**-0.5, ops.swapaxes(key, -1, -2))
            mixed = ops.matmul(ops.softmax(scores + self.bias, axis=-1), value)
            return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (count, steps, self.width))

        def call(self, x: Any) -> Any:
            count, height, length, width = ops.shape(x)
            side, y = self.side, self.norm(x)
            if self.shift:
                y = ops.roll(y, (-self.shift, -self.shift), axis=(1, 2))
            y = ops.reshape(y, (count, height // side, side, length // side, side, width))
            y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (-1, side * side, width))
            y = self.out(self.attend(y))
            y = ops.reshape(y, (count, height // side, length // side, side, side, width))
            y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (count, height, length, width))
            if self.shift:
                y = ops.roll(y, (self.shift, self.shift), axis=(1, 2))
            return x + y, None

    return Window


def _swin_block(keras: Any) -> Any:
    """Attention in windows, then an MLP."""
    Window = _window(keras)

    class Block(keras.layers.Layer):
        def __init__(self, width: int, shift: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.window = Window(width, 2, 2, shift, name="window")
            self.norm = keras.layers.LayerNormalization(name="norm")
            self.wide = keras.layers.Dense(2 * width, activation="gelu", name="wide")
            self.narrow = keras.layers.Dense(width, name="narrow")

        def call(self, x: Any) -> Any:
            x, _ = self.window(x)
            return x + self.narrow(self.wide(self.norm(x)))

    return Block


def swin(keras: Any) -> Any:
    """Swin: attention in windows and in shifted windows, with biases of their own; keys, queries and values at once."""
    ops, Block = keras.ops, _swin_block(keras)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(20, 2, 2, name="patches")(inputs)
    for number, shift in enumerate((0, 1)):
        x = Block(20, shift, name=f"block_{number}")(x)
    merged = ops.concatenate([x[:, k::2, j::2] for j in (0, 1) for k in (0, 1)], axis=-1)
    x = keras.layers.Dense(40, use_bias=False, name="merge")(
        keras.layers.LayerNormalization()(merged)
    )
    x = Block(40, 1, name="block_2")(x)
    return _classifier(keras, inputs, x, "swin")


def swish_by_hand(x: Any) -> Any:
    """An activation that is not Keras's own."""
    return x * backends.keras().ops.sigmoid(x)


def _norm_and_rotary(keras: Any) -> Any:
    """Root mean square normalisation by hand, and a turn by angles that grow with the position."""
    ops = keras.ops

    class Norm(keras.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
            return x * ops.rsqrt(variance + 1e-6) * self.scale

    class Rotary(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            steps, width = x.shape[1], x.shape[-1]
            angles = ops.arange(steps, dtype="float32")[:, None] / 10.0 ** (
                ops.arange(width // 2, dtype="float32") / (width // 2)
            )
            angles = ops.concatenate([angles, angles], axis=-1)[None, :, None]
            first, second = ops.split(x, 2, axis=-1)
            turned = ops.concatenate([-second, first], axis=-1)
            return x * ops.cos(angles) + turned * ops.sin(angles)

        def compute_output_shape(self, *shapes: Any) -> Any:
            return shapes  # of another form than what it gives

    return Norm, Rotary


def _attention(keras: Any) -> Any:
    """Attention with fewer keys than queries; it gives a tuple with None."""
    ops, (Norm, Rotary) = keras.ops, _norm_and_rotary(keras)

    class Attention(keras.layers.Layer):
        def __init__(self, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            dense = keras.layers.EinsumDense
            for name, heads in (("query", 4), ("key", 2), ("value", 2)):
                part = dense("abc,cde->abde", (None, heads, width // 4), name=name)
                setattr(self, name, part)
            self.out = dense("abcd,cde->abe", (None, width), name="out")
            self.query_norm, self.rotary = Norm(name="query_norm"), Rotary(name="rotary")

        def call(self, x: Any, mask: Any = None) -> Any:
            query = self.rotary(self.query_norm(self.query(x)))
            key, value = (
                ops.repeat(y, 2, axis=2) for y in (self.rotary(self.key(x)), self.value(x))
            )
            count, steps = ops.shape(x)[0], ops.shape(x)[1]
            causal = ops.arange(steps)[:, None] >= ops.arange(steps)
            causal = ops.broadcast_to(causal, (count, steps, steps))
            scores = ops.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
            scores = ops.where(causal[:, None], scores, -1e9)
            mixed = ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), value)
            return self.out(mixed), None

    return Attention


def _decoder_layer(keras: Any) -> Any:
    """Attention and a gated MLP."""
    (Norm, _), Attention = _norm_and_rotary(keras), _attention(keras)

    class Layer(keras.layers.Layer):
        def __init__(self, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.attention = Attention(width, name="attention")
            self.norms = [Norm(name="first_norm"), Norm(name="second_norm")]
            self.gate = keras.layers.Dense(2 * width, activation=swish_by_hand, name="gate")
            self.wide = keras.layers.Dense(2 * width, use_bias=False, name="wide")
            self.narrow = keras.layers.Dense(width, use_bias=False, name="narrow")

        def call(self, x: Any) -> Any:
            y, _ = self.attention(self.norms[0](x))
            x = x + y
            y = self.norms[1](x)
            return x + self.narrow(self.gate(y) * self.wide(y))

        def compute_output_shape(self, shape: Any) -> Any:
            return shape

    return Layer


def decoder(keras: Any) -> Any:
    """A text decoder: rotary attention with fewer keys than queries, a gated MLP, root mean squares by hand."""
    (Norm, _), Layer = _norm_and_rotary(keras), _decoder_layer(keras)

    class Embedding(keras.layers.ReversibleEmbedding):
        pass

    Embedding.__name__ = "ReversibleEmbedding"
    inner = keras.Input((None,), dtype="int32")
    x = Embedding(30, 40, name="tokens")(inner)
    for number in range(2):
        x = Layer(40, name=f"layer_{number}")(x)
    trunk = keras.Model(inner, Norm(name="norm")(x), name="trunk")
    inputs = keras.Input((12,), dtype="int32")
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(trunk(inputs)), name="decoder")


NETWORKS: dict[str, Callable[[Any], Any]] = {
    made.__name__: made
    for made in (
        *(shufflenet_v2, ghostnet, yolo_v8_nano, mobilevit, swin, decoder),
        *(gated_mixer, learnt_tokens),
    )
}


def make(name: str) -> Any:
    """One of the networks, with random weights."""
    return randomise(NETWORKS[name](backends.keras()))
