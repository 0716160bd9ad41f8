"""The paper's method, as fast as it is here, against the formulas of the paper written as loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from networks_dense import mlp

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.energy import PublishedEnergy, RelativeEnergy
from keras_robust_prune.methods.reference.guided import (
    CANDIDATES_PER_MERGE,
    LEAST_CANDIDATES,
    Greedy,
    Paper,
)
from keras_robust_prune.surgery.groups import ChannelGroup, find_groups
from keras_robust_prune.verify.bounds import interval_bounds
from keras_robust_prune.verify.deviation import output_deviation

Ends = tuple[list[float], list[float]]


def saliency(graph: Graph, layer: str, after: str, i: int, j: int) -> float:
    """`|x_i - x_j| * |v_j|` of dropping j for i, biases among the weights."""
    x, b = graph.layers[layer].weights["kernel"], graph.layers[layer].weights["bias"]
    v = graph.layers[after].weights["kernel"]
    squares = float(b[i] - b[j]) ** 2
    for k in range(len(x)):
        squares += (float(x[k, i]) - float(x[k, j])) ** 2
    return math.sqrt(squares) * math.sqrt(sum(float(w) ** 2 for w in v[j]))


def disjoint(graph: Graph, layer: str, after: str, alive: list[int]) -> list[tuple[int, int]]:
    """All ordered pairs sorted by saliency, then walked: `(drop, keep)`."""
    pairs = sorted(
        (saliency(graph, layer, after, keep, drop), drop, keep)
        for drop in alive
        for keep in alive
        if drop != keep
    )
    used: set[int] = set()
    found = []
    for _, drop, keep in pairs:
        if drop not in used and keep not in used:
            used |= {drop, keep}
            found.append((drop, keep))
    return found


def width_of(lower: list[float], upper: list[float]) -> float:
    return sum(high - low for low, high in zip(lower, upper, strict=True))


def entropy_of(lower: list[float], upper: list[float]) -> float:
    n = len(lower)
    hull = max(0.0, *upper) - min(0.0, *lower)
    found = 0.0
    for i in range(n):
        alike = sum(
            1 - 0.5 * (abs(lower[i] - lower[j]) + abs(upper[i] - upper[j])) / hull >= 0.9
            for j in range(n)
        )
        found -= alike / n * math.log(alike / n)
    return found


class SlowPaper:
    """One merge at a time, every number by its formula; deviations one candidate at a time."""

    def __init__(self, alpha: float, published: bool, greedy: bool) -> None:
        self.alpha, self.published, self.greedy = alpha, published, greedy
        self.published_heat = published

    def energy(self, chosen: list[Ends], usual: tuple[float, float]) -> float:
        n = len(chosen)
        lower = [sum(ends[0][k] for ends in chosen) / n for k in range(len(chosen[0][0]))]
        upper = [sum(ends[1][k] for ends in chosen) / n for k in range(len(chosen[0][0]))]
        width, spread = width_of(lower, upper), entropy_of(lower, upper)
        if self.published:
            parts = [1 / (1 + math.exp(-width)), 1 / (1 + math.exp(-spread))]
        else:
            parts = [
                value / (value + half) if value > 0 else 0.0
                for value, half in zip((width, spread), usual, strict=True)
            ]
        return self.alpha * parts[0] + (1 - self.alpha) * parts[1]

    def select(self, pool: list[Ends], count: int, rng: np.random.Generator) -> list[int]:
        usual = (
            float(np.median([width_of(*ends) for ends in pool])),
            float(np.median([entropy_of(*ends) for ends in pool])),
        )
        if self.greedy:
            scores = [self.energy([ends], usual) for ends in pool]
            return sorted(range(len(pool)), key=lambda k: scores[k])[:count]
        scores = [self.energy([ends], usual) for ends in pool]
        unit = 1.0 if self.published_heat else max(float(np.std(scores)), 1e-12)
        accepted: list[int] = []
        waiting = list(range(len(pool)))
        last = math.inf
        while len(accepted) < count:
            refused = []
            start = len(accepted)
            for k in waiting:
                if len(accepted) == count:
                    break
                score = self.energy([pool[m] for m in [*accepted, k]], usual)
                temperature = unit * (1.0001 - len(accepted) / count)
                if score <= last or rng.random() < math.exp((last - score) / temperature):
                    accepted.append(k)
                    last = score
                else:
                    refused.append((score, k))
            if len(accepted) == start:
                last, k = min(refused)
                accepted.append(k)
                refused.remove((last, k))
            waiting = [k for _, k in refused]
        return accepted

    def step(
        self,
        graph: Graph,
        layers: list[str],
        groups: dict[str, ChannelGroup],
        gone: dict[str, set[int]],
        count: int,
        rng: np.random.Generator,
    ) -> tuple[Graph, list[tuple[str, int, int]]]:
        removals = []
        for layer, after in itertools.pairwise(layers):
            alive = [unit for unit in range(groups[layer].num_units) if unit not in gone[layer]]
            pairs = disjoint(graph, layer, after, alive)
            pairs = pairs[: max(CANDIDATES_PER_MERGE * count, LEAST_CANDIDATES)]
            program = lower(graph, np.float32)
            bounds = interval_bounds(program, -1.0, 2.0)
            pool = []
            for drop, keep in pairs:
                found = output_deviation(program, groups[layer], [drop], [keep], bounds)
                pool.append((found.lower[0].tolist(), found.upper[0].tolist()))
            kernel = graph.layers[after].weights["kernel"].copy()
            for k in self.select(pool, count, rng):
                drop, keep = pairs[k]
                for m in range(kernel.shape[1]):
                    kernel[keep, m] += kernel[drop, m]
                    kernel[drop, m] = 0
                gone[layer].add(drop)
                removals.append((layer, drop, keep))
            graph = graph.with_weights({(after, "kernel"): kernel})
        return graph, removals


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("alpha", [0.75, 0.05])
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("greedy", [False, True])
def test_fast_and_slow_choose_the_same(
    activation: str, alpha: float, published: bool, greedy: bool
):
    graph, layers = mlp([6, 16, 16, 4], activation, seed=3)
    groups = find_groups(graph)
    energy = PublishedEnergy(alpha) if published else RelativeEnergy(alpha)
    method = Greedy(energy) if greedy else Paper(energy, published_heat=published)
    problem = Problem(graph, groups, target=0.75, step=1 / 8, input_range=(-1.0, 2.0), seed=5)
    slow = SlowPaper(alpha, published, greedy)
    gone: dict[str, set[int]] = {layer: set() for layer in layers[:-1]}
    expected: list[tuple[str, int, int]] = []
    slow_graph = graph
    for state in method.steps(problem):
        rng = problem.generator(state.step - 1)
        slow_graph, removals = slow.step(slow_graph, layers, dict(groups.by_name), gone, 2, rng)
        expected += removals
        assert [tuple(removal) for removal in state.plan.removals] == expected
        for layer in layers:
            np.testing.assert_array_equal(
                state.graph.layers[layer].weights["kernel"],
                slow_graph.layers[layer].weights["kernel"],
            )
    assert {layer: len(units) for layer, units in gone.items()} == {layers[0]: 12, layers[1]: 12}
