"""One step of `paper` on dense layers as wide as VGG-16's: 25,088 inputs, 4,096 units, 4,096 units, 1,000 outputs.

python -m tests.benchmarks wide_layer
"""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Iterator

import numpy as np
from absl import flags

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import METHODS
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks.benchmark import Benchmark

WIDTHS = flags.DEFINE_list("widths", ["25088", "4096", "4096", "1000"], "Inputs, units, outputs.")


def wide_network(widths: list[int]) -> Graph:
    """The three dense layers with random weights."""
    generator = np.random.default_rng(0)
    layers = {"x": Layer("x", "InputLayer", {"name": "x"})}
    nodes = [Node("x", "x", shapes=((widths[0],),))]
    for index, (inputs, units) in enumerate(itertools.pairwise(widths)):
        name = f"dense_{index}"
        kernel = generator.standard_normal((inputs, units), dtype=np.float32)
        kernel /= np.float32(np.sqrt(inputs))
        bias = 0.1 * generator.standard_normal(units, dtype=np.float32)
        activation = "relu" if units != widths[-1] else "softmax"
        config = {"name": name, "units": units, "activation": activation, "use_bias": True}
        layers[name] = Layer(name, "Dense", config, {"kernel": kernel, "bias": bias})
        source = nodes[-1].ref
        nodes.append(Node(name, name, (source,), {}, (source,), ((units,),)))
    return Graph(layers, tuple(nodes), (Ref("x"),), (nodes[-1].ref,))


def measure(method: str) -> Iterator[dict[str, float]]:
    """Seconds and memory of the first step, 1/64 of the units of both hidden layers."""
    graph = wide_network([int(width) for width in WIDTHS.value])
    problem = Problem(graph, find_groups(graph), target=1 / 64, step=1 / 64)
    began = time.perf_counter()
    (state,) = METHODS[method].steps(problem)
    yield {
        "units removed": len(state.plan.removals),
        "seconds": time.perf_counter() - began,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


BENCHMARK = Benchmark(
    cases=lambda: [{"method": "paper"}],
    measure=measure,
    quick={"widths": ["512", "256", "256", "10"]},
    chart=("seconds", "gigabytes"),
    isolated=True,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
