"""Random networks wrapped at random into composites and subclassed models: groups, outputs and cuts as flat."""

from __future__ import annotations

import re
from typing import Any

import networks
import numpy as np
import pytest
from random_networks import random_network

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph, Node, Ref, map_refs
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal

NUM_NETWORKS = 6


def composite(keras: Any, made: dict[str, Any], run: Any, name: str, base: Any) -> Any:
    """A layer or model whose call runs a part of a network."""

    class Part(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name=name)
            self.parts = list({id(part): part for part in made.values()}.values())

        def call(self, inputs: Any) -> Any:
            return run(inputs)

    return Part()


class Wrapping:
    """Repeats the calls of a graph, random runs of them inside composites."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.graph, self.draw = graph, np.random.default_rng(seed)
        self.keras = backends.module(graph.keras)
        flat = build(graph)
        self.made = {layer.name: layer for layer in flat.layers}
        for operation in getattr(flat, "operations", ()):  # Keras 3: operations that are no layers
            self.made[operation.name] = operation
        self.count = 0

    def run(self, nodes: list[Node], tensors: dict[Ref, Any], wrap: bool) -> None:
        """Makes calls one after the other; if they are wrapped, some of them inside composites."""
        while nodes:
            length = int(self.draw.integers(1, 6)) if wrap else 1
            now, nodes = nodes[:length], nodes[length:]
            shared = {node.layer for node in now} & {node.layer for node in nodes}
            if length == 1 or shared:
                for node in now:
                    self.call(node, tensors)
            else:
                self.inside(now, nodes, tensors)

    def call(self, node: Node, tensors: dict[Ref, Any]) -> None:
        args, kwargs = map_refs(tensors.__getitem__, (node.args, dict(node.kwargs)))
        outputs = self.made[node.layer](*args, **kwargs)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        tensors.update({Ref(node.name, k): tensor for k, tensor in enumerate(outputs)})

    def inside(self, now: list[Node], later: list[Node], tensors: dict[Ref, Any]) -> None:
        """The calls of one composite, which may hold another."""
        self.count += 1
        own = {node.name for node in now}
        read_later = [ref for node in later for ref in node.inputs] + list(self.graph.outputs)
        given = list(dict.fromkeys(r for node in now for r in node.inputs if r.node not in own))
        gives = list(dict.fromkeys(ref for ref in read_later if ref.node in own))
        split = int(self.draw.integers(len(now))) if self.draw.random() < 0.5 else 0

        def run(inputs: list[Any], first: int = 0) -> list[Any]:
            known = dict(zip(given, inputs, strict=True))
            for node in now[:split]:
                self.call(node, known)
            if split:
                names = list(known)
                found = inner([known[ref] for ref in names])
                return [{**known, **dict(zip(after, found, strict=True))}[ref] for ref in gives]
            for node in now:
                self.call(node, known)
            return [known[ref] for ref in gives]

        after = [Ref(node.name, k) for node in now[split:] for k in range(len(node.shapes))]

        def run_inner(inputs: list[Any]) -> list[Any]:
            heads = [Ref(node.name, k) for node in now[:split] for k in range(len(node.shapes))]
            known = dict(zip([*given, *heads], inputs, strict=True))
            for node in now[split:]:
                self.call(node, known)
            return [known[ref] for ref in after]

        layer = self.keras.layers.Layer
        parts = {node.layer: self.made[node.layer] for node in now if self.is_layer(node)}
        inner_parts = {node.layer: parts[node.layer] for node in now[split:] if self.is_layer(node)}
        inner = composite(self.keras, inner_parts, run_inner, f"inner_{self.count}", layer)
        outer_parts = {**parts, "": inner} if split else parts
        base = self.keras.Model if self.draw.random() < 0.3 else layer
        outer = composite(self.keras, outer_parts, run, f"part_{self.count}", base)
        found = outer([tensors[ref] for ref in given])
        tensors.update(dict(zip(gives, found, strict=True)))

    def is_layer(self, node: Node) -> bool:
        return isinstance(self.made[node.layer], self.keras.layers.Layer)

    def model(self) -> Any:
        """A functional model around all calls, or a subclassed one."""
        start = {
            ref: self.made[self.graph.node[ref.node].layer].output for ref in self.graph.inputs
        }
        nodes = [node for node in self.graph.nodes if node.ref not in start]
        tensors = dict(start)
        self.run(nodes, tensors, True)
        outputs = [tensors[ref] for ref in self.graph.outputs]
        return self.keras.Model(list(start.values()), outputs, name="wrapped")


def without_path(name: str) -> str:
    """`part_1.inner_1.dense_2[kernel:0-3]` is `dense_2[kernel:0-3]` in the flat network."""
    return re.sub(r"^(part_\d+\.)?(inner_\d+\.)?", "", name)


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize("seed", range(NUM_NETWORKS))
def test_a_wrapped_network(seed: int, keras: str) -> None:
    model, inputs = random_network(seed, keras)
    flat = read(model)
    wrapping = Wrapping(flat, seed)
    wrapped = wrapping.model()
    assert wrapping.count
    graph = read(wrapped)
    assert not [layer.name for layer in graph.layers.values() if layer.closed]
    assert graph.num_params == flat.num_params

    dense = networks.outputs_of(model, inputs)
    for ours, theirs in zip(networks.outputs_of(build(graph), inputs), dense, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * max(1, np.abs(theirs).max()))

    try:
        expected = find_groups(flat)
    except ValueError:
        with pytest.raises(ValueError, match="no unit that can be removed"):
            find_groups(graph)
        return
    groups = find_groups(graph)
    names = {without_path(name): name for name in groups.widths}
    assert {name: groups.widths[names[name]] for name in names} == expected.widths
    removals = [
        Removal(name, unit) for name, n in expected.widths.items() for unit in range(n // 2)
    ]
    ours_too = tuple(item._replace(group=names[item.group]) for item in removals)
    small = build(cut(flat, expected, Plan(tuple(removals), dict(expected.widths))))
    found = build(cut(graph, groups, Plan(ours_too, dict(groups.widths))))
    for ours, theirs in zip(
        networks.outputs_of(found, inputs), networks.outputs_of(small, inputs), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * max(1, np.abs(theirs).max()))


@pytest.mark.parametrize("keras", backends.NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_a_subclassed_model_of_all_calls(seed: int, keras: str) -> None:
    model, inputs = random_network(seed, keras)
    flat, module = read(model), backends.module(keras)

    class Whole(module.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="whole")
            self.part = model

        def call(self, given: Any) -> Any:
            return self.part(given)

    whole = Whole()
    whole(inputs)
    graph = read(whole)
    assert graph.num_params == flat.num_params
    try:
        expected = sorted(find_groups(flat).widths.values())
    except ValueError:
        return
    assert sorted(find_groups(graph).widths.values()) == expected
