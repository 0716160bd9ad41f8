"""Which costs are known, and which groups are protected because theirs are not."""

from __future__ import annotations

import numpy as np
from networks import network

import keras_robust_prune as krp
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.by_cost import ByCost
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.run import Run
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.kinds import Synthesis


def test_without_inputs_groups_whose_moments_nothing_tells_are_protected():
    """Of PReLU no moments are known from weights alone; with inputs every cost is."""
    graph = read(network("prelu"))
    groups = find_groups(graph)

    def unknown(calibration):
        problem = Problem(graph, groups, input_range=(0.0, 1.0), calibration=calibration)
        run = Run(problem, Synthesis())
        return [ByCost().unknown(run, group) for group in groups.groups]

    images = np.random.default_rng(0).random((64, *graph.shape(graph.inputs[0])), np.float32)
    assert all("can be solved anew" in why for why in unknown("weights"))
    assert not any(unknown(images))
    assert krp.inspect(network("prelu")).protected == {}
