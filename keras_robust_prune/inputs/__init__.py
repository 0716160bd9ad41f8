"""What the inputs of a network may be, and where real ones come from."""

from keras_robust_prune.inputs.loading import by_input, with_examples
from keras_robust_prune.inputs.spec import InputSpec, ends_of, parse_range

__all__ = ["InputSpec", "by_input", "ends_of", "parse_range", "with_examples"]
