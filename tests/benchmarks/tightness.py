"""How tight certificates are on `mnist_robust_cnn`, a quarter of its units removed by `robust`, no data.

    python tests/benchmarks/tightness.py --shared ../shared

Two questions, on 200 test images: how the joint bound on pruned minus dense compares with subtracting two separate
CROWN bounds (eps .01), and how many images are proven robust before and after (eps .03).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from robust_measuring import DEFAULT, load_data

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.pruning.prune import prune
from keras_robust_prune.verify.bounds import interval_bounds
from keras_robust_prune.verify.certificate import certify
from keras_robust_prune.verify.crown import crown_bounds

NAME = "mnist_robust_cnn"


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    parser.add_argument("--num", type=int, default=200)
    options = parser.parse_args()
    _, x, y = load_data(options.shared, NAME)
    x, y = x[: options.num], y[: options.num]
    dense = read(options.shared / "zoo" / f"{NAME}.h5")
    pruned = read(prune(build(dense), 0.25, verbose=0).model)
    began = time.monotonic()
    joint = certify(dense, pruned, x, 0.01)
    apart = separate(dense, pruned, x, 0.01)
    width = np.median(joint.deviation.width / apart.width)
    size = np.median(joint.deviation.magnitude.max(1) / apart.magnitude.max(1))
    print(f"eps .01: joint / separate, median: {width:.3f} of the width, {size:.3f} of the size")
    proof = certify(dense, pruned, x, 0.03)
    models = build(dense), build(pruned)
    right = [np.asarray(model(x)).argmax(-1) == y for model in models]
    before = float((right[0] & proof.dense_is_constant).mean())
    after = float((right[1] & proof.pruned_is_constant).mean())
    print(f"eps .03: certified robust accuracy {before:.3f} -> {after:.3f}")
    print(proof)
    print(f"{time.monotonic() - began:.0f} s without the pruning")


if __name__ == "__main__":
    main()
