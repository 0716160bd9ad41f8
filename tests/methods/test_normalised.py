"""Every method on networks whose trunk is normalised over its units: cut equals state, and nothing is merged there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import network, outputs_of, random_inputs

from keras_robust_prune import backends
from keras_robust_prune.exporting.tflite import export_tflite
from keras_robust_prune.graph.graph import MASK
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.registry import method_for
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut, merge
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Removal
from keras_robust_prune.synthesis.kinds import Synthesis

QUICK = Robust(
    repair=(LeastSquares(), Distillation(num_steps=3)), synthesis=Synthesis(num_inputs=16)
)
METHODS = {n: method_for(n) for n in ("norm", "random", "greedy", "baseline", "paper")}
METHODS["robust"] = QUICK
# Neither attention nor Embedding has bounds, which greedy and paper look at.
CASES = [
    pytest.param(name, method, keras, marks=[pytest.mark.slow] * (method == "robust"))
    for name in ("convnext", "mixer", "transformer")
    for method in METHODS
    for keras in backends.NAMES
    if name != "transformer" or method not in ("greedy", "paper")
]


@pytest.mark.parametrize(("name", "method", "keras"), CASES)
def test_a_method_removes_units_that_are_normalised(
    name: str, method: str, keras: str, tmp_path: Path
) -> None:
    model = network(name, keras)
    graph = read(model)
    groups = find_groups(graph)
    task = Problem(graph, groups, target=0.5, step=0.25 if method != "robust" else None)
    state = list(METHODS[method].steps(task))[-1]
    trunk = [group for group in groups.groups if not group.merges]
    assert trunk
    for group in groups.groups:
        assert state.plan.dropped[group.name].sum() == group.num_units // 2
        mine = [removal for removal in state.plan.removals if removal.group == group.name]
        if not group.merges:
            assert all(removal.into is None for removal in mine)
    smaller = cut(state.graph, groups, state.plan)
    assert num_macs(smaller) < 0.5 * num_macs(graph)
    small, inputs = build(smaller), random_inputs(model)
    (wanted,) = outputs_of(build(state.graph), inputs)
    (found,) = outputs_of(small, inputs)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    if method == "norm":
        report = export_tflite(small, tmp_path / "small.tflite")
        assert report.max_difference is not None
        assert report.max_difference <= 1e-4


def test_a_merge_of_normalised_units_is_refused() -> None:
    graph = read(network("convnext"))
    groups = find_groups(graph)
    group = next(group for group in groups.groups if not group.merges)
    with pytest.raises(ValueError, match="without merging"):
        merge(graph, groups, [Removal(group.name, 1, 0)])
    masked = merge(graph, groups, [Removal(group.name, 1)])
    (first, *_) = (slot for slot in group.slots if slot.weight == MASK)
    mask = masked.layers[first.layer].weights[MASK]
    assert mask.tolist() == [1, 0] + [1] * (group.num_units - 2)
