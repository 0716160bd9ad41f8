"""One place reads ranges: what it takes, what it refuses, and that everything reads by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tf_keras

import keras_robust_prune as krp
from keras_robust_prune.inputs import InputSpec, parse_range
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs

layers = tf_keras.layers


def test_what_a_range_may_be() -> None:
    both, shapes = ["image", "age"], [(2, 2, 1), (3,)]
    one = parse_range((0, 255), both, shapes)
    assert [spec.ends for spec in one] == ["[0, 255]", "[0, 255]"]
    columns = (np.array([0.0, -1, 2]), np.array([1.0, 1, 4]))
    given = {"age": columns, "image": InputSpec(lower=-1, upper=1)}
    image, age = parse_range(given, both, shapes)
    assert (image.ends, image.shape, image.name) == ("[-1, 1]", (2, 2, 1), "image")
    np.testing.assert_array_equal(age.row("lower"), columns[0])
    again = parse_range((image, age), both, shapes)
    assert [spec.digest for spec in again] == [image.digest, age.digest]


def test_constant_features_are_a_range_of_their_own() -> None:
    """`(x.min(axis=0), x.max(axis=0))` of pictures with an empty border."""
    (spec,) = parse_range((np.zeros(2), np.array([0.0, 4.0])), ["x"], [(2,)])
    np.testing.assert_array_equal(spec.raw(np.full(2, 0.5)), [0, 2])
    np.testing.assert_array_equal(spec.neutral, [0, 0])


def test_open_lengths_are_filled_in() -> None:
    (usual,) = parse_range(None, ["x"], [(None, 3)])
    assert usual.shape == (16, 3)
    (image,) = parse_range(None, ["x"], [(None, None, 3)])
    assert image.shape == (32, 32, 3)
    (known,) = parse_range((np.zeros((5, 3)), 1), ["x"], [(None, 3)])
    assert known.shape == (5, 3)


WRONG: list[tuple[Any, str]] = [
    ((1, 0), "empty"),
    ((0, 0), "empty"),
    ((float("nan"), 1), "not finite"),
    ((-1e38, 1e38), "beyond 1e"),
    (5, "no pair"),
    ("0,1", "no pair"),
    (("0", "1"), "no number"),
    ((0, None), "no number"),
    ((0, 1, 2), "no pair"),
    ((np.zeros(3), 1), "shapes"),
    ({"y": (0, 1)}, "no entry for 'x'.*no input 'y'"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda value: str(value)[:20])
def test_every_way_in_refuses_alike(given: Any, message: str) -> None:
    model = tf_keras.Sequential([tf_keras.Input((4,), name="x"), layers.Dense(8), layers.Dense(2)])
    x = np.full((2, 4), 0.5)
    calls = {
        "norm": lambda: krp.prune(model, method="norm", input_range=given, verbose=0),
        "robust": lambda: krp.prune(model, input_range=given, verbose=0),
        "evaluate": lambda: krp.evaluate(model, x, [0, 1], attacks="pgd@0.1", input_range=given),
        "certify": lambda: krp.certify(model, model, x, 0.1, input_range=given),
    }
    messages = {}
    for name, call in calls.items():
        with pytest.raises(ValueError, match=message) as error:
            call()
        messages[name] = str(error.value)
    assert len(set(messages.values())) == 1, messages
    assert "Pass input_range=(lower, upper)" in messages["norm"]


def test_all_problems_at_once() -> None:
    with pytest.raises(ValueError, match=r"'a'.*empty.*'b'.*no pair"):
        parse_range({"a": (1, 0), "b": 5}, ["a", "b"], [(2,), (2,)])


def asked(*stack: Any, shape: tuple[int, ...] = (4, 4, 3)) -> InputSpec:
    head = [layers.Flatten(), layers.Dense(2)]
    (spec,) = input_specs(
        read(tf_keras.Sequential([tf_keras.Input(shape, name="x"), *stack, *head]))
    )
    return spec


@pytest.mark.parametrize(
    ("layer", "ends"),
    [
        (layers.Rescaling(1 / 255), "[0, 255]"),
        (layers.Rescaling(1 / 127.5, offset=-1), "[0, 255]"),
        (layers.Rescaling(2.0, offset=-1), "[0, 1]"),  # says nothing that is known
        (layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05] * 3), "[0, 1]"),
        (layers.Normalization(mean=[124.0, 116, 104], variance=[3000.0] * 3), "[0, 255]"),
        (layers.Normalization(mean=[-1.0, 0, 1], variance=[4.0] * 3), "[-7, 7]"),
        (layers.BatchNormalization(), "[0, 1]"),  # untrained
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_the_network_says_is_taken(layer: Any, ends: str) -> None:
    assert asked(layer).ends == ends
    assert asked(layers.Dropout(0.1), layer).ends == ends


def test_batch_normalisation_of_a_table_says_where_it_lies() -> None:
    layer = layers.BatchNormalization()
    layer.build((None, 2))
    layer.set_weights([np.ones(2), np.zeros(2), np.array([10.0, -2]), np.array([4.0, 1])])
    spec = asked(layer, shape=(2,))
    np.testing.assert_allclose(spec.lower, [10 - 3 * 2, -2 - 3 * 1])
    np.testing.assert_allclose(spec.upper, [10 + 3 * 2, -2 + 3 * 1])


def test_tokens() -> None:
    spec = asked(layers.Embedding(50, 3), shape=(7,))
    assert (spec.num_tokens, spec.ends) == (50, "50 tokens")


def test_a_leading_rescaling_contradicts_a_small_range() -> None:
    stack = [tf_keras.Input((4, 4, 1), name="x"), layers.Rescaling(1 / 255, name="scale")]
    model = tf_keras.Sequential([*stack, layers.Flatten(), layers.Dense(4), layers.Dense(2)])
    with pytest.warns(
        UserWarning, match=r"\[0, 1\], but 'scale' rescales.*\[0, 255\].*Leave input_range out"
    ):
        krp.prune(model, method="norm", input_range=(0, 1), verbose=0)
    result = krp.prune(model, method="norm", input_range=(0, 255), verbose=0)
    assert result.inputs[0].ends == "[0, 255]"
    assert "in [0, 255]" in result.summary()
    assert krp.prune(model, method="norm", verbose=0).inputs[0].ends == "[0, 255]"


def test_stored_statistics_contradict_a_range_that_cannot_cause_them() -> None:
    inner = layers.Conv2D(2, 3, use_bias=False, kernel_initializer="ones", name="conv")
    norm = layers.BatchNormalization(name="norm")
    model = tf_keras.Sequential(
        [tf_keras.Input((6, 6, 1), name="x"), inner, norm, layers.Flatten(), layers.Dense(2)]
    )
    # of nine weights of 1 and inputs in [0, 1] the sum deviates by at most 4.5
    norm.set_weights([np.ones(2), np.zeros(2), np.full(2, 4.5), np.full(2, 4.4**2)])
    assert input_specs(read(model))[0].ends == "[0, 1]"
    norm.set_weights([np.ones(2), np.zeros(2), np.full(2, 1000.0), np.full(2, 450.0**2)])
    with pytest.warns(UserWarning, match="at least 100 times wider"):
        input_specs(read(model))
    norm.set_weights([np.ones(2), np.zeros(2), np.full(2, 4.5), np.full(2, 0.5**2)])
    with pytest.warns(UserWarning, match="'norm' stores deviations that are"):
        input_specs(read(model), (0, 255))


def test_range_reaches_what_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """A table in its own units: the range of real rows becomes the range."""
    model = tf_keras.Sequential([tf_keras.Input((2,), name="x"), layers.Dense(8), layers.Dense(2)])
    rows = np.array([[100.0, -1], [300, 1], [200, 0]])
    result = krp.prune(model, calibration=rows, method="norm", verbose=0)
    assert result.inputs[0].origin == "of the examples"
    np.testing.assert_array_equal(result.inputs[0].upper, [300, 1])
    with pytest.warns(UserWarning, match="reach from -1 to 300, but its range is"):
        krp.prune(model, calibration=rows, input_range=(0, 1), method="norm", verbose=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"target": "0.5"}, "target is '0.5'"),
        ({"target": None}, "target is None"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "0"}, "seed is '0'"),
        ({"round_to": 2.0}, "round_to is 2.0"),
        ({"round_to": 0, "seed": 0.5, "target": 1.0}, "target.*round_to.*seed"),
        ({"step": "fast"}, "step is 'fast'"),
        ({"keep": "dense"}, r"keep=\['dense'\]"),
        ({"keep": [3]}, "by name"),
    ],
    ids=str,
)
def test_other_values_out_of_range_are_one_message(option: dict[str, Any], message: str) -> None:
    model = tf_keras.Sequential(
        [tf_keras.Input((4,)), layers.Dense(8, name="dense"), layers.Dense(2)]
    )
    with pytest.raises(ValueError, match=message):
        krp.prune(model, method="norm", verbose=0, **option)


def test_keep_none_keeps_nothing() -> None:
    model = tf_keras.Sequential([tf_keras.Input((4,)), layers.Dense(8), layers.Dense(2)])
    assert krp.prune(model, method="norm", keep=None, verbose=0).model.layers[0].units == 4
