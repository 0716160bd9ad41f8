"""Models that `tensorflow_model_optimization` has made ready for quantisation-aware training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.backends import ModelError


def is_quantised(layer: Any) -> bool:
    """Whether a layer rounds numbers as int8 will, as in quantisation-aware training."""
    return type(layer).__module__.startswith(
        "tensorflow_model_optimization.python.core.quantization"
    )


def made_again(kind: Any, config: Mapping[str, Any]) -> Any:
    """A layer from its configuration, which names classes that only tfmot knows."""
    with backends.tfmot().quantization.keras.quantize_scope():
        return kind.from_config(dict(config))


def refuse_quantised(model: Any) -> None:
    """Raises if any unit of a model is rounded in training: ranges that were learnt for them do not outlast a cut.

    Raises:
        ModelError: with the way out.
    """
    found = [layer.name for layer in getattr(model, "layers", ()) if is_quantised(layer)]
    if found:
        raise ModelError(
            f"'{model.name}' cannot be pruned",
            [
                f"tfmot has made it ready for quantisation-aware training ({len(found)} layers, '{found[0]}' the"
                " first). Prune before: small = krp.prune(model).model, then"
                " tfmot.quantization.keras.quantize_model(small), train that, and"
                " krp.export_tflite(trained, path, 'dynamic') takes the ranges that it learnt."
            ],
        )
