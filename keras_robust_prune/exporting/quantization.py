"""How the numbers of a `.tflite` file are stored and computed: one value per way, and a registry of them.

| name | weights | activations | input and output |
|---|---|---|---|
| `float32` | float32 | float32 | float32 |
| `float16` | float16 | float32 (a GPU computes in float16) | float32 |
| `dynamic` | int8 | float32, quantised on the way | float32 |
| `int8` | int8 | int8 | int8 |
| `int8_float32` | int8 | int8 | float32 |
| `int8_uint8` | int8 | int8 | uint8, as cameras give it |

Kernels of int8 have a scale per output channel, Dense included. Old runtimes, NNAPI and old TFLite Micro read only one
scale of a Dense kernel: `dense_per_tensor` gives it only one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_robust_prune import backends


@dataclasses.dataclass(frozen=True)
class Quantization:
    """One way to store the numbers of a `.tflite` file.

    Attributes:
        name: what `quantize=` and `--quantize` call it.
        configure: sets up a `tf.lite.TFLiteConverter`; everything but builtin operators is switched off before.
        calibrated: whether ranges of activations are measured on inputs; the converter then has a
            `representative_dataset`.
        io: type of the file's float inputs and outputs: `"float32"`, `"int8"` or `"uint8"`.

    Example:
        >>> quantization_for("int8_uint8").io
        'uint8'
    """

    name: str
    configure: Callable[[Any], None]
    calibrated: bool = False
    io: str = "float32"


def _float32(converter: Any) -> None:
    """What the converter does by itself."""


def _float16(converter: Any) -> None:
    tf = backends.tensorflow()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _dynamic(converter: Any) -> None:
    converter.optimizations = [backends.tensorflow().lite.Optimize.DEFAULT]


def _int8(converter: Any) -> None:
    tf = backends.tensorflow()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]


_REGISTRY: dict[str, Quantization] = {
    way.name: way
    for way in (
        Quantization("float32", _float32),
        Quantization("float16", _float16),
        Quantization("dynamic", _dynamic),
        Quantization("int8", _int8, calibrated=True, io="int8"),
        Quantization("int8_float32", _int8, calibrated=True, io="float32"),
        Quantization("int8_uint8", _int8, calibrated=True, io="uint8"),
    )
}


def quantization_names() -> tuple[str, ...]:
    """The names of every registered quantisation."""
    return tuple(_REGISTRY)


def register_quantization(quantization: Quantization) -> None:
    """Adds a way to store numbers, which `krp.export` and the command line then know by its name.

    Args:
        quantization: its name may be that of a registered one, which it replaces.

    Raises:
        ValueError: its name or its type of input and output cannot be.

    Example:
        >>> from keras_robust_prune import backends
        >>> def sixteen_by_eight(converter):
        ...     tf = backends.tensorflow()
        ...     converter.optimizations = [tf.lite.Optimize.DEFAULT]
        ...     converter.target_spec.supported_ops = [
        ...         tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ...     ]
        >>> register_quantization(Quantization("int16x8", sixteen_by_eight, calibrated=True))
        >>> "int16x8" in quantization_names()
        True
        >>> _ = _REGISTRY.pop("int16x8")
    """
    if not quantization.name.isidentifier():
        raise ValueError(
            f"The quantization's name {quantization.name!r} becomes part of file names: use letters,"
            " digits and _."
        )
    if quantization.io not in ("float32", "int8", "uint8"):
        raise ValueError(
            f"The quantization {quantization.name!r} has io={quantization.io!r}, but inputs and"
            " outputs are float32, int8 or uint8."
        )
    _REGISTRY[quantization.name] = quantization


def quantization_for(given: str | Quantization | None) -> Quantization:
    """The quantisation that a name stands for; None is float32.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(given, Quantization):
        return given
    name = "float32" if given in (None, "none") else given
    if name not in _REGISTRY:
        raise ValueError(f"quantize is {given!r}, but it is one of {quantization_names()}.")
    return _REGISTRY[str(name)]
