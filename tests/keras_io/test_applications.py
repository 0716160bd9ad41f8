"""Small members of keras.applications: cut equals mask, and every one of them becomes much smaller.

Every architecture in one of the two Keras versions; tests/benchmarks/applications.py has all of them in both.
"""

from __future__ import annotations

import networks
import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import Norm
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups

pytestmark = pytest.mark.slow
SMALL = [
    ("tf_keras", "MobileNet", {"alpha": 0.25}),
    ("keras", "MobileNetV2", {"alpha": 0.35}),
    ("tf_keras", "MobileNetV3Small", {"include_preprocessing": False}),
    ("keras", "EfficientNetB0", {}),
    ("keras", "DenseNet121", {}),
    ("tf_keras", "RegNetX002", {}),
    ("tf_keras", "RegNetY002", {}),
    ("keras", "ResNet50", {}),
    ("tf_keras", "ResNet50V2", {}),
    ("keras", "ConvNeXtTiny", {}),
]


@pytest.mark.parametrize(("keras", "name", "options"), SMALL)
def test_an_application_is_cut_exactly(keras: str, name: str, options: dict[str, object]) -> None:
    make = getattr(backends.module(keras).applications, name)
    model = make(
        weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None, **options
    )
    graph = read(networks.randomise(model))
    groups = find_groups(graph)
    assert {item.code for item in groups.kept} == {"output"}
    state = list(Norm().steps(Problem(graph, groups, target=0.3, step=0.3)))[-1]
    smaller = cut(graph, groups, state.plan)
    assert smaller.num_params < 0.7 * graph.num_params
    assert num_macs(smaller) < 0.7 * num_macs(graph)
    inputs = np.random.default_rng(0).uniform(0, 1, (1, 32, 32, 3)).astype("float32")
    (ours,) = networks.outputs_of(build(smaller), inputs)
    (theirs,) = networks.outputs_of(build(mask(graph, groups, state.plan)), inputs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
