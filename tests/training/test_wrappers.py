"""Masks inside ordinary Keras models: wrap, fit with the callback, strip, files."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from networks import network, outputs_of, random_inputs

from keras_robust_prune import backends
from keras_robust_prune.keras_io.files import load
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.surgery.cutting import mask
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.training.callbacks import RobustPruning
from keras_robust_prune.training.wrappers import (
    masked_layers,
    plan_of,
    set_masks,
    strip,
    wrap,
    write_weights,
)

BOTH = pytest.mark.parametrize("keras", backends.NAMES)


def same(first, second, inputs, tolerance=0.0):
    for got, wanted in zip(outputs_of(first, inputs), outputs_of(second, inputs), strict=True):
        np.testing.assert_allclose(got, wanted, atol=tolerance * np.abs(wanted).max(), rtol=0)


def trainable(keras, name="conv_bn"):
    model = network(name, keras)
    inputs = random_inputs(model, 32)
    targets = outputs_of(model, inputs)[0][::-1].copy()
    return model, inputs, targets


def train(model, inputs, targets, keras, **options):
    module = backends.module(keras)
    model.compile(module.optimizers.SGD(0.01), "mse")
    return model.fit(inputs, targets, batch_size=16, shuffle=False, verbose=0, **options)


@BOTH
def test_wrapping_keeps_outputs_and_twice_is_once(keras):
    model = network("conv_bn", keras)
    masked = wrap(model)
    same(masked, model, random_inputs(model))
    assert wrap(masked) is masked
    assert masked_layers(masked)
    assert strip(model) is model


@BOTH
def test_target_zero_trains_like_the_unwrapped_model(keras):
    model, inputs, targets = trainable(keras)
    masked = wrap(model)
    train(masked, inputs, targets, keras, epochs=2, callbacks=[RobustPruning(0.0, method="norm")])
    train(model, inputs, targets, keras, epochs=2)
    same(masked, model, inputs, 1e-6)


@BOTH
def test_training_prunes_and_stripping_predicts_the_same(keras):
    model, inputs, targets = trainable(keras)
    masked = wrap(model)
    callback = RobustPruning(0.5, begin=1, end=2, method="norm")
    history = train(masked, inputs, targets, keras, epochs=4, callbacks=[callback])
    np.testing.assert_allclose(history.history["pruned_fraction"][0], 0.0)
    assert history.history["pruned_fraction"][-1] == pytest.approx(0.5, abs=0.1)
    small = strip(masked)
    assert small.count_params() < model.count_params()
    same(small, masked, inputs, 1e-5)
    assert strip(small) is small


@BOTH
def test_training_does_not_grow_a_unit_back(keras):
    model, inputs, targets = trainable(keras, "mlp")
    masked = wrap(model)
    train(masked, inputs, targets, keras, epochs=1, callbacks=[RobustPruning(0.5, method="norm")])
    before = {name: layer.mask.numpy() for name, layer in masked_layers(masked).items()}
    outputs = strip(masked).count_params()
    train(masked, inputs, targets, keras, epochs=3, callbacks=[RobustPruning(0.5, method="norm")])
    after = {name: layer.mask.numpy() for name, layer in masked_layers(masked).items()}
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert strip(masked).count_params() == outputs


@BOTH
@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
def test_wrapped_models_save_and_reload_with_masks(keras, suffix, tmp_path):
    if keras == "keras" and not suffix:
        pytest.skip("Keras 3 writes no SavedModel that holds layers")
    model, inputs, targets = trainable(keras)
    masked = wrap(model)
    train(masked, inputs, targets, keras, epochs=1, callbacks=[RobustPruning(0.5, method="norm")])
    masked.save(tmp_path / f"masked{suffix}")
    again = load(tmp_path / f"masked{suffix}")
    same(again, masked, inputs, 1e-6)
    assert strip(again).count_params() == strip(masked).count_params() < model.count_params()
    same(strip(tmp_path / f"masked{suffix}"), strip(masked), inputs, 1e-6)


def test_a_process_that_knows_no_wrapper_yet_reads_wrapped_models(tmp_path):
    paths = [str(tmp_path / "tf_keras.h5"), str(tmp_path / "keras.keras")]
    for keras, path in zip(("tf_keras", "keras"), paths, strict=True):
        wrap(network("conv_bn", keras)).save(path)
    code = "import sys, keras_robust_prune as krp; print(*map(krp.inspect, sys.argv[1:]))"
    told = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False
    )
    assert told.stdout.count("can be pruned") == 2, told.stderr


def test_loading_without_the_package_says_what_is_missing(tmp_path):
    files = {"tf_keras": ["a.h5", "a.keras"], "keras": ["b.h5", "b.keras"]}
    for keras, names in files.items():
        masked = wrap(network("mlp", keras))
        for name in names:
            masked.save(tmp_path / name)
    code = """
