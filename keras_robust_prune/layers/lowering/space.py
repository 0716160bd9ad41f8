"""Convolution, pooling, padding and the other layers that work over space."""

from __future__ import annotations

import numpy as np

from keras_robust_prune.layers.lowering.base import Call, Lowering
from keras_robust_prune.layers.lowering.layers import move
from keras_robust_prune.primitives.base import MatMul
from keras_robust_prune.primitives.windows import (
    AveragePool,
    Convolution,
    MaxPool,
    TransposedConvolution,
    Window,
)


def spread(value: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    """One number per spatial axis."""
    return tuple(value) if isinstance(value, (list, tuple)) else (int(value),) * rank


def _window(call: Call, x: int, kernel: np.ndarray) -> Window:
    size = call.shape(x)[:-1]
    rank = len(size)
    config = call.config
    return Window.of(
        size,
        kernel.shape[:rank],
        spread(config.get("strides", 1), rank),
        config.get("padding", "valid"),
        spread(config.get("dilation_rate", 1), rank),
    )


def _kernel(call: Call, name: str) -> np.ndarray:
    kernel = call.weight(name)
    if kernel is None:
        raise call.refuse(f"holds no '{name}'.")
    return kernel


def convolution(call: Call) -> int:
    """Conv1D, Conv2D, Conv3D; 1x1 ones are matrix products."""
    (x,) = call.inputs
    kernel, bias = _kernel(call, "kernel"), call.weight("bias")
    window, groups = _window(call, x, kernel), int(call.config.get("groups", 1))
    if set(window.kernel) == set(window.strides) == {1} and groups == 1:
        return call.emit(MatMul(call.shape(x), kernel.reshape(kernel.shape[-2:]), bias), x)
    return call.emit(Convolution(window, kernel, bias, groups), x)


def depthwise(call: Call, bias: np.ndarray | None) -> int:
    """One small convolution per channel."""
    (x,) = call.inputs
    kernel = _kernel(call, "depthwise_kernel")
    groups = kernel.shape[-2]
    window = _window(call, x, kernel)
    flat = kernel.reshape(*kernel.shape[:-2], 1, -1)
    return call.emit(Convolution(window, flat, bias, groups), x)


def separable(call: Call) -> int:
    """A depthwise convolution and a matrix product over channels."""
    place = depthwise(call, None)
    kernel = _kernel(call, "pointwise_kernel")
    matrix = kernel.reshape(kernel.shape[-2:])
    return call.emit(MatMul(call.shape(place), matrix, call.weight("bias")), place)


def transposed(call: Call) -> int:
    """The transpose of the convolution that would bring the output back to the input."""
    (x,) = call.inputs
    kernel = _kernel(call, "kernel")
    rank = kernel.ndim - 2
    out = call.out_shape[:-1]
    config = call.config
    strides, dilation = (spread(config.get(k, 1), rank) for k in ("strides", "dilation_rate"))
    size = call.shape(x)[:-1]
    before = []
    for n, o, k, s, d in zip(size, out, kernel.shape[:rank], strides, dilation, strict=True):
        total = max((n - 1) * s + (k - 1) * d + 1 - o, 0)
        before.append(total // 2 if config.get("padding") == "same" else 0)
    window = Window(out, kernel.shape[:rank], strides, dilation, tuple(before), size)
    return call.emit(TransposedConvolution(Convolution(window, kernel), call.weight("bias")), x)


def pool(call: Call) -> int:
    """MaxPooling and AveragePooling."""
    (x,) = call.inputs
    *size, channels = call.shape(x)
    kernel = spread(call.config["pool_size"], len(size))
    strides = call.config.get("strides") or kernel
    window = Window.of(size, kernel, spread(strides, len(size)), call.config["padding"])
    if call.layer.kind.startswith("Max"):
        return call.emit(MaxPool(window), x, shape=(*window.out, channels))
    return call.emit(AveragePool(window, channels), x)


def global_pool(call: Call) -> int:
    """GlobalMaxPooling and GlobalAveragePooling."""
    (x,) = call.inputs
    *size, channels = call.shape(x)
    window = Window.of(size, size, size, "valid")
    if call.layer.kind.startswith("GlobalMax"):
        place = call.emit(MaxPool(window), x, shape=(*window.out, channels))
    else:
        place = call.emit(AveragePool(window, channels), x)
    return move(call, place, lambda places: places.reshape(1, *call.out_shape))


def _borders(value: object, rank: int) -> list[tuple[int, int]]:
    """Keras's padding or cropping argument as (before, after) per spatial axis."""
    if isinstance(value, int):
        return [(value, value)] * rank
    items = list(value)  # type: ignore[call-overload]
    if rank == 1 and all(isinstance(item, int) for item in items):
        return [(items[0], items[-1])]
    return [(item, item) if isinstance(item, int) else tuple(item) for item in items]


def zero_padding(call: Call) -> int:
    """ZeroPadding: places -1 all around."""
    (x,) = call.inputs
    rank = len(call.shape(x)) - 1
    borders = [(0, 0), *_borders(call.config["padding"], rank), (0, 0)]
    return move(call, x, lambda places: np.pad(places, borders, constant_values=-1))


def cropping(call: Call) -> int:
    """Cropping."""
    (x,) = call.inputs
    size = call.shape(x)[:-1]
    borders = _borders(call.config["cropping"], len(size))
    spans = [slice(a, n - b) for n, (a, b) in zip(size, borders, strict=True)]
    cut = (slice(None), *spans)
    return move(call, x, lambda places: places[cut])


def upsampling(call: Call) -> int:
    """UpSampling by repetition."""
    (x,) = call.inputs
    if call.config.get("interpolation", "nearest") != "nearest":
        raise call.refuse("interpolates between entries; only interpolation='nearest' has bounds.")
    factors = spread(call.config["size"], len(call.shape(x)) - 1)

    def repeated(places: np.ndarray) -> np.ndarray:
        for axis, factor in enumerate(factors):
            places = np.repeat(places, factor, axis=axis + 1)
        return places

    return move(call, x, repeated)


DIMENSIONS = ("1D", "2D", "3D")
SPACE: dict[str, Lowering] = {
    **{f"Conv{n}": convolution for n in DIMENSIONS},
    **{f"DepthwiseConv{n}": lambda call: depthwise(call, call.weight("bias")) for n in DIMENSIONS},
    **{f"SeparableConv{n}": separable for n in DIMENSIONS},
    **{f"Conv{n}Transpose": transposed for n in DIMENSIONS},
    **{f"{kind}Pooling{n}": pool for kind in ("Max", "Average") for n in DIMENSIONS},
    **{f"Global{kind}Pooling{n}": global_pool for kind in ("Max", "Average") for n in DIMENSIONS},
    **{f"ZeroPadding{n}": zero_padding for n in DIMENSIONS},
    **{f"Cropping{n}": cropping for n in DIMENSIONS},
    **{f"UpSampling{n}": upsampling for n in DIMENSIONS},
}
