"""A program computes what the Keras model computes, layer by layer and network by network, in both Keras versions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import CASES, network, outputs_of, random_inputs, randomise

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.activation import MIXING
from keras_robust_prune.layers.base import LayerType, register_layer
from keras_robust_prune.layers.calls import Call, LoweringError
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.primitives import activations
from keras_robust_prune.primitives.linear import Scale

WITHOUT_BOUNDS = {"attention", "constants_as_layers", "embedding", "recurrent", "normalized"}
WITHOUT_BOUNDS |= {"transformer", "post_norm"}


def agree(model: Any, inputs: Any, tolerance: float = 1e-5) -> None:
    given = inputs if isinstance(inputs, list) else [inputs]
    found = lower(read(model))(*(np.asarray(item) for item in given))
    for mine, theirs in zip(found, outputs_of(model, inputs), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=tolerance * (1 + np.abs(theirs).max()))


@pytest.mark.parametrize(("name", "keras"), [c for c in CASES if c[0] not in WITHOUT_BOUNDS])
def test_networks(name: str, keras: str):
    model = network(name, keras)
    agree(model, random_inputs(model))


@pytest.mark.parametrize("name", sorted(WITHOUT_BOUNDS))
def test_layers_without_bounds_are_named_with_a_way_out(name: str):
    with pytest.raises(LoweringError, match="register_layer") as caught:
        lower(read(network(name)))
    assert "'" in str(caught.value)


def spatial(kind: str, shape: tuple[int, ...], **config: Any) -> Any:
    return pytest.param(kind, shape, config, id=f"{kind}-{config}")


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize(
    ("kind", "shape", "config"),
    [
        spatial("Conv1D", (9, 3), filters=4, kernel_size=3, strides=2, padding="same"),
        spatial("Conv1D", (9, 3), filters=4, kernel_size=3, padding="causal", dilation_rate=2),
        spatial("Conv2D", (7, 8, 3), filters=4, kernel_size=(3, 2), strides=(2, 1)),
        spatial("Conv2D", (7, 8, 3), filters=4, kernel_size=3, strides=2, padding="same"),
        spatial("Conv2D", (7, 8, 3), filters=4, kernel_size=3, dilation_rate=2, padding="same"),
        spatial("Conv2D", (6, 6, 4), filters=6, kernel_size=3, groups=2),
        spatial("Conv2D", (6, 6, 4), filters=5, kernel_size=1),
        spatial("Conv3D", (4, 5, 4, 2), filters=3, kernel_size=2, padding="same"),
        spatial("DepthwiseConv2D", (6, 7, 3), kernel_size=3, strides=2, padding="same"),
        spatial("DepthwiseConv2D", (6, 7, 3), kernel_size=3, depth_multiplier=2),
        spatial("SeparableConv2D", (6, 7, 3), filters=5, kernel_size=3, depth_multiplier=2),
        spatial("Conv1DTranspose", (5, 3), filters=2, kernel_size=3, strides=2),
        spatial("Conv2DTranspose", (4, 5, 3), filters=2, kernel_size=3, strides=2, padding="same"),
        spatial("Conv2DTranspose", (4, 5, 3), filters=2, kernel_size=(2, 4), strides=(2, 3)),
        spatial("MaxPooling2D", (7, 6, 3), pool_size=3, strides=2, padding="same"),
        spatial("MaxPooling1D", (7, 3), pool_size=2),
        spatial("AveragePooling2D", (7, 6, 3), pool_size=3, strides=2, padding="same"),
        spatial("AveragePooling3D", (4, 4, 5, 2), pool_size=2),
        spatial("GlobalAveragePooling2D", (4, 5, 3)),
        spatial("GlobalMaxPooling2D", (4, 5, 3), keepdims=True),
        spatial("ZeroPadding2D", (4, 5, 3), padding=((1, 0), (2, 1))),
        spatial("ZeroPadding1D", (4, 3), padding=2),
        spatial("Cropping2D", (4, 5, 3), cropping=((1, 0), (0, 2))),
        spatial("UpSampling2D", (3, 4, 2), size=(2, 3)),
        spatial("Permute", (3, 4, 2), dims=(3, 1, 2)),
        spatial("Reshape", (3, 4, 2), target_shape=(6, -1)),
        spatial("RepeatVector", (4,), n=3),
        spatial("Dense", (5, 4), units=3),
        spatial("BatchNormalization", (5, 4), epsilon=0.1, scale=False),
        spatial("BatchNormalization", (5, 4), axis=1),
        spatial("LayerNormalization", (5, 4), epsilon=0.1),
        spatial("LayerNormalization", (4,), scale=False),
        spatial("Rescaling", (4,), scale=0.5, offset=-1.0),
        spatial("Softmax", (4, 3), axis=1),
        spatial("ReLU", (6,), max_value=1.0, negative_slope=0.1),
        spatial("ReLU", (6,), threshold=0.5, negative_slope=0.1),
        spatial("LeakyReLU", (6,)),
        spatial("PReLU", (4, 3), shared_axes=[1]),
        spatial("ELU", (6,), alpha=0.5),
    ],
)
def test_layers(kind: str, shape: tuple[int, ...], config: dict[str, Any], keras: str):
    module = backends.module(keras)
    model = randomise(
        module.Sequential([module.layers.Input(shape), getattr(module.layers, kind)(**config)])
    )
    agree(model, np.random.default_rng(1).normal(0, 2, (3, *shape)).astype(np.float32))


BOTH = ["elu", "exponential", "gelu", "hard_sigmoid", "linear", "relu", "selu", "sigmoid"]
BOTH += ["softplus", "softsign", "swish", "tanh", "softmax", "mish"]
NEWER = ["relu6", "leaky_relu", "log_sigmoid", "hard_silu", "hard_tanh", "silu", "celu"]
NEWER += [
    "hard_shrink",
    "soft_shrink",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "tanh_shrink",
]


@pytest.mark.parametrize(
    ("name", "keras"),
    [(name, keras) for name in BOTH for keras in backends.NAMES] + [(n, "keras") for n in NEWER],
)
def test_activations(name: str, keras: str):
    module = backends.module(keras)
    layers = [module.layers.Input((7,)), module.layers.Activation(name)]
    x = np.linspace(-8, 8, 70, dtype=np.float32).reshape(10, 7)
    agree(module.Sequential(layers), x, 2e-6)


@pytest.mark.parametrize("keras", backends.NAMES)
def test_every_activation_of_keras_is_in_the_one_table(keras: str):
    """`threshold` needs arguments, so no layer can name it."""
    module = backends.module(keras).activations
    names = {name for name in dir(module) if name.islower() and callable(getattr(module, name))}
    assert names - {"deserialize", "get", "serialize", "threshold"} <= activations.NAMES | MIXING


def test_an_open_size_is_refused_with_the_way_out():
    layers = backends.tf_keras().layers
    model = backends.tf_keras().Sequential([layers.Input((None, None, 3)), layers.Conv2D(2, 3)])
    with pytest.raises(LoweringError, match="fixed input shape"):
        lower(read(model))


def test_a_layer_of_ones_own_is_lowered_as_it_says():
    keras = backends.tf_keras()

    class Halved(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return backends.tensorflow().nn.relu(x / 2)

    class Halves(LayerType):
        def lower(self, call: Call) -> int:
            (x,) = call.inputs
            return call.apply(activations.relu(), call.emit(Scale(call.shape(x), np.array(0.5)), x))

    model = randomise(keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3), Halved()]))
    register_layer("Halved", LayerType)  # what is known, however little, is not opened
    with pytest.raises(LoweringError, match="Halved"):
        lower(read(model))
    register_layer("Halved", Halves)
    agree(model, np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))
