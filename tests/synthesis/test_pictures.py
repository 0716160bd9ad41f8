"""Photographs that travel with the package, crops of them, procedural pictures, and what says how near each kind is."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest
import tf_keras
from networks import network

from keras_robust_prune import backends
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.synthesis import inversion
from keras_robust_prune.synthesis.kinds import (
    Synthesis,
    _few,
    resemblance,
    spread,
    synthesize,
)
from keras_robust_prune.synthesis.pictures import (
    _resized,
    crops,
    is_picture,
    photographs,
    procedural,
)
from keras_robust_prune.synthesis.probe import ActivationProbe

FOLDER = importlib.resources.files("keras_robust_prune.synthesis") / "photographs"


def space(*shape: int, num_tokens: int = 0) -> InputSpec:
    return InputSpec(shape, np.float32(0), np.float32(1), num_tokens)


def test_photographs_are_many_small_and_named_with_author_and_licence():
    files = [file.name for file in FOLDER.iterdir() if file.name.endswith(".jpg")]
    assert len(files) >= 20
    assert sum(len((FOLDER / name).read_bytes()) for name in files) <= 1.5e6
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in files:
        stem = name.removesuffix(".jpg").rstrip("0123456789")
        row = next(line for line in table.splitlines() if f"`{stem}" in line)
        assert row.rstrip(" |").endswith(("CC0", "public domain")), name
    assert sum(map(len, photographs())) == len(files)


@pytest.mark.parametrize("draw", [crops, procedural])
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 20, 1), (224, 224, 3)])
def test_pictures_of_any_size_repeat_and_lie_in_the_range(draw, shape):
    x = draw(space(*shape), 6, np.random.default_rng(3))
    assert x.shape == (6, *shape)
    assert x.min() >= 0.0
    assert x.max() <= 1.0
    np.testing.assert_array_equal(x, draw(space(*shape), 6, np.random.default_rng(3)))
    assert (abs(x - x[:1]).reshape(6, -1).max(1)[1:] > 0.1).all()


def test_a_smaller_picture_is_the_mean_of_what_it_covers():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, 4:] = 255
    small = _resized(picture, 2, 8)
    np.testing.assert_allclose(small[:, :4], 0.0, atol=1e-6)
    np.testing.assert_allclose(small[:, 4:], 1.0, atol=1e-6)
    np.testing.assert_allclose(_resized(picture, 8, 8), picture / 255, atol=1e-6)
    even = np.full((9, 7, 3), 51, np.uint8)
    np.testing.assert_allclose(_resized(even, 4, 30), 0.2, atol=1e-6)


def test_what_is_no_picture():
    assert is_picture(space(8, 8, 1))
    for other in (space(7, 32, 3), space(32, 32, 4), space(32, 3), space(8, 8, 1, num_tokens=5)):
        assert not is_picture(other)


def test_spread_takes_every_class_before_it_takes_one_twice():
    classes = np.array([0] * 50 + [1] * 3 + [2] * 10)
    taken = classes[spread(classes, 12, np.random.default_rng(0))]
    assert np.bincount(taken).tolist() == [5, 3, 4]  # 3 of each, then 2 and 1 of what is left
    assert spread(classes, 63, np.random.default_rng(0)).tolist() == list(range(63))


def test_kinds_by_choice():
    graph = read(network("conv_bn"))
    shape = graph.shape(graph.inputs[0])
    assert is_picture(space(*shape)), shape
    (pictures,) = synthesize(graph, (-1.0, 1.0), "photographs", count=16)
    graph = like_pictures(graph, pictures.arrays[0])
    kinds = synthesize(graph, (-1.0, 1.0), count=16)
    assert [kind.name for kind in kinds] == ["inverted", "photographs"]
    for kind in kinds:
        assert kind.distance == pytest.approx(resemblance(split_activations(graph), kind.arrays))
        assert 0.0 <= kind.entropy <= 1.0
        assert kind.arrays[0].min() >= -1.0
        assert kind.arrays[0].max() <= 1.0
    for choice, names in (
        ("inverted", ["inverted"]),
        ("photographs", ["photographs"]),
        ("procedural", ["inverted", "procedural"]),
    ):
        found = synthesize(graph, (-1.0, 1.0), choice, count=16)
        assert sorted(kind.name for kind in found) == names


def test_pictures_that_nothing_says_are_like_the_data_are_left_out():
    """Statistics far from what photographs give, and a network that stores none."""
    graph = read(network("conv_bn"))
    far = {
        (node.layer, "moving_mean"): graph.layer_of(node).weights["moving_mean"] + 100
        for node in inversion.statistics(split_activations(graph))
    }
    layers = backends.tf_keras().layers
    plain = [layers.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)]
    for without in (graph.with_weights(far), read(backends.tf_keras().Sequential(plain))):
        kinds = synthesize(without, (-1.0, 1.0), count=16)
        assert [kind.name for kind in kinds] == ["inverted"]


def test_a_network_without_pictures_has_inverted_inputs_alone():
    graph = read(network("mlp"))
    assert [kind.name for kind in synthesize(graph, count=8)] == ["inverted"]
    with pytest.raises(ValueError, match="Leave it at 'auto'"):
        synthesize(graph, choice="photographs")
    with pytest.raises(ValueError, match="'procedural'"):
        Synthesis("photos")


def test_resemblance_is_zero_where_the_statistics_are_those_of_the_inputs():
    graph = read(network("conv_bn"))
    split = split_activations(graph)
    shape = (40, *graph.shape(graph.inputs[0]))
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    far = resemblance(split, [x])
    assert resemblance(split_activations(like_pictures(graph, x)), [x]) < 1e-3 < far


def like_pictures(graph, x):
    """The network with the statistics that inputs have."""
    split = split_activations(graph)
    layers = dict(split.layers)
    for _ in range(3):  # a layer's statistics change what the next one sees
        layers = _as_seen(split, layers, x)
    return graph.with_weights(
        {
            (name, weight): layers[name][weight]
            for name in layers
            if isinstance(layers[name], dict)
            for weight in ("moving_mean", "moving_variance")
        }
    )


def _as_seen(split, layers, x):
    found = {name: layer for name, layer in layers.items() if isinstance(layer, dict)}
    weights = {(name, key): value for name, part in found.items() for key, value in part.items()}
    graph = split.with_weights(weights)
    for node in inversion.statistics(graph):
        (seen,) = ActivationProbe(graph, [node.inputs[0]]).run([x])
        rows = seen.reshape(-1, seen.shape[-1]).astype(float)
        epsilon = graph.layer_of(node).config["epsilon"]
        found[node.layer] = {
            "moving_mean": rows.mean(0).astype("float32"),
            "moving_variance": np.maximum(rows.var(0) - epsilon, 0).astype("float32"),
        }
    return found


def test_few_inputs_of_a_small_network_are_inverted_first():
    """That 64 are asked for does not make the network one that affords no more: photographs stay the second kind."""
    spec = InputSpec((12, 12, 3), lower=0.0, upper=1.0)
    x = spec.raw(crops(spec, 400, np.random.default_rng(5)))
    layers = [tf_keras.Input((12, 12, 3)), tf_keras.layers.Conv2D(6, 3, use_bias=False)]
    layers += [tf_keras.layers.BatchNormalization(), tf_keras.layers.Flatten()]
    model = tf_keras.Sequential([*layers, tf_keras.layers.Dense(3)])
    seen = model.layers[0](x).numpy().reshape(-1, 6)
    model.layers[1].set_weights([np.ones(6), np.zeros(6), seen.mean(0), seen.var(0)])
    kinds = synthesize(read(model), (0.0, 1.0), count=64)
    assert [(kind.name, len(kind.arrays[0])) for kind in kinds] == [
        ("inverted", 64),
        ("photographs", 64),
    ]
    assert kinds[1].distance < 0.5


def test_networks_too_large_to_invert_many_inputs_have_pictures_first():
    layers = tf_keras.layers
    large = [tf_keras.Input((224, 224, 3)), layers.Conv2D(64, 3), layers.Conv2D(64, 3)]
    assert _few(read(tf_keras.Sequential(large)))  # 1.9e9 multiplications
    small = [tf_keras.Input((32, 32, 3)), layers.Conv2D(64, 3), layers.Conv2D(64, 3)]
    assert not _few(read(tf_keras.Sequential(small)))  # 3e7
