"""Three networks that break pruners, their groups drawn, and asserted exactly."""

from __future__ import annotations

from typing import Any

import networks
import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import ChannelGroup, ChannelGroups, find_groups
from keras_robust_prune.surgery.plan import Plan, Removal

BACKENDS = pytest.mark.parametrize("keras", backends.NAMES)
Slots = dict[tuple[str, str, int], tuple[str, list[list[int]]]]


def slots(group: ChannelGroup) -> Slots:
    """Every weight axis of a group: its role, and the entries of each unit."""
    return {
        (slot.layer, slot.weight, slot.axis): (slot.role, slot.positions.tolist())
        for slot in group.slots
    }


def of_units(first: int, count: int) -> list[list[int]]:
    """One entry per unit, one behind the other."""
    return [[first + unit] for unit in range(count)]


def holds(model: Any, graph: Graph, groups: ChannelGroups) -> None:
    """Cut equals mask with the first and the last unit of every group gone, where two may go."""
    removals = [
        Removal(group.name, unit)
        for group in groups.groups
        for unit in sorted({0, group.num_units - 1})[: group.num_units - 1]
    ]
    plan = Plan(tuple(removals), dict(groups.widths))
    inputs = networks.random_inputs(model)
    masked = networks.outputs_of(build(mask(graph, groups, plan)), inputs)
    smaller = networks.outputs_of(build(cut(graph, groups, plan)), inputs)
    dense = networks.outputs_of(model, inputs)
    for ours, theirs, before in zip(smaller, masked, dense, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
        assert np.abs(theirs - before).max() > 1e-3


@BACKENDS
def test_a_shared_layer_inside_a_residual(keras: str) -> None:
    """One layer stands twice in a residual chain.

        inputs --> stem --+--> twice --+--> Add --+--> twice --+--> Add --> last
                          |           |          |            |
                          +-----------|--> ------+------------|--> (second operand)
                                      +-- the same weights ---+

    `twice` reads the stem and adds to it, so what it reads and what it makes are the same units; its second call reads
    the sum. One group of 4: column k of stem, row k and column k of twice, row k of last.

        unit k:  stem[:, k] -> twice[k, :], twice[:, k] -> last[k, :]
    """
    module = backends.module(keras)
    inputs = module.Input((5,))
    twice = module.layers.Dense(4, activation="tanh", name="twice")
    x = module.layers.Dense(4, name="stem")(inputs)
    x = module.layers.Add()([x, twice(x)])
    x = module.layers.Add()([x, twice(x)])
    model = networks.randomise(module.Model(inputs, module.layers.Dense(2, name="last")(x)))
    graph = read(model)
    groups = find_groups(graph)
    (group,) = groups.groups
    units = of_units(0, 4)
    assert (group.name, group.producers, group.consumers) == (
        "stem",
        ("stem", "twice"),
        ("twice", "last"),
    )
    assert slots(group) == {
        ("stem", "kernel", 1): ("produces", units),
        ("stem", "bias", 0): ("produces", units),
        ("twice", "kernel", 1): ("produces", units),
        ("twice", "bias", 0): ("produces", units),
        ("twice", "kernel", 0): ("consumes", units),
        ("last", "kernel", 0): ("consumes", units),
    }
    assert [(item.layer, item.code) for item in groups.kept] == [("last", "output")]
    holds(model, graph, groups)


@BACKENDS
def test_two_outputs_on_one_trunk(keras: str) -> None:
    """The trunk feeds two heads, and one of its tensors is itself an output.

        inputs --> trunk --> ReLU --+--> features ----+----------> output "features"
                                    |                 +--> deep --> output "deep"
                                    +----------------------> side --> output "side"

    A unit of the trunk goes from both its consumers. The units of `features` are an output: they stay, also where
    `deep` reads them.

        trunk[..., k] -> features[k, :] and side[k, :]          6 units
        features: kept, output     deep: kept, output     side: kept, output
    """
    module = backends.module(keras)
    inputs = module.Input((5,))
    trunk = module.layers.Dense(6, activation="relu", name="trunk")(inputs)
    features = module.layers.Dense(4, name="features")(trunk)
    deep = module.layers.Dense(2, name="deep")(module.layers.ReLU()(features))
    side = module.layers.Dense(3, name="side")(trunk)
    model = networks.randomise(module.Model(inputs, [features, deep, side]))
    graph = read(model)
    groups = find_groups(graph)
    (group,) = groups.groups
    assert slots(group) == {
        ("trunk", "kernel", 1): ("produces", of_units(0, 6)),
        ("trunk", "bias", 0): ("produces", of_units(0, 6)),
        ("features", "kernel", 0): ("consumes", of_units(0, 6)),
        ("side", "kernel", 0): ("consumes", of_units(0, 6)),
    }
    kept = {item.layer: (item.num_units, item.code) for item in groups.kept}
    assert kept == {"features": (4, "output"), "deep": (2, "output"), "side": (3, "output")}
    holds(model, graph, groups)


@BACKENDS
def test_a_concatenate_that_feeds_an_add(keras: str) -> None:
    """Two branches stand behind one another on one side of a sum.

        inputs --+--> a (3) --+
                 |            +--> Concatenate (5) --+
                 +--> b (2) --+                      +--> Add --> last
                 +--> c (5) -------------------------+

    Columns 0-2 of c meet a, columns 3-4 meet b. So c belongs to two groups, each with an offset of its own:

        a[..., k] + c[..., k]      -> last[k, :]        k = 0..2
        b[..., k] + c[..., 3 + k]  -> last[3 + k, :]    k = 0..1
    """
    module = backends.module(keras)
    inputs = module.Input((6, 6, 2))
    a, b, c = (
        module.layers.Conv2D(filters, 3, padding="same", name=name)(inputs)
        for name, filters in (("a", 3), ("b", 2), ("c", 5))
    )
    x = module.layers.Add()([module.layers.Concatenate()([a, b]), c])
    x = module.layers.Conv2D(2, 1, name="last")(module.layers.ReLU()(x))
    model = networks.randomise(module.Model(inputs, x))
    graph = read(model)
    groups = find_groups(graph)
    assert [group.name for group in groups.groups] == ["a", "b"]
    for group, name, first, count in zip(groups.groups, "ab", (0, 3), (3, 2), strict=True):
        assert slots(group) == {
            (name, "kernel", 3): ("produces", of_units(0, count)),
            (name, "bias", 0): ("produces", of_units(0, count)),
            ("c", "kernel", 3): ("produces", of_units(first, count)),
            ("c", "bias", 0): ("produces", of_units(first, count)),
            ("last", "kernel", 2): ("consumes", of_units(first, count)),
        }
    assert [(item.layer, item.code) for item in groups.kept] == [("last", "output")]
    holds(model, graph, groups)
