"""`efficientnet_lite0` on ImageNet's photographs: what is left of its accuracy, and which ingredient does it.

    python -m tests.benchmarks imagenet --shared=../shared --rows=macs:.3:T1:robust
    python -m tests.benchmarks imagenet --rows=macs:.3:T1:norm,macs:.3:T1:reconstruct,macs:.3:T2:robust

A row is measure:target:tier:variant. With T1 no image is read and all 500 are measured on; with T2 every fourth is
calibration (with T2-250 every second), and the others are measured on. Variants switch one ingredient off or
exchange it, see `VARIANTS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.by_cost import ByCost
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.kinds import Synthesis
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import SHARED, Benchmark, Spent
from tests.benchmarks.variants import variants

# What stands for each name; "robust" is the method as it comes.
VARIANTS: dict[str, Any] = {
    **{name: method for name, (method, changes) in variants().items() if not changes},
    "reconstruct": Robust(repair="reconstruct"),
    "reconstruct, photographs, no activity": Robust(
        ByCost(activity=False), repair="reconstruct", synthesis="photographs"
    ),
    "reconstruct, photographs": Robust(repair="reconstruct", synthesis="photographs"),
    "reconstruct, photographs, local costs": Robust(
        ByCost(at_outputs=False), repair="reconstruct", synthesis="photographs"
    ),
    "reconstruct, 512 photographs": Robust(
        repair="reconstruct", synthesis=Synthesis("photographs", num_inputs=512)
    ),
    "reconstruct, procedural": Robust(repair="reconstruct", synthesis="procedural"),
    "reconstruct, inverted": Robust(repair="reconstruct", synthesis="inverted"),
    "800 steps": Robust(repair=(LeastSquares(), Distillation(num_steps=800))),
}
ROWS = flags.DEFINE_list(
    "rows", ["macs:.3:T1:reconstruct; photographs"], "measure:target:tier:variant, `;` for commas."
)
SEEDS = flags.DEFINE_list("seeds", ["0"], "Which seeds.")
NUM_PHOTOGRAPHS = 500
NUMBERS = ("accuracy", "top5", "seconds", "cpu_seconds", "gigabytes", "macs", "params")


def cases() -> Iterator[dict[str, str]]:
    """Every run."""
    for seed in SEEDS.value:
        for row in ROWS.value:
            measure, target, tier, variant = row.split(":")
            yield {
                "measure": measure,
                "target": target,
                "tier": tier,
                "variant": variant.replace(";", ","),
                "seed": seed,
            }


def given_of(tier: str) -> np.ndarray:
    """Which photographs are calibration, `(500,)` bool: none for T1, every fourth for T2, evenly 250 for T2-250."""
    given = np.zeros(NUM_PHOTOGRAPHS, bool)
    if tier != "T1":
        count = int(tier.partition("-")[2] or len(given) // 4)
        given[np.arange(count) * len(given) // count] = True
    return given


def measure_run(
    measure: str, target: str, tier: str, variant: str, seed: str
) -> Iterator[dict[str, float]]:
    """One pruning and what it kept."""
    graph = read(Path(SHARED.value) / "zoo" / "efficientnet_lite0.h5")
    given = given_of(tier)
    calibration = zoo.photographs()[0][given] if given.any() else None
    groups = find_groups(graph)
    problem = Problem(
        graph,
        groups,
        target=float(target),
        measure=measure,
        input_range=(0.0, 255.0),
        calibration=calibration,
        seed=int(seed),
    )
    spent = Spent()
    *_, state = VARIANTS[variant].steps(problem)
    small = cut(state.graph, groups, state.plan)
    taken = tuple(spent)  # the images that are measured on come later: no method pays for them
    x, y = zoo.photographs()
    x, y = x[~given], y[~given]
    order = np.argsort(-build(small).predict(x, batch_size=50, verbose=0), -1)[:, :5]
    numbers = (
        (order[:, 0] == y).mean(),
        (order == y[:, None]).any(1).mean(),
        *taken,
        num_macs(small) / num_macs(graph),
        small.num_params / graph.num_params,
    )
    yield dict(zip(NUMBERS, (round(float(number), 4) for number in numbers), strict=True))


BENCHMARK = Benchmark(
    cases=cases,
    measure=measure_run,
    quick={"rows": ["macs:.3:T1:norm"]},
    chart=("accuracy", "top5"),
    isolated=True,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
