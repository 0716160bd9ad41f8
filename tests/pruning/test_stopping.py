"""Stopping criteria: how they read, and that pruning ends at the last step that meets them."""

from __future__ import annotations

import numpy as np
import pytest
from networks import network, outputs_of, random_inputs

from keras_robust_prune import backends
from keras_robust_prune.pruning.prune import prune
from keras_robust_prune.pruning.pruner import Pruner
from keras_robust_prune.pruning.stopping import stopping_criterion


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("certified_agreement>=0.9@0.01", ("certified_agreement", "0.01", 0.9, False)),
        ("certified@0.01>=0.5", ("certified", "0.01", 0.5, False)),
        ("pgd@0.05>=0.9*dense", ("pgd", "0.05", 0.9, True)),
        ("pgd-50@8/255 >= 0.5", ("pgd-50", "8/255", 0.5, False)),
        ("agreement>=0.95", ("agreement", "", 0.95, False)),
    ],
)
def test_criteria_read(text, parts):
    criterion = stopping_criterion(text)
    assert (criterion.what, criterion.eps, criterion.value, criterion.relative) == parts
    assert stopping_criterion(repr(criterion)) == criterion


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("as good as it gets", "Examples"),
        ("pgd>=0.9", "needs a radius"),
        ("agreement@0.1>=0.9", "no radius"),
        ("magic@0.1>=0.9", "no attack"),
        ("agreement>=2", "up to 1"),
        ("certified@0.1>=0.9*dense", "cannot count"),
    ],
)
def test_what_is_no_criterion_is_refused(text, fix):
    with pytest.raises(ValueError, match=fix):
        stopping_criterion(text)


def test_pruning_ends_at_the_last_step_that_meets_the_criterion():
    model = network("mlp")
    inputs = random_inputs(model, 200)
    classes = np.argmax(outputs_of(model, inputs)[0], axis=-1)

    def agreement(pruned):
        return np.mean(np.argmax(outputs_of(pruned, inputs)[0], axis=-1) == classes)

    pruner = Pruner(model, input_range=(-1.0, 1.0), calibration=inputs)
    pruner.compile("norm", 0.75, step=0.125)
    shares = []
    collect = backends.tf_keras().callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: shares.append(agreement(pruner.model))
    )
    pruner.fit(callbacks=[collect], verbose=0)
    wanted = min(shares) + 0.001
    keeping = next(step for step, share in enumerate(shares) if share < wanted)
    assert 0 < keeping < 6
    result = prune(
        model,
        0.75,
        step=0.125,
        method="norm",
        input_range=(-1.0, 1.0),
        calibration=inputs,
        stop=f"agreement>={wanted}",
        verbose=0,
    )
    assert len(result.history["params"]) == keeping
    assert "agreement>=" in result.stopped
    assert agreement(result.model) == shares[keeping - 1] >= wanted
    assert f"{shares[keeping - 1]:.4f}" in result.criterion


def test_a_criterion_needs_inputs():
    with pytest.raises(ValueError, match="forbids"):
        prune(network("mlp"), 0.5, method="norm", calibration="weights", stop="agreement>=0.9")
