"""States of a run as stages, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.methods.stages import Stage
from keras_robust_prune.surgery.plan import Plan


def packed(state: PruningState, dense: Graph, **said: Any) -> Stage:
    """A state as a stage: its plan, and the weights that changed.

    Args:
        state: what to keep.
        dense: the network that the run began with.
        said: what else is to be known.
    """
    changed = {
        json.dumps([layer.name, name]): value
        for layer in state.graph.layers.values()
        for name, value in layer.weights.items()
        if value is not dense.layers[layer.name].weights.get(name)
    }
    metrics = {name: float(value) for name, value in state.metrics.items()}
    known = {"step": state.step, "plan": state.plan.to_json(), "metrics": metrics}
    return Stage({**known, **said}, changed)


def unpacked(stage: Stage, dense: Graph, widths: Mapping[str, int]) -> PruningState:
    """The state that `packed` made a stage of, checked against the network.

    Args:
        stage: what was kept.
        dense: the network that the run began with.
        widths: of its groups.

    Raises:
        ValueError: something does not fit.
        KeyError: something is missing, or a layer or weight is unknown.
    """
    changed = {}
    for key, value in stage.arrays.items():
        layer, name = json.loads(key)
        old = dense.layers[layer].weights[name]
        if value.shape != old.shape or value.dtype != old.dtype or not np.isfinite(value).all():
            raise ValueError(
                f"weight '{name}' of layer '{layer}' has another shape or is not finite"
            )
        changed[layer, name] = value
    plan, step = Plan.from_json(stage.said["plan"]), stage.said["step"]
    if dict(plan.widths) != dict(widths):
        raise ValueError("its plan is for other groups")
    if not isinstance(step, int) or step < 0:
        raise ValueError(f"its step is {step!r}")
    return PruningState(step, dense.with_weights(changed), plan, dict(stage.said["metrics"]))
