"""The reference methods choose what they chose: plans and outputs written down once, by the code of commit 1a0eff1.

`python tests/test_goldens.py FILE` writes such a file from the code that it finds. A plan is stored as the widths of
its groups and a list of `[group, drop, into]`, where a group is its number among them and `into` may be missing; the
outputs are those of the pruned network on inputs drawn with NumPy. Weights are seeded by the networks' names, in NumPy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import network, outputs_of, random_inputs

import keras_robust_prune as krp

# Not every network has as many units to give as are asked for; the plans were written when nothing said so.
pytestmark = pytest.mark.filterwarnings("ignore:.* of the units were removed:UserWarning")

GOLDENS = Path(__file__).parent / "goldens" / "plans.json"
NAMES = (
    "mlp",
    "sigmoid_mlp",
    "conv_bn",
    "conv_flatten",
    "residual",
    "depthwise",
    "squeeze_excite",
    "convnext",
)
BACKENDS = ("tf_keras", "keras")
TARGETS = {"norm": 0.6, "random": 0.6, "baseline": 0.5, "greedy": 0.6, "paper": 0.6}


def pruned(name: str, keras: str, method: str) -> dict[str, Any]:
    """What a method makes of a network, as JSON holds it."""
    model = network(name, keras)
    result = krp.prune(
        model,
        TARGETS[method],
        method=method,
        step=1 / 8,
        input_range=(-1.0, 1.0),
        seed=3,
        verbose=0,
    )
    groups = list(result.plan.widths)
    removals = [
        [groups.index(group), drop] + ([] if into is None else [into])
        for group, drop, into in result.plan.removals
    ]
    (outputs,) = outputs_of(result.model, random_inputs(model, batch=2))
    return {
        "widths": list(result.plan.widths.values()),
        "removals": removals,
        "outputs": [float(f"{value:.7g}") for value in outputs.ravel()],
    }


@pytest.mark.filterwarnings("ignore:.* were asked for:UserWarning")  # six units do not give 60 %
@pytest.mark.parametrize("keras", BACKENDS)
@pytest.mark.parametrize("name", NAMES)
def test_reference_methods_choose_and_merge_as_they_did(name: str, keras: str):
    stored = json.loads(GOLDENS.read_text())[name]
    assert list(stored) == list(TARGETS)
    for method, expected in stored.items():
        found = pruned(name, keras, method)
        assert found["widths"] == expected["widths"], method
        assert found["removals"] == expected["removals"], method
        np.testing.assert_allclose(
            found["outputs"], expected["outputs"], rtol=1e-5, atol=1e-5, err_msg=method
        )


def main(path: str) -> None:
    """Write what the code makes of every network; both Keras versions have to agree."""
    lines = []
    for name in NAMES:
        methods = []
        for method in TARGETS:
            one, other = (pruned(name, keras, method) for keras in BACKENDS)
            assert one["removals"] == other["removals"], (name, method)
            np.testing.assert_allclose(one["outputs"], other["outputs"], rtol=1e-5, atol=1e-5)
            methods.append(f'  "{method}": {json.dumps(one, separators=(",", ":"))}')
        lines.append(f'"{name}": {{\n' + ",\n".join(methods) + "\n}")
    Path(path).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
