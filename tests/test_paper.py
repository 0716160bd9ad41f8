"""The paper's method, as fast as it is here, against the formulas of the paper written as loops.

The twin knows the package's numbers and nothing of its code: kernels and biases of a chain of dense layers go in,
removals come out. Formulas are those of [Meng et al., 2023](https://arxiv.org/abs/2204.00783), with its program's
faults mended: bounds are bounds from the inputs on, a deviation passes a linear layer without its bias and an
activation as what it can make of it, every pair is offered, nothing is merged twice, accepted merges count in the score
of the next, and the temperature falls. The two units of a pair are taken as related: what apart their
pre-activations are over the layer's inputs is exact, and an activation brings them no further apart.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from networks_dense import mlp

from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.energy import PublishedEnergy, RelativeEnergy
from keras_robust_prune.methods.reference.guided import Greedy, Paper
from keras_robust_prune.surgery.groups import find_groups

Range = tuple[float, float]
LEAST, GREATEST = -1.0, 2.0  # of every input


def relu(z: float) -> float:
    return max(z, 0.0)


def sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z))


def sigmoid_slope(z: float) -> float:
    return sigmoid(z) * (1.0 - sigmoid(z))


def plus(a: Range, b: Range) -> Range:
    return a[0] + b[0], a[1] + b[1]


def times(a: Range, factor: float) -> Range:
    ends = (a[0] * factor, a[1] * factor)
    return min(ends), max(ends)


def both(a: Range, b: Range) -> Range:
    return max(a[0], b[0]), min(a[1], b[1])


@dataclasses.dataclass
class Chain:
    """Dense layers: `kernels[k][i][j]` leads from unit i of layer k - 1 to unit j of layer k; the last gives logits."""

    kernels: list[list[list[float]]]
    biases: list[list[float]]
    activation: str

    def act(self, z: float) -> float:
        return relu(z) if self.activation == "relu" else sigmoid(z)

    def bounds(self) -> tuple[list[list[Range]], list[list[Range]]]:
        """Ranges of what every layer reads, and of its pre-activations."""
        read = [[(LEAST, GREATEST)] * len(self.kernels[0])]
        before: list[list[Range]] = []
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            z = []
            for j, b in enumerate(bias):
                total = (b, b)
                for i, h in enumerate(read[-1]):
                    total = plus(total, times(h, kernel[i][j]))
                z.append(total)
            before.append(z)
            read.append([(self.act(low), self.act(high)) for low, high in z])
        return read, before

    def moved(self, z: Range, d: Range) -> Range:
        """What act(z + d) - act(z) can be."""
        if self.activation == "relu":  # rises with d, and with z where d > 0: the ends suffice
            ends = [relu(at + by) - relu(at) for at in z for by in d]
            return min(ends), max(ends)
        reached = plus(z, d)
        apart = (sigmoid(reached[0]) - sigmoid(z[1]), sigmoid(reached[1]) - sigmoid(z[0]))
        over = (min(z[0], reached[0]), max(z[1], reached[1]))
        slopes = [sigmoid_slope(over[0]), sigmoid_slope(over[1])]
        if over[0] <= 0 <= over[1]:
            slopes.append(0.25)
        ends = [by * slope for by in d for slope in (min(slopes), max(slopes))]
        return both(apart, (min(ends), max(ends)))

    def effect(self, layer: int, drop: int, keep: int) -> list[Range]:
        """What the logits can change by when `keep` stands where `drop` was."""
        read, before = self.bounds()
        kernel, bias = self.kernels[layer], self.biases[layer]
        apart = (bias[keep] - bias[drop], bias[keep] - bias[drop])
        for i, h in enumerate(read[layer]):
            apart = plus(apart, times(h, kernel[i][keep] - kernel[i][drop]))
        forth = self.moved(before[layer][drop], apart)
        back = self.moved(before[layer][keep], times(apart, -1.0))
        gone, there = read[layer + 1][drop], read[layer + 1][keep]
        d = both(both(forth, times(back, -1.0)), (there[0] - gone[1], there[1] - gone[0]))
        deviation = [times(d, weight) for weight in self.kernels[layer + 1][drop]]
        for later in range(layer + 2, len(self.kernels)):
            passed = [self.moved(z, d) for z, d in zip(before[later - 1], deviation, strict=True)]
            deviation = []
            for j in range(len(self.biases[later])):
                total = (0.0, 0.0)
                for i, d in enumerate(passed):
                    total = plus(total, times(d, self.kernels[later][i][j]))
                deviation.append(total)
        return deviation

    def saliency(self, layer: int, drop: int, keep: int) -> float:
        """`|x_keep - x_drop| * |v_drop|`, biases among the weights."""
        kernel, bias = self.kernels[layer], self.biases[layer]
        squares = (bias[keep] - bias[drop]) ** 2
        for row in kernel:
            squares += (row[keep] - row[drop]) ** 2
        out = sum(weight**2 for weight in self.kernels[layer + 1][drop])
        return math.sqrt(squares) * math.sqrt(out)

    def merge(self, layer: int, drop: int, keep: int) -> None:
        """`v_keep <- v_keep + v_drop; v_drop <- 0`, in the single precision of the weights."""
        rows = self.kernels[layer + 1]
        rows[keep] = [
            float(np.float32(a) + np.float32(b))
            for a, b in zip(rows[keep], rows[drop], strict=True)
        ]
        rows[drop] = [0.0] * len(rows[drop])


def disjoint(chain: Chain, layer: int, alive: list[int]) -> list[tuple[int, int]]:
    """All ordered pairs sorted by saliency, those left out that touch a unit of an earlier one: `(drop, keep)`."""
    pairs = sorted(
        (chain.saliency(layer, drop, keep), drop, keep)
        for drop, keep in itertools.permutations(alive, 2)
    )
    found: list[tuple[int, int]] = []
    for _, drop, keep in pairs:
        if not {drop, keep} & set(itertools.chain(*found)):
            found.append((drop, keep))
    return found


def width(outputs: list[Range]) -> float:
    """L: total width."""
    return sum(high - low for low, high in outputs)


def entropy(outputs: list[Range]) -> float:
    """ENT: -sum p ln p, p the share of the outputs whose similarity is at least .9."""
    hull = max(0.0, *(high for _, high in outputs)) - min(0.0, *(low for low, _ in outputs))
    total = 0.0
    for a in outputs:
        alike = 0
        for b in outputs:
            alike += 1 - 0.5 * (abs(a[0] - b[0]) + abs(a[1] - b[1])) / hull >= 0.9
        total -= alike / len(outputs) * math.log(alike / len(outputs))
    return total


@dataclasses.dataclass
class Scorer:
    """`alpha * f(L) + (1 - alpha) * f(ENT)` of the mean effect of several merges."""

    alpha: float
    published: bool
    effects: list[list[Range]]

    def squash(self, value: float, usual: float) -> float:
        if self.published:
            return sigmoid(value)
        return value / (value + usual) if value > 0 else 0.0

    def __call__(self, chosen: list[int]) -> float:
        mean = [
            (
                sum(self.effects[k][out][0] for k in chosen) / len(chosen),
                sum(self.effects[k][out][1] for k in chosen) / len(chosen),
            )
            for out in range(len(self.effects[0]))
        ]
        usual_width = float(np.median([width(effect) for effect in self.effects]))
        usual_entropy = float(np.median([entropy(effect) for effect in self.effects]))
        first = self.squash(width(mean), usual_width)
        return self.alpha * first + (1 - self.alpha) * self.squash(entropy(mean), usual_entropy)


def anneal(score: Scorer, count: int, heat: float, rng: np.random.Generator) -> list[int]:
    """Walk the candidates again and again until `count` are accepted, none twice.

    A candidate no worse than the last accepted is accepted, another with probability exp(-rise / T), where T falls from
    1.0001 to 0.0001 with progress, in units of `heat`. A walk that accepts none ends with its best.
    """
    accepted: list[int] = []
    last = math.inf
    while len(accepted) < count:
        refused: dict[int, float] = {}
        before = len(accepted)
        for k in range(len(score.effects)):
            if k in accepted or len(accepted) == count:
                continue
            value = score([*accepted, k])
            temperature = heat * (1.0001 - len(accepted) / count)
            if value <= last or rng.random() < math.exp(-(value - last) / temperature):
                accepted.append(k)
                last = value
            else:
                refused[k] = value
        if len(accepted) == before:
            k = min(refused, key=lambda k: (refused[k], k))
            accepted.append(k)
            last = refused[k]
    return accepted


def one_step(
    chain: Chain,
    gone: list[set[int]],
    count: int,
    alpha: float,
    published: bool,
    greedy: bool,
    rng: np.random.Generator,
) -> list[tuple[int, int, int]]:
    """Merge `count` pairs of every hidden layer, first to last: `(layer, drop, keep)`."""
    removals = []
    for layer in range(len(chain.kernels) - 1):
        alive = [unit for unit in range(len(chain.biases[layer])) if unit not in gone[layer]]
        pairs = disjoint(chain, layer, alive)[: max(4 * count, 16)]
        score = Scorer(alpha, published, [chain.effect(layer, *pair) for pair in pairs])
        alone = [score([k]) for k in range(len(pairs))]
        if greedy:
            chosen = sorted(range(len(pairs)), key=lambda k: alone[k])[:count]
        else:
            heat = 1.0 if published else max(float(np.std(alone)), 1e-12)
            chosen = anneal(score, count, heat, rng)
        for k in chosen:
            chain.merge(layer, *pairs[k])
            gone[layer].add(pairs[k][0])
            removals.append((layer, *pairs[k]))
    return removals


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("alpha", [0.75, 0.05])
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("greedy", [False, True])
def test_fast_and_slow_choose_the_same(
    activation: str, alpha: float, published: bool, greedy: bool
):
    graph, layers = mlp([6, 12, 12, 4], activation, seed=3)
    weights = [graph.layers[name].weights for name in layers]
    chain = Chain(
        [weight["kernel"].astype(float).tolist() for weight in weights],
        [weight["bias"].astype(float).tolist() for weight in weights],
        activation,
    )
    energy = PublishedEnergy(alpha) if published else RelativeEnergy(alpha)
    method = Greedy(energy) if greedy else Paper(energy, published_heat=published)
    problem = Problem(
        graph, find_groups(graph), target=0.75, step=1 / 6, input_range=(LEAST, GREATEST), seed=5
    )
    gone: list[set[int]] = [set() for _ in layers[:-1]]
    expected: list[tuple[str, int, int]] = []
    for step, state in enumerate(method.steps(problem)):
        rng = np.random.default_rng([5, step])
        count = 2 if step < 4 else 1  # sixths of twelve, and nine in all
        found = one_step(chain, gone, count, alpha, published, greedy, rng)
        expected += [(layers[layer], drop, keep) for layer, drop, keep in found]
        assert [tuple(removal) for removal in state.plan.removals] == expected
        for name, kernel in zip(layers, chain.kernels, strict=True):
            np.testing.assert_array_equal(state.graph.layers[name].weights["kernel"], kernel)
    assert [len(units) for units in gone] == [9, 9]


def test_the_twin_itself_bounds_what_a_merge_does():
    """Ranges of the twin hold every change sampled, and in one layer they are met at a corner."""
    rng = np.random.default_rng(0)
    for activation in ("relu", "sigmoid"):
        kernels = [rng.normal(size=shape) for shape in ((3, 5), (5, 4), (4, 2))]
        biases = [rng.normal(size=kernel.shape[1]) for kernel in kernels]
        chain = Chain([k.tolist() for k in kernels], [b.tolist() for b in biases], activation)
        x = rng.uniform(LEAST, GREATEST, (500, 3))
        x[:8] = list(itertools.product((LEAST, GREATEST), repeat=3))

        def logits(x, chain=chain, kernels=kernels, biases=biases):
            act = np.vectorize(chain.act)
            for k in range(2):
                x = act(x @ kernels[k] + biases[k])
            return x @ kernels[2] + biases[2]

        before = logits(x)
        for layer in (0, 1):
            found = np.array(chain.effect(layer, 1, 2))
            saved = kernels[layer + 1].copy()
            kernels[layer + 1][2] += kernels[layer + 1][1]
            kernels[layer + 1][1] = 0
            change = logits(x) - before
            kernels[layer + 1][:] = saved
            assert (change >= found[:, 0] - 1e-9).all()
            assert (change <= found[:, 1] + 1e-9).all()
