"""How tight certificates are on `mnist_robust_cnn`, a quarter of its units removed by `robust`, no data.

    python -m tests.benchmarks tightness --shared=../shared

Two questions, on 200 test images: how the joint bound on pruned minus dense compares with subtracting two separate
CROWN bounds (eps .01), and how many images are proven robust before and after (eps .03).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from absl import flags

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.pruning.prune import prune
from keras_robust_prune.verify.bounds import interval_bounds
from keras_robust_prune.verify.certificate import certify
from keras_robust_prune.verify.crown import crown_bounds
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark

NUM = flags.DEFINE_integer("num", 200, "How many test images.")
METHOD = flags.DEFINE_string("method", "robust", "What removes the quarter.")


def separate(dense: Graph, pruned: Graph, x: np.ndarray, eps: float) -> Interval:
    """Pruned minus dense logits from a bound of each network alone."""
    lower, upper = np.clip(x - eps, 0, 1), np.clip(x + eps, 0, 1)
    parts: list[list[Interval]] = [[], []]
    for found, graph in zip(parts, (dense, pruned), strict=True):
        for k in range(0, len(x), 16):
            start = interval_bounds(graph, lower[k : k + 16], upper[k : k + 16])
            found.append(crown_bounds(start)[0].logits)
    low, high = (
        [np.concatenate([getattr(part, side) for part in found]) for found in parts]
        for side in ("lower", "upper")
    )
    return Interval(low[1] - high[0], high[1] - low[0])


def measure(network: str) -> Iterator[dict[str, float]]:
    """Joint beside separate bounds, and proofs before and after."""
    x, y = zoo.load_data(network, NUM.value)
    dense = read(zoo.file_of(network))
    pruned = read(prune(build(dense), 0.25, method=METHOD.value, verbose=0).model)
    began = time.monotonic()
    joint = certify(dense, pruned, x, 0.01)
    apart = separate(dense, pruned, x, 0.01)
    proof = certify(dense, pruned, x, 0.03)
    models = build(dense), build(pruned)
    right = [np.asarray(model(x)).argmax(-1) == y for model in models]
    sizes = joint.deviation.magnitude.max(1) / apart.magnitude.max(1)
    yield {
        "joint / separate width": float(np.median(joint.deviation.width / apart.width)),
        "joint / separate size": float(np.median(sizes)),
        "certified before": float((right[0] & proof.dense_is_constant).mean()),
        "certified after": float((right[1] & proof.pruned_is_constant).mean()),
        "seconds": time.monotonic() - began,
    }


BENCHMARK = Benchmark(
    cases=lambda: [{"network": "mnist_robust_cnn"}],
    measure=measure,
    quick={"num": 4, "method": "norm"},
    chart=("joint / separate width", "certified before", "certified after"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
