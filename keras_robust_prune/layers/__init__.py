"""What the toolkit knows of every layer type: one file per family, and in it everything."""

from keras_robust_prune.layers import (
    activation,
    arithmetic,
    attention,
    convolution,
    dense,
    indexing,
    merging,
    normalization,
    placing,
    products,
    shaping,
    spatial,
)
from keras_robust_prune.layers.base import (
    KERAS,
    OPERATORS,
    LayerType,
    Unsupported,
    layer_type,
    register_layer,
)
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
    shaping,
    spatial,
):
    KERAS.update(_family.TYPES)
for _operators in (arithmetic, indexing, placing, products):
    OPERATORS.update(_operators.TYPES)

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
