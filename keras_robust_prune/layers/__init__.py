"""What the toolkit knows of every layer type: one file per family, and in it everything."""

from keras_robust_prune.layers import (
    activation,
    attention,
    convolution,
    dense,
    merging,
    normalization,
    operators,
    shaping,
    spatial,
)
from keras_robust_prune.layers.base import KERAS, LayerType, Unsupported, layer_type, register_layer
from keras_robust_prune.layers.calls import Call, LoweringError
from keras_robust_prune.layers.linear import LinearView, patches, positions
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.layers.splitting import activation_argument, split_activations

for _family in (
    activation,
    attention,
    convolution,
    dense,
    merging,
    normalization,
    operators,
    shaping,
    spatial,
):
    KERAS.update(_family.TYPES)

__all__ = [
    "Call",
    "LayerType",
    "LinearView",
    "LoweringError",
    "Unsupported",
    "activation_argument",
    "layer_type",
    "lower",
    "patches",
    "positions",
    "register_layer",
    "split_activations",
]
