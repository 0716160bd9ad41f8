"""One step of `paper` on dense layers as wide as VGG-16's: 25,088 inputs, 4,096 units, 4,096 units, 1,000 outputs.

python tests/benchmarks/wide_layer.py
"""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app

sys.path[:0] = [str(Path(__file__).parents[2])]

from keras_robust_prune.graph.graph import Graph, Layer, Node, Ref
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import METHODS
from keras_robust_prune.surgery.groups import find_groups

WIDTHS = (25_088, 4_096, 4_096, 1_000)


def wide_network() -> Graph:
    """The three dense layers with random weights."""
    generator = np.random.default_rng(0)
    layers = {"x": Layer("x", "InputLayer", {"name": "x"})}
    nodes = [Node("x", "x", shapes=((WIDTHS[0],),))]
    for index, (inputs, units) in enumerate(itertools.pairwise(WIDTHS)):
        name = f"dense_{index}"
        kernel = generator.standard_normal((inputs, units), dtype=np.float32)
        kernel /= np.float32(np.sqrt(inputs))
        bias = 0.1 * generator.standard_normal(units, dtype=np.float32)
        activation = "relu" if units != WIDTHS[-1] else "softmax"
        config = {"name": name, "units": units, "activation": activation, "use_bias": True}
        layers[name] = Layer(name, "Dense", config, {"kernel": kernel, "bias": bias})
        source = nodes[-1].ref
        nodes.append(Node(name, name, (source,), {}, (source,), ((units,),)))
    return Graph(layers, tuple(nodes), (Ref("x"),), (nodes[-1].ref,))


def main(argv: Sequence[str]) -> None:
    """Prints seconds and memory of the first step, 1/64 of the units of both hidden layers."""
    del argv
    graph = wide_network()
    problem = Problem(graph, find_groups(graph), target=1 / 64, step=1 / 64)
    began = time.perf_counter()
    (state,) = METHODS["paper"].steps(problem)
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(state.plan.removals)} units removed in {seconds:.1f} s, {memory:.2f} GB at most")


if __name__ == "__main__":
    app.run(main)
