"""Budgets: counted like the cut network, met within one unit, spent where it costs least."""

from __future__ import annotations

import numpy as np
import pytest
from networks import network

from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.allocation import Remaining, allocate
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal

NAMES = ["mlp", "conv_bn", "residual", "concatenate", "depthwise", "conv_flatten", "squeeze_excite"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("measure", ["params", "macs"])
def test_what_remains_is_what_the_cut_network_counts(name, measure):
    graph = read(network(name))
    groups = find_groups(graph)
    remaining = Remaining(graph, groups.groups, measure)
    gone = {group.name: group.num_units // 2 for group in groups.groups}
    removals = [Removal(name, unit) for name, count in gone.items() for unit in range(count)]
    small = cut(graph, groups, Plan(tuple(removals), dict(groups.widths)))
    counted = small.num_params if measure == "params" else num_macs(small)
    assert remaining(gone) == pytest.approx(counted)
    assert remaining({}) == pytest.approx(remaining.total)


@pytest.mark.parametrize("target", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("round_to", [1, 2])
def test_a_budget_is_met_within_one_block_and_never_exceeded(target, round_to):
    graph = read(network("residual"))
    groups = find_groups(graph)
    remaining = Remaining(graph, groups.groups, "macs")
    rng = np.random.default_rng(0)
    curves = {s.name: np.sort(rng.random(s.num_units - 1)) for s in groups.groups}
    first, last = allocate(curves, groups.widths, remaining, (target / 2, target), round_to)
    budget = (1 - target) * remaining.total
    assert remaining(last) <= budget + 1e-5 * remaining.total
    for name, count in last.items():
        width = groups.widths[name] - count
        assert first[name] <= count
        assert width >= 1
        assert count == 0 or width % round_to == 0
    slack = [
        remaining({**last, name: max(count - round_to, 0)}) for name, count in last.items() if count
    ]
    assert max(slack) > budget


def test_units_that_cost_nothing_go_first():
    graph = read(network("mlp"))
    groups = find_groups(graph)
    remaining = Remaining(graph, groups.groups, "params")
    cheap = groups.groups[0].name
    curves = {s.name: np.full(s.num_units - 1, float(s.name != cheap)) for s in groups.groups}
    (gone,) = allocate(curves, groups.widths, remaining, (0.05,))
    assert gone[cheap] > 0
    assert sum(gone.values()) == gone[cheap]


def test_a_stair_that_leaves_far_less_than_the_budget_is_taken_last():
    """The cheapest stair went, and of .7 of the time .6 were left, though others came nearer."""

    class Left:
        total = 100.0

        def __call__(self, gone):
            return 100.0 - 40.0 * (gone["wide"] >= 4) - 4.0 * gone["fine"]

    class Stairs:
        def remaining(self, graph, groups):
            return Left()

    remaining = Remaining(read(network("mlp")), (), Stairs())
    widths = {"wide": 8, "fine": 16}
    curves = {"wide": np.full(7, 0.01), "fine": np.full(15, 0.5)}
    (gone,) = allocate(curves, widths, remaining, (0.3,))
    assert gone == {"wide": 0, "fine": 8}
    # Where nothing else comes there, it goes, and what went before it comes back.
    (gone,) = allocate(curves, {"wide": 8, "fine": 6}, remaining, (0.3,))
    assert gone == {"wide": 4, "fine": 0}
