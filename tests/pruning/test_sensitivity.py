"""What each group costs alone: against the literal twin, a cut network run as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tf_keras
from networks import network

import keras_robust_prune as krp
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.saliency import norm_saliency
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.synthesis.probe import ActivationProbe, logit_refs

FRACTIONS = (0.25, 0.5)
CASES = [
    ("residual", "tf_keras"),
    ("residual", "keras"),
    ("two_inputs", "tf_keras"),
    ("two_outputs", "keras"),
    ("operators", "keras"),
    ("mixer", "tf_keras"),
]


def inputs(model: Any, count: int = 12) -> list[np.ndarray]:
    graph = read(model)
    generator = np.random.default_rng(0)
    return [
        generator.random((count, *(length or 8 for length in graph.shape(ref))), np.float32)
        for ref in graph.inputs
    ]


def logits(graph: Any, x: list[np.ndarray]) -> np.ndarray:
    split = split_activations(graph)
    found = ActivationProbe(split, logit_refs(split)).run(x)
    return np.concatenate([part.reshape(len(part), -1) for part in found], axis=1)


@pytest.mark.parametrize(("name", "keras"), CASES)
def test_it_is_what_a_cut_network_says(name: str, keras: str) -> None:
    """Masks and partial runs give what cutting each network and running it whole does."""
    model = network(name, keras)
    x = inputs(model)
    found = krp.sensitivity(model, x if len(x) > 1 else x[0], fractions=(0.5,), verbose=0)
    graph = read(model)
    groups = find_groups(graph)
    whole = logits(graph, x)
    spread = np.sqrt(np.square(whole - whole.mean(0)).sum())
    for row, group in enumerate(groups.groups):
        order = np.argsort(norm_saliency(graph, group), kind="stable")
        count = group.num_units // 2
        removals = tuple(Removal(group.name, int(unit)) for unit in order[:count])
        small = cut(graph, groups, Plan.empty(groups) + removals)
        change = np.sqrt(np.square(logits(small, x) - whole).sum()) / spread
        assert found.scores["change"][row, 0] == pytest.approx(change, rel=1e-3, abs=1e-4)
        assert found.removed[row, 0] == count


def perceptron() -> Any:
    """Six units, each of which carries one class; the second layer's are copied from them."""
    layers = [tf_keras.layers.Dense(6, name=name) for name in ("a", "b")]
    model = tf_keras.Sequential([tf_keras.Input((6,)), *layers, tf_keras.layers.Softmax()])
    scale = np.diag(np.arange(1, 7).astype("float32"))
    model.set_weights([scale, np.zeros(6), np.eye(6), np.zeros(6)])
    return model


def test_accuracy_and_agreement_are_counted() -> None:
    """Units 1 and 2 of six go first: their inputs fall to class 0, which stays right for the first of them."""
    found = krp.sensitivity(perceptron(), np.eye(6), np.arange(6), fractions=(1 / 3,), verbose=0)
    np.testing.assert_allclose(found.scores["accuracy"], [[5 / 6]])
    np.testing.assert_allclose(found.scores["agreement"], [[5 / 6]])
    assert found.dense["accuracy"] == 1.0
    assert found.targets(0.2) == {"a": 1 / 3}
    assert found.targets(0.1) == {"a": 0.0}


def test_one_hot_labels_say_the_same() -> None:
    numbers = krp.sensitivity(perceptron(), np.eye(6), np.arange(6), verbose=0)
    rows = krp.sensitivity(perceptron(), np.eye(6), np.eye(6), verbose=0)
    np.testing.assert_array_equal(numbers.scores["accuracy"], rows.scores["accuracy"])


def test_targets_go_into_prune() -> None:
    found = krp.sensitivity(perceptron(), np.eye(6), np.arange(6), fractions=(1 / 3,), verbose=0)
    small = krp.prune(perceptron(), found.targets(0.2), method="norm", step=1.0, verbose=0).model
    assert small.layers[0].units == 4


def test_without_inputs_they_are_made() -> None:
    found = krp.sensitivity(perceptron(), num_inputs=16, verbose=0)
    assert (found.num_inputs, found.tier) == (16, "synthetic inputs")
    assert "on 16 synthetic inputs" in str(found)


def test_it_shows_itself() -> None:
    found = krp.sensitivity(perceptron(), np.eye(6), fractions=FRACTIONS, verbose=0)
    assert found._repr_html_().count("<tr>") == 2
    axes, _ = found.plot().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["25 %", "50 %"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"y": [0]}, "labels of no inputs"),
        ({"x": np.eye(6), "y": np.arange(6) + 1}, "class from 0 to 5"),
        ({"x": np.eye(6), "y": [0.5] * 6}, "class from 0 to 5"),
        ({"x": np.eye(6), "y": np.arange(5)}, "each of the 6 inputs"),
        ({"fractions": ()}, "give at least one"),
        ({"fractions": (1.0,)}, "a fraction is 1.0"),
        ({"keep": ["nobody"]}, "keep names layers"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        krp.sensitivity(perceptron(), **given, verbose=0)
