"""compile/fit style pruning: what callbacks see, every way out of `fit`, resumption."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from networks import network, outputs_of, random_inputs

from keras_robust_prune import backends
from keras_robust_prune.pruning.prune import prune
from keras_robust_prune.pruning.pruner import Pruner
from keras_robust_prune.surgery.plan import Plan

BOTH = pytest.mark.parametrize("keras", backends.NAMES)


def labelled(model, count=32):
    """Random inputs, and as labels what the model itself answers: its accuracy is 1."""
    inputs = random_inputs(model, count)
    return inputs, np.argmax(outputs_of(model, inputs)[0], axis=-1)


@BOTH
def test_prune_halves_every_layer_and_leaves_the_model_alone(keras):
    model = network("mlp", keras)
    before = [value.copy() for value in model.get_weights()]
    result = prune(model, 0.5, method="norm", step=0.25, verbose=0)
    for group, width in result.plan.widths.items():
        assert len(result.plan.kept(group)) == (width + 1) // 2
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert backends.keras_name(result.model) == keras
    assert result.model.count_params() == result.graph.num_params < model.count_params()
    assert "T0" in result.summary()  # norm reads weights alone


@BOTH
def test_target_zero_is_identity(keras):
    model = network("mlp", keras)
    result = prune(model, 0.0, method="norm", verbose=0)
    inputs = random_inputs(model)
    for got, wanted in zip(
        outputs_of(result.model, inputs), outputs_of(model, inputs), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


@BOTH
def test_masked_model_computes_what_the_smaller_one_does(keras):
    model = network("conv_bn", keras)
    pruner = Pruner(model)
    pruner.compile("random", 0.5, step=0.25)
    assert pruner.masked is pruner.masked
    pruner.fit(verbose=0)
    inputs = random_inputs(model)
    for got, wanted in zip(
        outputs_of(pruner.masked, inputs), outputs_of(pruner.model, inputs), strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


@BOTH
def test_keras_callbacks_see_one_epoch_per_step(keras, tmp_path):
    model = network("mlp", keras)
    module = backends.module(keras)
    pruner = Pruner(model)
    pruner.compile("norm", 0.5, step=0.125, metrics=["accuracy"])
    history = pruner.fit(
        labelled(model),
        callbacks=[
            module.callbacks.CSVLogger(tmp_path / "log.csv"),
            module.callbacks.TensorBoard(tmp_path / "board"),
            module.callbacks.ModelCheckpoint(str(tmp_path / "masked.keras")),
        ],
        verbose=0,
    )
    assert isinstance(history, module.callbacks.History)
    assert history.epoch == [0, 1, 2, 3]
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["params"]) for row in rows] == history.history["params"]
    kept = history.history["kept_units"]
    assert kept == sorted(kept, reverse=True)
    assert set(history.history) >= {"macs", "pruned_fraction", "val_accuracy"}
    assert "val_loss" not in history.history
    assert any((tmp_path / "board").rglob("events*"))
    assert (tmp_path / "masked.keras").exists()


@BOTH
def test_early_stopping_that_restores_weights_restores_the_plan(keras):
    model = network("mlp", keras)
    module = backends.module(keras)
    stopping = module.callbacks.EarlyStopping(
        "kept_units", mode="max", patience=2, restore_best_weights=True
    )
    pruner = Pruner(model)
    pruner.compile("norm", 0.75, step=0.125)
    history = pruner.fit(callbacks=[stopping], verbose=0)
    # The first step keeps most units, so it is the best one; two more were tried.
    assert len(history.epoch) == 3
    kept = sum(pruner.plan.widths.values()) - len(pruner.plan.removals)
    assert kept == history.history["kept_units"][0]
    inputs = random_inputs(model)
    for got, wanted in zip(
        outputs_of(pruner.masked, inputs), outputs_of(pruner.model, inputs), strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_an_exception_in_a_callback_leaves_the_last_step():
    model = network("mlp")
    module = backends.tf_keras()

    class Interrupts(module.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    pruner = Pruner(model)
    pruner.compile("norm", 0.5, step=0.125)
    with pytest.raises(KeyboardInterrupt):
        pruner.fit(callbacks=[Interrupts()], verbose=0)
    assert pruner.state.step == 2
    pruner.fit(verbose=0)
    whole = Pruner(model)
    whole.compile("norm", 0.5, step=0.125)
    whole.fit(verbose=0)
    assert pruner.plan == whole.plan


@pytest.mark.parametrize("method", ["random", "norm", "paper"])
def test_an_interrupted_run_resumes_from_its_checkpoint_to_the_same_result(method, tmp_path):
    model = network("mlp")
    module = backends.tf_keras()

    class Interrupts(module.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    settings = {"method": method, "step": 0.125, "seed": 3, "verbose": 0}
    whole = prune(model, 0.5, **settings)
    with pytest.raises(KeyboardInterrupt):
        prune(model, 0.5, checkpoint=tmp_path / "run", callbacks=[Interrupts()], **settings)
    resumed = prune(model, 0.5, checkpoint=tmp_path / "run", **settings)
    assert len(resumed.history["params"]) == 2
    assert resumed.plan == whole.plan
    for got, wanted in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(ValueError, match="belongs to another run"):
        prune(model, 0.25, checkpoint=tmp_path / "run", **settings)
    (tmp_path / "run").write_text("something else")
    with pytest.raises(FileExistsError, match="is no checkpoint"):
        prune(model, 0.5, checkpoint=tmp_path / "run", **settings)


def test_the_same_call_gives_the_same_plan_and_another_seed_another():
    model = network("mlp")
    plans = [prune(model, 0.5, method="random", seed=s, verbose=0).plan for s in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


def test_a_tfmot_schedule_serves():
    sparsity = backends.tfmot().sparsity.keras
    schedule = sparsity.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=4, frequency=1)
    result = prune(network("mlp"), method="norm", schedule=schedule, verbose=0)
    assert len(result.history["params"]) == 4
    assert all(2 * len(result.plan.kept(s)) == w for s, w in result.plan.widths.items())


def test_a_tfmot_wrapped_model_is_stripped_first():
    model = network("mlp")
    wrapped = backends.tfmot().sparsity.keras.prune_low_magnitude(model)
    result = prune(wrapped, 0.5, method="norm", verbose=0)
    assert result.plan == prune(model, 0.5, method="norm", verbose=0).plan


def test_a_second_fit_goes_on_to_a_higher_target():
    pruner = Pruner(network("mlp"))
    pruner.compile("norm", 0.25, step=0.125)
    pruner.fit(verbose=0)
    quarter = pruner.plan
    pruner.compile("norm", 0.5, step=0.125)
    pruner.fit(verbose=0)
    assert pruner.plan.removals[: len(quarter.removals)] == quarter.removals
    assert pruner.plan.fraction == 0.5


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"target": 1.0}, "less than 1"),
        ({"target": float("nan")}, "fraction"),
        ({"method": "magic"}, "robust"),
        ({"measure": "flops"}, "macs"),
        ({"keep": ["dense_x"]}, "did you mean"),
        ({"round_to": 0}, "at least 1"),
        ({"step": 0.0}, "more than 0"),
        ({"calibration": "data"}, "weights"),
        ({"calibration": np.zeros((0, 12))}, "no input"),
        ({"calibration": np.full((3, 12), np.nan)}, "NaN"),
        ({"calibration": np.zeros((3, 4))}, "takes"),
        ({"calibration": [np.zeros((3, 12))] * 2}, "2 arrays"),
    ],
)
def test_wrong_arguments_are_refused_with_the_way_out(arguments, fix):
    given = {"method": "norm", "verbose": 0, **arguments}
    with pytest.raises(ValueError, match=fix):
        prune(network("mlp"), **given)


@pytest.mark.parametrize(("device", "tile"), [("gpu", 4), ("cpu", 8), (("cpu", "int8"), 16)])
def test_widths_fit_the_kernels_of_a_device(device, tile):
    tf_keras = backends.tf_keras()
    layers = [tf_keras.Input((8,)), *(tf_keras.layers.Dense(64) for _ in range(3))]
    result = prune(
        tf_keras.Sequential(layers), measure="macs", device=device, method="norm", verbose=0
    )
    widths = [layer.units for layer in result.model.layers]
    assert min(widths) < 64
    assert all(width % tile == 0 for width in widths)
    assert "device=" in result.origin.call


def test_a_device_and_a_number_contradict_each_other():
    with pytest.raises(ValueError, match=r"round_to=8 and device='cpu'.*leave one out"):
        prune(network("mlp"), round_to=8, device="cpu", verbose=0)
    with pytest.raises(ValueError, match="'tpu', but it is one of"):
        prune(network("mlp"), device="tpu", verbose=0)


def test_plan_replays_on_the_dense_network():
    from keras_robust_prune.keras_io.reading import read
    from keras_robust_prune.surgery.cutting import cut, merge
    from keras_robust_prune.surgery.groups import find_groups

    model = network("mlp")
    result = prune(model, 0.5, method="paper", step=0.125, verbose=0)
    plan = Plan.from_json(result.plan.to_json())
    graph = read(model)
    groups = find_groups(graph)
    replayed = cut(merge(graph, groups, plan.removals), groups, plan)
    for name, layer in replayed.layers.items():
        for weight, value in layer.weights.items():
            np.testing.assert_allclose(value, result.graph.layers[name].weights[weight], atol=1e-6)
