"""The table of test networks: small, random but seeded, in either Keras.

Every entry of `NETWORKS` is a function from a Keras module to a model. `network(name, keras)` gives it weights that
hide no mistake: BatchNormalization with statistics and gammas of either sign, biases that are not zero. `CASES` is
every network in both Keras versions, to parametrise over; `CHAIN_CASES` those of them that are chains.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from networks_chains import CHAINS
from networks_graphs import GRAPHS
from networks_normalised import NORMALISED as NORMALISED

from keras_robust_prune import backends

NETWORKS: dict[str, Callable[[Any], Any]] = {
    make.__name__: make for make in CHAINS + GRAPHS + NORMALISED
}
CASES = [(name, keras) for name in NETWORKS for keras in backends.NAMES]
CHAIN_CASES = [(make.__name__, keras) for make in CHAINS for keras in backends.NAMES]


def network(name: str, keras: str = "tf_keras") -> Any:
    """The network of that name in `"tf_keras"` or `"keras"`, with its random weights."""
    module = backends.module(keras)
    module.utils.set_random_seed(0)
    return randomise(NETWORKS[name](module), zlib.crc32(name.encode()))


def wrapped(strategy: Any, keras: str, num_inputs: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """A wrapped and compiled network in a strategy's scope, with inputs and labels; the same every time.

    It has no BatchNormalization, which would see the batches of each replica alone.
    """
    import keras_robust_prune as krp

    module = backends.module(keras)
    with strategy.scope():
        model = krp.wrap(network("mlp", keras))
        loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(module.optimizers.SGD(0.01), loss)
    rng = np.random.default_rng(0)
    x = rng.random((num_inputs, *model.input_shape[1:]), np.float32)
    return model, x, rng.integers(0, model.output_shape[-1], num_inputs)


def randomise(model: Any, seed: int = 0) -> Any:
    """Gives a model random weights, the same for the same seed in either Keras."""
    generator = np.random.default_rng(seed)
    model.set_weights(
        [random_weight(weight, value, generator) for weight, value in named_weights(model)]
    )
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def named_weights(model: Any) -> list[tuple[str, np.ndarray]]:
    paths = [getattr(weight, "path", None) or weight.name for weight in model.weights]
    names = [path.split(":")[0].split("/")[-1] for path in paths]
    return list(zip(names, model.get_weights(), strict=True))


def random_weight(name: str, value: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A value for one weight: scaled so that signals neither die nor explode."""
    if not np.issubdtype(value.dtype, np.floating):
        return value
    if name in ("moving_variance", "variance"):
        return generator.uniform(0.5, 2.0, value.shape).astype(value.dtype)
    if name == "gamma":
        sign = generator.choice([-1.0, 1.0], value.shape, p=[0.2, 0.8])
        return (sign * generator.uniform(0.5, 1.5, value.shape)).astype(value.dtype)
    spread = 0.3 if value.ndim < 2 else 1.4 / np.sqrt(np.prod(value.shape[:-1]))
    return generator.normal(0.0, spread, value.shape).astype(value.dtype)


def random_inputs(model: Any, batch: int = 4, seed: int = 0) -> Any:
    """Inputs a model accepts: in [-1, 1], or whole numbers below 10; a list for several inputs."""
    generator = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (batch, *(size or 6 for size in tuple(tensor.shape)[1:]))
        if "int" in str(getattr(tensor.dtype, "name", tensor.dtype)):
            arrays.append(generator.integers(0, 10, shape).astype("int32"))
        else:
            arrays.append(generator.uniform(-1.0, 1.0, shape).astype("float32"))
    return arrays[0] if len(arrays) == 1 else arrays


def outputs_of(model: Any, inputs: Any) -> list[np.ndarray]:
    """What a model answers, as arrays in the order of its outputs."""
    return [np.array(part) for part in backends.tensorflow().nest.flatten(model(inputs))]
