"""A Keras model as the bytes of a `.tflite` file, of builtin operators only."""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.exporting.quantization import Quantization


@backends.random_state_kept()
def convert(
    model: Any,
    quantization: Quantization,
    examples: Sequence[Any] = (),
    *,
    integer_inputs: bool = False,
    dense_per_tensor: bool = False,
    in_float: Sequence[str] = (),
) -> bytes:
    """The bytes of the file.

    Args:
        model: a tf_keras or Keras 3 model.
        quantization: how numbers are stored.
        examples: single inputs that activations are measured on, as the converter takes them.
        integer_inputs: whether an input holds whole numbers, such as tokens: then inputs and outputs keep their types.
        dense_per_tensor: whether an int8 kernel of a Dense layer has one scale, not one per output.
        in_float: names of tensors of a calibrated file whose operators stay in float32.

    Raises:
        ValueError: an operator has no builtin counterpart; the message names it and the way out.
    """
    tf = backends.tensorflow()
    with backends.quietly(), _converter(model) as converter:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        quantization.configure(converter)
        if quantization.calibrated:
            converter.representative_dataset = lambda: iter(examples)
        if quantization.io != "float32" and not integer_inputs:
            kind = getattr(tf, quantization.io)
            converter.inference_input_type = converter.inference_output_type = kind
        if dense_per_tensor:
            converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        try:
            return _partly(converter, in_float) if in_float else bytes(converter.convert())
        except Exception as error:
            if type(error).__name__ != "ConverterError":
                raise
            raise ValueError(_explain(str(error), model.name, quantization)) from error


@contextlib.contextmanager
def _converter(model: Any) -> Iterator[Any]:
    """TensorFlow's converter of a model.

    By itself it calls a Keras 3 model that takes a dictionary with a list, which not every such model stands.
    """
    tf = backends.tensorflow()
    inputs = getattr(model, "input", None)  # a Sequential that was never called has none
    if backends.keras_name(model) == "tf_keras" or not isinstance(inputs, Mapping):
        yield tf.lite.TFLiteConverter.from_keras_model(model)
        return
    given = {name: tf.TensorSpec(x.shape, x.dtype, name) for name, x in inputs.items()}
    archive = backends.keras().export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", functools.partial(model.__call__, training=False), [given])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        yield tf.lite.TFLiteConverter.from_saved_model(folder)


def _partly(converter: Any, in_float: Sequence[str]) -> bytes:
    """A calibrated file some of whose operators are not quantised; its inputs and outputs are float32."""
    api = backends.tensorflow().lite.experimental
    options = api.QuantizationDebugOptions(denylisted_nodes=list(in_float))
    debugger = api.QuantizationDebugger(
        converter=converter, debug_dataset=lambda: iter(()), debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())


def _explain(text: str, name: str, quantization: Quantization) -> str:
    """What a converter error means."""
    listed = re.findall(r"^(?:TF Select|Flex|Custom) ops: (.+)$", text, re.MULTILINE)
    ops = sorted({op.strip() for line in listed for op in line.split(",")})
    ops = ops or sorted(set(re.findall(r"'(?:tf|tfl)\.(\w+)' op", text)))
    if ops:
        what = f"the operators {ops} have no builtin counterpart in TFLite"
        if quantization.calibrated:
            what += ", or none in int8"
    else:
        what = text.strip().splitlines()[0]
    way_out = "Exchange the layers that use them"
    if quantization.calibrated:
        way_out += ", or use quantize='dynamic', which computes them in float"
    return f"'{name}' cannot become a .tflite file of builtin operators: {what}. {way_out}."
