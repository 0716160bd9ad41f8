"""Distillation on large networks, and what decides how far of its way is gone."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from keras_robust_prune import backends, memory
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.repair.course import Course
from keras_robust_prune.methods.repair.distillation import best_way, distil, last_map
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.methods.run import Run
from keras_robust_prune.methods.stages import NONE
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.kinds import Synthesis


@pytest.mark.parametrize(
    ("half", "whole", "expected"),
    [
        ([0.9, 1.05], [0.5, 1.05], 1.0),  # .9 * 1.05 against .5 * 1.05; a twentieth lost is borne
        ([0.9, 0.9], [0.2, 1.5], 0.5),  # half of what the second kind had is not
        ([0.9, 1.2], [0.2, 1.5], 0.0),
        ([1.05, 1.05], [1.0, 1.0 + 1e-9], 0.0),
        ([np.nan, 0.1], [0.9, 0.99], 1.0),
    ],
)
def test_the_way_goes_where_kinds_gain_together_and_none_loses_much(half, whole, expected):
    errors = {0.0: np.ones(2), 1.0: np.array(whole), 0.5: np.array(half)}
    assert best_way(errors) == expected


def convolutions(keras="tf_keras"):
    module = backends.module(keras)
    module.utils.set_random_seed(1)
    layers = module.layers
    return module.Sequential(
        [
            module.Input((12, 12, 3)),
            layers.Conv2D(8, 3, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.Conv2D(10, 3, activation="relu", name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.5),
            layers.Dense(4, activation="softmax", name="logits"),
        ]
    )


@functools.cache
def pruned_once(keras="tf_keras"):
    graph = read(convolutions(keras))
    problem = Problem(graph, find_groups(graph), input_range=(-1.0, 1.0))
    run = Run(problem, Synthesis("procedural", num_inputs=64))
    (state,) = Robust(repair=(LeastSquares(),), synthesis=run.synthesis).steps(problem)
    return run, state


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_the_last_map_is_the_one_before_pooling_and_loses_channels_with_it(keras):
    run, state = pruned_once(keras)
    found = last_map(run, state)
    assert run.dense.shape(found.ref) == (8, 8, 10)
    dropped = next(d for d in state.plan.dropped.values() if len(d) == 10)
    np.testing.assert_array_equal(found.kept, np.flatnonzero(~dropped))
    assert len(found.kept) == 5


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_the_last_map_is_found_through_a_head_of_several_layers(keras):
    """As people put on a trained network: pooled, flattened, a dense layer, another; 6 of 12 channels stay."""
    layers = backends.module(keras).layers
    head = [layers.AveragePooling2D(4), layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(2)]
    model = backends.module(keras).Sequential(
        [layers.Input((10, 10, 1)), layers.Conv2D(12, 3, activation="relu", name="last"), *head]
    )
    graph = read(model)
    problem = Problem(graph, find_groups(graph), target=0.5, input_range=(0.0, 1.0))
    (state,) = Robust(repair="reconstruct", synthesis=Synthesis(num_inputs=64)).steps(problem)
    found = last_map(Run(problem, Synthesis()), state)
    assert found.ref.node == "last__activation"
    np.testing.assert_array_equal(found.kept, np.flatnonzero(~state.plan.dropped["last"]))
    assert len(found.kept) == 6


def test_a_network_without_positions_has_no_last_map():
    layers = backends.tf_keras().layers
    graph = read(
        backends.tf_keras().Sequential(
            [layers.Input((6, 6, 1)), layers.Flatten(), layers.Dense(4), layers.Dense(2)]
        )
    )
    problem = Problem(graph, find_groups(graph), input_range=(0.0, 1.0))
    assert last_map(Run(problem, Synthesis()), problem.first_state()) is None


def test_a_batch_that_memory_makes_smaller_takes_more_steps():
    """Of one input the tensors, with gradients, are 11 MB: the .1 GB that a limit leaves for them hold 8 of 32."""
    layers = backends.tf_keras().layers
    head = [layers.GlobalAveragePooling2D(), layers.Dense(2)]
    first = layers.Conv2D(8, 1, activation="relu")
    graph = read(backends.tf_keras().Sequential([layers.Input((224, 224, 3)), first, *head]))
    x = [np.zeros((2, 224, 224, 3), "float32")]
    courses = []
    for gigabytes in (None, 1.301):
        with memory.limited(gigabytes):
            courses.append(Course(graph, graph, [x], input_specs(graph), perturb=False, seed=0))
    usual, small = courses
    assert (usual.batch_size, usual.num_steps) == (32, 200)
    assert small.batch_size == 8
    assert small.num_steps == np.ceil(200 * 32 / small.batch_size)


def test_inputs_that_stay_are_answered_once_and_the_map_is_learnt_too():
    run, state = pruned_once()
    dense, small = run.problem.graph, cut(state.graph, run.problem.groups, state.plan)
    used, held = run.inputs
    assert [kind.name for kind in run.kinds if kind.is_picture] == ["procedural"]
    course = Course(dense, small, used, run.spaces, False, 0, [1.0, 0.5], last_map(run, state))
    first, again = course.batch(1, 40), course.batch(21, 40)  # 40 steps take 20 batches, twice
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sorted(course.answers) == [1]
    logits, last = course.answers[1]
    assert logits.shape == (32, 4)
    assert last.shape == (32, 8, 8, 5)
    fresh = course._targets([first[1]])
    np.testing.assert_allclose(logits, fresh[0], atol=1e-2)
    rng = np.random.default_rng(0)
    shaken = small.with_weights(
        {
            (layer.name, weight): value + rng.normal(0, 0.2, value.shape).astype("float32")
            for layer in small.layers.values()
            for weight, value in layer.weights.items()
            if weight in ("kernel", "bias")
        }
    )
    done = distil(
        dense,
        shaken,
        used[:1],
        held[:1],
        run.spaces,
        num_steps=100,
        perturb=False,
        last=last_map(run, state),
    )
    assert done.error_after < done.error_before
    assert done.kept > 0
    assert done.radius == 0.0


def test_kinds_count_by_their_share_however_many_inputs_they_have():
    run, state = pruned_once()
    small = cut(state.graph, run.problem.groups, state.plan)
    one, other = (np.full((n, 12, 12, 3), value, "float32") for n, value in ((30, 0.0), (3, 1.0)))
    course = Course(run.problem.graph, small, [[one], [other]], run.spaces, False, 0, [1.0, 0.25])
    drawn = [np.asarray(course.batch(k, 400)[1]).mean() for k in range(40)]
    assert np.mean(drawn) == pytest.approx(0.25 / 1.25, abs=0.03)


@pytest.mark.parametrize(("perturb", "expected"), [(False, 0.8), (True, 0.0)])
def test_what_can_be_drawn_anew_is_where_inputs_stay(perturb, expected):
    """Black inputs of two kinds, of which the first, four of five, is drawn anew and white."""
    run, state = pruned_once()
    small = cut(state.graph, run.problem.groups, state.plan)
    (space,) = run.spaces
    black = [np.full((4, *space.shape), -1.0, "float32")]

    def white(space, count, rng):
        return np.ones((count, *space.shape), "float32")

    course = Course(
        run.problem.graph,
        small,
        [black, black],
        run.spaces,
        perturb,
        0,
        [1.0, 0.25],
        draws=[white, None],
    )
    units = [(np.asarray(course.batch(k, 400)[1]) + 1) / 2 for k in range(20)]
    assert np.mean(units) == pytest.approx(expected, abs=0.05)
    assert (black[0] == -1.0).all()


def test_what_is_trained_has_no_one_pixel_convolution_with_strides():
    """TensorFlow's gradient of such a kernel writes past its array; here it is never asked for."""
    tf_keras = backends.tf_keras()
    layers, x = tf_keras.layers, tf_keras.Input((12, 12, 4))
    y = layers.Add()([layers.Conv2D(6, 1, 2)(x), layers.Conv2D(6, 3, 2, "same")(x)])
    model = tf_keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(y)))
    graph = read(model)
    problem = Problem(graph, find_groups(graph), input_range=(0.0, 1.0))
    images = np.random.default_rng(0).random((8, 12, 12, 4), np.float32)
    course = Course(graph, graph, [[images]], problem.inputs, True, 0)
    for probe in (course.teacher, course.student):
        convolutions = [n for n in probe.model.layers if isinstance(n, layers.Conv2D)]
        sizes = [(layer.kernel_size, layer.strides) for layer in convolutions]
        assert sorted(sizes) == [((1, 1), (1, 1)), ((3, 3), (2, 2))]
    assert course.train(2, None, 0, NONE) == 2
    for name, layer in course.trained().layers.items():
        assert layer.config == graph.layers[name].config
        assert all(layer.weights[k].shape == v.shape for k, v in graph.layers[name].weights.items())
