"""Synthetic inputs: within range, repeatable, of every shape, and nearer to stored statistics than noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from networks import network

from keras_robust_prune import backends
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.synthesis import inversion
from keras_robust_prune.synthesis.priors import smooth_noise, start
from keras_robust_prune.synthesis.probe import ActivationProbe, logit_refs
from keras_robust_prune.synthesis.synthesis import synthetic_inputs


@pytest.mark.parametrize(
    ("name", "keras"),
    [("mlp", "tf_keras"), ("conv1d", "keras"), ("conv_bn", "keras"), ("two_inputs", "tf_keras")],
)
def test_synthetic_inputs_lie_in_the_range_and_repeat(name, keras):
    graph = read(network(name, keras))
    made = synthetic_inputs(graph, (-2.0, 3.0), count=6, seed=1)
    synthetic_inputs(graph, (-2.0, 3.0), count=6, seed=2)
    again = synthetic_inputs(graph, (-2.0, 3.0), count=6, seed=1)
    for ref, first, second in zip(graph.inputs, made.arrays, again.arrays, strict=True):
        known = tuple(length for length in graph.shape(ref) if length)
        assert first.shape[0] == 6
        assert set(known) <= set(first.shape[1:])
        assert first.min() >= -2.0
        assert first.max() <= 3.0
        np.testing.assert_array_equal(first, second)


def test_tokens_are_whole_numbers_that_the_embedding_knows():
    graph = read(network("embedding"))
    (space,) = input_specs(graph)
    (made,) = synthetic_inputs(graph, count=20).arrays
    assert space.num_tokens > 0
    np.testing.assert_array_equal(made, np.round(made))
    assert made.min() >= 0
    assert made.max() < space.num_tokens


@pytest.mark.slow
def test_one_seed_gives_the_same_bits_on_networks_of_many_normalizations():
    """More than two gradients meet at every convolution: their sum must not depend on which comes first."""
    tf_keras = backends.tf_keras()
    tf_keras.utils.set_random_seed(0)
    applications, shape = tf_keras.applications, (64, 64, 3)
    model = applications.MobileNetV2(weights=None, input_shape=shape, classes=10, alpha=0.35)
    split = split_activations(read(model))
    spaces = input_specs(split, (-1.0, 1.0))
    made = [
        inversion.match(split, logit_refs(split), spaces, 64, np.random.default_rng(0))[0][0]
        for _ in range(3)
    ]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_matching_comes_nearer_to_the_stored_statistics_than_the_prior():
    graph = read(network("conv_bn"))
    split = split_activations(graph)
    made = synthetic_inputs(graph, (-1.0, 1.0), count=32)
    prior = synthetic_inputs(graph, (-1.0, 1.0), count=32, invert=False)
    assert set(made.distance) == {
        node.layer for node in split.nodes if split.layer_of(node).kind == "BatchNormalization"
    }
    for name in made.distance:
        (node,) = split.calls[name]
        layer = split.layers[name]
        mean = layer.weights["moving_mean"]
        deviation = np.sqrt(layer.weights["moving_variance"] + layer.config["epsilon"])

        def distance(arrays, node=node, mean=mean, deviation=deviation):
            (seen,) = ActivationProbe(split, [node.inputs[0]]).run(list(arrays))
            seen = seen.reshape(-1, seen.shape[-1])
            shift = np.square((seen.mean(0) - mean) / deviation).mean()
            return shift + np.square(seen.std(0) / deviation - 1).mean()

        assert distance(made.arrays) < distance(prior.arrays)
        assert made.distance[name] == pytest.approx(distance(made.arrays), rel=0.5)


@pytest.mark.parametrize("shape", [(5,), (12, 2), (8, 9, 3), (4, 5, 6, 2)])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (-5.0, 0.0)])
def test_the_prior_stays_between_the_bounds(shape, bounds):
    space = InputSpec(shape, *(np.float32(bound) for bound in bounds))
    drawn = space.raw(start(space, 7, np.random.default_rng(0)))
    assert drawn.shape == (7, *shape)
    assert drawn.min() >= bounds[0] - 1e-6
    assert drawn.max() <= bounds[1] + 1e-6
    assert (drawn.reshape(7, -1).std(1) > 0).all()


def test_smooth_noise_changes_less_between_neighbours_than_white_noise():
    noise = smooth_noise((32, 32, 1), 8, np.random.default_rng(0))
    # White noise of deviation 1 has neighbours sqrt(2) apart in root mean square.
    assert np.sqrt(np.square(np.diff(noise, axis=1)).mean()) < 0.5 * np.sqrt(2)
    np.testing.assert_allclose(noise.reshape(8, -1).std(1), 1.0, atol=1e-3)


def test_ranges_that_make_no_sense_are_refused_together():
    graph = read(network("two_inputs"))
    names = [ref.node for ref in graph.inputs]
    with pytest.raises(ValueError, match=r"no entry.*not finite.*Pass input_range"):
        input_specs(graph, {names[1]: (0.0, np.inf)})
    spaces = input_specs(graph, {names[0]: (0.0, 1.0), names[1]: (-4.0, 4.0)})
    assert [float(space.upper) for space in spaces] == [1.0, 4.0]
    assert dataclasses.replace(spaces[0], lower=np.float32(-1)).neutral == pytest.approx(0.5)
