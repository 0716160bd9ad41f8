"""Every layer in terms of the few primitives that the analyses know."""

from keras_robust_prune.layers.lowering.base import LOWERINGS as _LOWERINGS
from keras_robust_prune.layers.lowering.base import LoweringError, lower
from keras_robust_prune.layers.lowering.layers import LAYERS as _LAYERS
from keras_robust_prune.layers.lowering.operators import OPERATORS as _OPERATORS
from keras_robust_prune.layers.lowering.space import SPACE as _SPACE

_LOWERINGS.update({**_LAYERS, **_SPACE, **_OPERATORS})

__all__ = ["LoweringError", "lower"]
