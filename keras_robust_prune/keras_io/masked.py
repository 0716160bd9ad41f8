"""The layer of this package: a wrapper that holds a mask, inside an ordinary Keras model and its file."""

from __future__ import annotations

import functools
import warnings
from typing import Any

from keras_robust_prune import backends

# Stands in the file, and in what Keras says when it meets the wrapper without this package.
LOAD_WITH = "keras_robust_prune.load(path)"


@functools.cache
def masked_class(keras: str) -> Any:
    """The wrapper of one Keras: its inner layer sees 0 instead of every masked unit.

    Args:
        keras: `"tf_keras"` or `"keras"`.
    """
    module, tensorflow = backends.module(keras), backends.tensorflow()
    registered = module.saving.register_keras_serializable("keras_robust_prune", "Masked")

    base: Any = module.layers.Wrapper

    @registered
    class Masked(base):
        """Multiplies its input by a mask along one axis, then calls the layer inside."""

        def __init__(self, layer: Any, axis: int, length: int, **kwargs: Any) -> None:
            kwargs.pop("load_with", None)
            kwargs.setdefault("name", layer.name)
            super().__init__(layer, **kwargs)
            self.axis, self.length = int(axis), int(length)
            self.mask_is_scheduled = False
            self.fraction_pruned = 0.0

        @property
        def krp_masked_layer(self) -> Any:
            return self.layer

        def build(self, input_shape: Any = None) -> None:
            super().build(input_shape)
            self.mask = self.add_weight(
                name="mask", shape=(self.length,), initializer="ones", trainable=False
            )

        def call(self, inputs: Any, *args: Any, training: Any = None, **kwargs: Any) -> Any:
            if training is True and not self.mask_is_scheduled:
                warnings.warn(
                    f"'{self.name}' is wrapped for pruning, but nothing sets its mask: it trains"
                    " like the plain layer. Pass callbacks=[krp.RobustPruning(...)] to fit, or"
                    " strip the model first with krp.strip(model).",
                    stacklevel=2,
                )
            shape = [1] * len(inputs.shape)
            shape[self.axis + 1] = self.length
            mask = tensorflow.reshape(tensorflow.cast(self.mask, inputs.dtype), shape)
            return self.layer(inputs * mask, *args, **kwargs)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return self.layer.compute_output_shape(input_shape)

        def get_config(self) -> dict[str, Any]:
            own = {"axis": self.axis, "length": self.length, "load_with": LOAD_WITH}
            return {**super().get_config(), **own}

    # All that tf_keras says of a `.keras` file whose class it does not know is the class's name.
    Masked.__name__ = "keras_robust_prune_Masked"
    return Masked
