"""Budgets of bytes, of milliseconds, and of several measures at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import network

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.latency.files import whole_file
from keras_robust_prune.latency.kernels import kernels_of
from keras_robust_prune.latency.prediction import Latency
from keras_robust_prune.latency.table import LatencyTable
from keras_robust_prune.methods.allocation import Remaining, allocate
from keras_robust_prune.methods.budgets import uniform_counts
from keras_robust_prune.methods.measures import Bytes, Limits, measure_for
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal


def staircase(name: str, tile: int = 4) -> LatencyTable:
    """A table in which widths cost what the next multiple of a tile costs."""
    times = {}
    for use in kernels_of(read(network(name))):
        ends = (use.kernel.channels_in, use.kernel.channels_out)
        grid = [sorted({end, *range(tile, end, tile)}) for end in ends]
        for a in grid[0]:
            for b in grid[1]:
                times[use.kernel.of_widths(a, b)] = a * b * use.kernel.rows * use.kernel.columns
    return LatencyTable(times)


@pytest.mark.parametrize("quantize", ["float32", "int8"])
def test_bytes_are_those_of_the_file(quantize: str) -> None:
    graph = read(network("conv_bn"))
    groups = find_groups(graph)
    remaining = Bytes(quantize).remaining(graph, groups.groups)
    assert remaining.total == len(whole_file(graph, quantize))
    gone = {group.name: group.num_units // 2 for group in groups.groups}
    removals = [Removal(name, unit) for name, count in gone.items() for unit in range(count)]
    small = cut(graph, groups, Plan(tuple(removals), dict(groups.widths)))
    file = len(whole_file(small, quantize))
    assert file < remaining.total
    assert remaining(gone) == pytest.approx(file, rel=0.1)


def test_stairs_are_descended_whole() -> None:
    """One unit saves nothing here; a budget that looked one unit ahead removed none at all."""
    graph = read(network("mlp"))
    groups = find_groups(graph)
    left = Latency(staircase("mlp")).remaining(graph, groups.groups)
    first = groups.groups[0]
    assert left({first.name: 1}) == left.total or first.num_units % 4 == 1
    curves = {g.name: np.linspace(0.1, 1, g.num_units - 1) for g in groups.groups}
    remaining = Remaining(graph, groups.groups, Latency(staircase("mlp")))
    (gone,) = allocate(curves, groups.widths, remaining, (0.5,))
    assert remaining(gone) <= 0.5 * remaining.total
    for name, count in gone.items():  # no unit went for nothing: each that came back would cost
        assert count == 0 or remaining({**gone, name: count - 1}) > remaining(gone)


def test_several_limits_hold_at_once() -> None:
    limits = {"bytes": 0.8, "macs": 0.5, Latency(staircase("mlp")): 0.7}
    result = krp.prune(network("mlp"), limits=limits, method="norm", verbose=0)
    groups = find_groups(result.dense).groups
    gone = {name: int(dropped.sum()) for name, dropped in result.plan.dropped.items()}
    for key, limit in limits.items():
        left = Remaining(result.dense, groups, measure_for(key))
        assert left(gone) <= limit * left.total * (1 + 1e-6), key
    assert result.stopped == ""


def test_limits_have_units() -> None:
    graph = read(network("mlp"))
    groups = find_groups(graph).groups
    size = len(whole_file(graph, "float32"))
    assert Limits({"bytes": f"{size / 2} B"}).target(graph, groups) == pytest.approx(0.5)
    assert Limits({"bytes": f"{size / 2000} kB"}).target(graph, groups) == pytest.approx(0.5)
    assert Limits({"macs": 0.25}).target(graph, groups) == pytest.approx(0.75)
    assert Limits({"macs": 1.0}).target(graph, groups) == 0.0
    for wrong in (0.0, 1.5, "3 apples", "kB"):
        with pytest.raises(ValueError, match=r"A limit is a fraction|no number with a unit"):
            Limits({"macs": wrong}).target(graph, groups)


def test_a_budget_that_cannot_be_met_says_by_how_much() -> None:
    """It ended without a word; widths in sixty-fours leave everything."""
    with pytest.warns(UserWarning, match=r"of the bytes were removed, 90\.0% were asked for"):
        krp.prune(network("mlp"), 0.9, measure="bytes", round_to=64, method="norm", verbose=0)


@pytest.mark.parametrize(
    ("measure", "fix"), [("latency", "LatencyTable.load"), ("time", "'bytes'")]
)
def test_what_cannot_be_counted_is_refused_with_the_way_out(measure: str, fix: str) -> None:
    with pytest.raises(ValueError, match=fix):
        krp.prune(network("mlp"), 0.5, measure=measure, method="norm", verbose=0)
    with pytest.raises(ValueError, match="one of float32, float16"):
        Bytes("int4")


def wide() -> Graph:
    """Four layers whose widths are powers of two, one of which takes most of the time."""
    layers = backends.tf_keras().layers
    stack: list[Any] = [layers.Input((16, 16, 3))]
    for width, stride in ((64, 1), (64, 1), (128, 2), (128, 2)):
        stack.append(layers.Conv2D(width, 3, strides=stride, padding="same", activation="relu"))
    stack += [layers.GlobalAveragePooling2D(), layers.Dense(256, "relu"), layers.Dense(4)]
    return read(backends.tf_keras().Sequential(stack))


def in_tiles(graph: Graph, tile: int = 16) -> Latency:
    """A device whose kernels compute so many channels at once."""
    times = {}
    for use in kernels_of(graph):
        kernel = use.kernel
        for a in {3, *range(tile, kernel.channels_in + 1, tile)}:
            for b in {4, *range(tile, kernel.channels_out + 1, tile)}:
                work = kernel.height * kernel.width * kernel.rows * kernel.columns
                times[kernel.of_widths(a, b)] = a * b * work * 1e-6
    return Latency(LatencyTable(times, tile=tile))


@pytest.mark.parametrize("target", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("round_to", [1, 8, 16])
def test_half_of_the_milliseconds_is_half(target: float, round_to: int) -> None:
    """All layers came to their next stair at once, and of a budget of half a third was left."""
    graph, measure = wide(), in_tiles(wide())
    groups = find_groups(graph)
    left = Remaining(graph, groups.groups, measure)
    problem = Problem(graph, groups, target=target, measure=measure, round_to=round_to)
    curves = {g.name: np.linspace(0.1, 1, g.num_units - 1) for g in groups.groups}
    for counts in (
        uniform_counts(problem, problem.fractions(1 / 16)),
        allocate(curves, groups.widths, left, (target / 2, target), round_to),
    ):
        assert 0.9 * (1 - target) < left(counts[-1]) / left.total <= 1 - target + 1e-5
        for name, count in counts[-1].items():
            assert [c[name] for c in counts] == sorted(c[name] for c in counts)
            # Widths end on a stair: one unit more is a stair more, and there is no room for it.
            assert count == 0 or (groups.widths[name] - count) % 16 == 0


@pytest.mark.parametrize("method", ["uniform", "by cost"])
def test_several_limits_take_no_more_than_they_ask_for(method: str) -> None:
    """Units that saved only what was not farthest from its limit saved nothing, and whole groups went until all did."""
    graph = wide()
    limits = Limits({"params": 0.6, in_tiles(graph): 0.6, "macs": 0.65})
    groups = find_groups(graph)
    left = Remaining(graph, groups.groups, limits)
    target = limits.target(graph, groups.groups)
    problem = Problem(graph, groups, target=target, measure=limits)
    curves = {g.name: np.linspace(0.1, 1, g.num_units - 1) for g in groups.groups}
    if method == "uniform":
        (gone,) = uniform_counts(problem, (target,))
    else:
        (gone,) = allocate(curves, groups.widths, left, (target,))
    shares = [part(gone) / most for _, part, most in limits.parts(graph, groups.groups)]
    assert max(shares) <= 1 + 1e-5
    assert max(shares) > 0.9
    assert min(shares) > 0.75


def test_a_result_says_what_is_left_in_its_own_unit() -> None:
    measure = in_tiles(wide())
    limits = {measure: 0.6, "macs": 0.65}
    result = krp.prune(build(wide()), limits=limits, method="norm", verbose=0)
    time, macs = result.amounts
    assert (time.name, time.unit, macs.name) == ("latency", "ms", "macs")
    assert time.before == pytest.approx(krp.latency.predict(result.dense, measure.table))
    assert time.after == pytest.approx(krp.latency.predict(result.model, measure.table))
    assert 0.9 < max(time.after / time.most, macs.after / macs.most) <= 1 + 1e-6
    assert f"predicted {time}" in result.summary()
    assert result.to_dict()["amounts"][1]["after"] == macs.after
    assert krp.prune(network("mlp"), 0.5, method="norm", verbose=0).amounts == ()
