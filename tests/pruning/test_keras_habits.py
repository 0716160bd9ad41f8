"""What a Keras user takes for granted: callbacks, validation data in any form, classes, compiled models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import read

both = pytest.mark.parametrize(
    "keras", [backends.module(name) for name in backends.NAMES], ids=backends.NAMES
)
X = np.linspace(0, 1, 6 * 4, dtype="float32").reshape(6, 4)
Y = np.array([0, 1, 0, 1, 1, 0])


def network(keras: Any, kind: Any = None, units: int = 8) -> Any:
    x = keras.Input((4,), name="x")
    hidden = keras.layers.Dense(units, "relu", name="hidden")(x)
    out = keras.layers.Dense(2, "softmax", name="out")(hidden)
    return (kind or keras.Model)(x, out, name="m")


@both
def test_epochs_that_begin_end(keras: Any) -> None:
    seen: list[str] = []
    hooks = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(f"begin {epoch}"),
        on_epoch_end=lambda epoch, logs: seen.append(f"end {epoch}"),
    )
    krp.prune(network(keras), method="norm", step=0.25, callbacks=[hooks], verbose=0)
    assert seen == ["begin 0", "end 0", "begin 1", "end 1"]


def forms() -> dict[str, Any]:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in (0, 2, 4):
            yield X[start : start + 2], Y[start : start + 2]

    return {
        "arrays": lambda: (X, Y),
        "weights": lambda: (X, Y, np.ones(6)),
        "dataset": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(4),
        "generator": batches,
        "by name": lambda: ({"x": X}, Y),
        "dataset by name": lambda: tf.data.Dataset.from_tensor_slices(({"x": X}, Y)).batch(4),
    }


@both
@pytest.mark.parametrize("form", forms())
def test_validation_data(form: str, keras: Any) -> None:
    result = krp.prune(
        network(keras),
        method="norm",
        step=0.25,
        validation_data=forms()[form](),
        metrics=["accuracy"],
        verbose=0,
    )
    wanted = krp.evaluate(result.model, X, Y).accuracy
    assert result.history["val_accuracy"] == pytest.approx(
        [result.history["val_accuracy"][0], wanted]
    )
    assert len(result.history["val_accuracy"]) == 2


@both
def test_the_pruned_model_is_compiled_like_the_one_that_came_in(keras: Any) -> None:
    model = network(keras)
    plain = krp.prune(model, method="norm", verbose=0).model
    assert getattr(plain, "optimizer", None) is None
    optimizer = keras.optimizers.SGD(0.25, momentum=0.5)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    small = krp.prune(model, method="norm", verbose=0).model
    assert small.optimizer is not optimizer
    assert float(small.optimizer.learning_rate) == 0.25
    assert small.optimizer.get_config()["momentum"] == 0.5
    found = small.evaluate(X, Y, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(krp.evaluate(small, X, Y).accuracy)
    assert np.isfinite(small.fit(X, Y, epochs=1, verbose=0).history["loss"]).all()


def trainer(keras: Any, *needed: str) -> Any:
    class Trainer(keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            for name in needed:
                kwargs.pop(name)
            super().__init__(*args, **kwargs)

        def train_step(self, data: Any) -> dict[str, Any]:
            return {"mine": tf.constant(7.0)}

    return Trainer


@both
def test_a_train_step_of_ones_own_is_kept(keras: Any) -> None:
    kind = trainer(keras)
    model = network(keras, kind)
    masked = krp.wrap(model)
    small = krp.prune(model, method="norm", verbose=0).model
    for made in (masked, small, krp.strip(masked)):
        assert type(made) is kind
        made.compile("sgd", "mse")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert made.fit(X, Y, verbose=0).history["mine"] == [7.0]
    np.testing.assert_allclose(masked.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6)
    assert small.get_layer("hidden").units == 4


@both
def test_a_train_step_that_cannot_be_kept_is_refused(keras: Any) -> None:
    kind = trainer(keras, "teacher")
    model = network(keras, lambda x, y, name: kind(x, y, name=name, teacher=1))
    for call in (krp.wrap, lambda m: krp.prune(m, method="norm", verbose=0)):
        with pytest.raises(
            ValueError, match=r"trains by train_step of its class Trainer.*teacher.*plain model"
        ):
            call(model)


@both
@pytest.mark.parametrize(
    ("options", "removed", "told"),
    [
        ({"round_to": 8}, 0.0, "0.0% of the units were removed, 50.0% were asked for.*round_to=8"),
        (
            {"target": 0.2, "measure": "params", "round_to": 4},
            4 * 7 / 58,
            "48.3% of the params were removed, 20.0% were asked for: .*took more. They go in steps of 4",
        ),
        ({"target": 0.7}, 5 / 8, None),  # 5.6 of 8 units: whole ones are removed
        (
            {"target": 0.2, "measure": "params"},
            2 / 8 * 56 / 58,
            None,
        ),  # 7 parameters per unit and 2
    ],
    ids=str,
)
def test_a_missed_target_is_told(
    options: dict[str, Any], removed: float, told: str | None, keras: Any
) -> None:
    def prune() -> Any:
        return krp.prune(network(keras), method="norm", verbose=0, **options)

    if told is None:
        result = prune()
    else:
        with pytest.warns(UserWarning, match=told):
            result = prune()
    assert result.removed == pytest.approx(removed)
    assert (
        f"{result.removed:.1%} of the {result.measure}, {result.asked:.1%} asked for"
        in result.summary()
    )


class Steps:
    """As of tfmot: training steps, every tenth of them."""

    begin_step, end_step, frequency = 10, 30, 10

    def __call__(self, step: int) -> tuple[bool, float]:
        return (step - 10) % 10 == 0, {10: 0.25, 20: 0.5, 30: 0.75}[step]


@both
def test_a_schedule_with_a_frequency_counts_training_steps(keras: Any) -> None:
    masked = krp.wrap(network(keras))
    masked.compile("sgd", "sparse_categorical_crossentropy")
    # six steps an epoch: 0, 6, 12, 18, 24, 30, 36 are done when an epoch begins
    history = masked.fit(
        X,
        Y,
        batch_size=1,
        epochs=7,
        verbose=0,
        callbacks=[krp.RobustPruning(schedule=Steps(), method="norm")],
    )
    assert history.history["pruned_fraction"] == [0, 0, 0.25, 0.25, 0.5, 0.75, 0.75]


@both
def test_restored_weights_from_before_the_pruning_are_told(keras: Any) -> None:
    masked = krp.wrap(network(keras))
    masked.compile("sgd", "sparse_categorical_crossentropy")
    before = masked.get_weights()
    masked.fit(X, Y, verbose=0, callbacks=[krp.RobustPruning(0.5, method="norm")])
    assert krp.strip(masked).get_layer("hidden").units == 4
    masked.set_weights(before)  # as EarlyStopping(restore_best_weights=True) does
    with pytest.warns(
        UserWarning, match=r"pruned by 50.0%, but its masks remove 0.0%.*start_from_epoch"
    ):
        assert krp.strip(masked).get_layer("hidden").units == 8


@both
def test_a_network_that_slices(keras: Any) -> None:
    """As every transformer does that reads its class token; `x[..., :2]` and `x[:, 0]` stand in the calls."""
    x = keras.Input((4, 6), name="x")
    y = keras.layers.Dense(8, "relu", name="hidden")(x)[:, 0]
    y = keras.layers.Dense(8, "relu", name="other")(y)[..., 2:]
    result = krp.prune(keras.Model(x, keras.layers.Dense(2)(y)), 0.5, method="norm", verbose=0)
    assert result.plan.widths == {"hidden": 8, "other": 6}
    facts = dict(result.origin.facts(read(result.model)))
    assert facts["network given"] != facts["network made"]