import sys, tf_keras, keras
for path in sys.argv[1:]:
    kind = tf_keras if path.startswith("a") else keras
    try:
        kind.models.load_model(path, compile=False)
        print(path, "is loaded")
    except Exception as error:
        print(path, " ".join(str(error).split()))
"""
    paths = [name for names in files.values() for name in names]
    told = subprocess.run(
        [sys.executable, "-c", code, *paths],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    said = dict(line.split(" ", 1) for line in told.stdout.splitlines())
    assert "keras_robust_prune>Masked" in said["a.h5"], told.stderr
    assert "layer=keras_robust_prune_Masked" in said["a.keras"]
    assert "keras_robust_prune>Masked" in said["b.h5"]
    assert "keras_robust_prune.load(path)" in said["b.keras"]


@BOTH
def test_training_a_wrapped_model_without_the_callback_says_so(keras):
    model, inputs, targets = trainable(keras)
    with pytest.warns(UserWarning, match="RobustPruning"):
        train(wrap(model), inputs, targets, keras, epochs=1)


def test_the_callback_refuses_a_plain_model():
    model, inputs, targets = trainable("tf_keras")
    with pytest.raises(ValueError, match=r"krp\.wrap"):
        train(model, inputs, targets, "tf_keras", callbacks=[RobustPruning(0.5, method="norm")])


def test_a_tfmot_schedule_drives_the_callback():
    model, inputs, targets = trainable("tf_keras")
    schedule = backends.tfmot().sparsity.keras.ConstantSparsity(0.5, begin_step=1, frequency=1)
    callback = RobustPruning(schedule=schedule, method="norm")
    history = train(wrap(model), inputs, targets, "tf_keras", epochs=3, callbacks=[callback])
    fractions = history.history["pruned_fraction"]
    assert fractions[0] == 0.0
    assert fractions[1] == fractions[2] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "fix"), [({"target": 2.0}, "less than 1"), ({"begin": 3, "end": 1}, "before")]
)
def test_wrong_arguments_are_refused(arguments, fix):
    with pytest.raises(ValueError, match=fix):
        RobustPruning(**{"method": "norm", **arguments})


@BOTH
@pytest.mark.parametrize("name", ["convnext", "mixer"])
def test_normalised_units_are_masked_and_stripped_also_where_some_are_gone(name, keras):
    model = network(name, keras)
    inputs = random_inputs(model)
    for _ in range(2):
        masked = wrap(model)
        same(masked, model, inputs, 1e-6)
        graph = read(masked)
        groups = find_groups(graph)
        plan = Plan(tuple(Removal(group.name, 1) for group in groups.groups), dict(groups.widths))
        write_weights(masked, mask(graph, groups, plan))
        set_masks(masked, graph, groups, plan)
        assert {(r.group, r.drop) for r in plan_of(masked, graph, groups).removals} == {
            (r.group, r.drop) for r in plan.removals
        }
        model = strip(masked)
        same(model, masked, inputs, 1e-5)
    small = read(model)
    assert small.num_params < graph.num_params
