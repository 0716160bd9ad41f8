"""What each ingredient of `robust` is worth: switched off one at a time, beside the references.

    python -m tests.benchmarks ablation --shared=../shared --cases=mnist_mlp:units:.5

A fourth part of a case is how many real inputs are given as calibration, none by default: `resnet20:macs:.5:125`.
One line per variant: accuracy (2,000 images) and PGD-20 accuracy (300) of the cut network, on *training* data:
what is decided by this table rests on no test image. The row of tfmot removes single weights, as many as the target
says, and leaves the network as large as it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from absl import flags

from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.surgery.cutting import cut
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark
from tests.benchmarks.variants import variants

DEFAULT = ["mnist_mlp:units:.5", "mnist_mlp:units:.75"]
DEFAULT += ["mnist_robust_cnn:units:.75", "mnist_robust_cnn:macs:.75"]
CASES = flags.DEFINE_list("cases", DEFAULT, "network:measure:target[:real inputs] of every case.")
VARIANTS = flags.DEFINE_list("variants", [], "Which variants; all if empty.")
SEEDS = flags.DEFINE_list("seeds", ["0"], "Which seeds.")
NUM = 2000  # images that are measured on


def cases() -> Iterator[dict[str, str]]:
    """Every variant of every case; budgets by units are uniform as they are."""
    for seed in SEEDS.value:
        for case in CASES.value:
            network, measure, target, *given = case.split(":")
            for variant in VARIANTS.value or variants():
                if "budgets" not in variant or measure != "units":
                    yield {
                        "network": network,
                        "measure": measure,
                        "target": target,
                        "real": given[0] if given else "0",
                        "variant": variant.strip(),
                        "seed": seed,
                    }


def measure_variant(
    network: str, measure: str, target: str, real: str, variant: str, seed: str
) -> Iterator[dict[str, float]]:
    """Accuracy, PGD accuracy and seconds of one variant."""
    x, y = zoo.load_data(network, NUM + int(real), "train")
    graph = read(zoo.file_of(network))
    method, changes = variants()[variant]
    if changes.get("step") == "quarter":
        changes = {"step": float(target) / 4}
    if int(real):
        changes = {**changes, "calibration": x[NUM:]}
    problem = zoo.problem(network, graph, measure, target, seed, **changes)
    began = time.monotonic()
    *_, state = method.steps(problem)
    seconds = time.monotonic() - began
    small = cut(state.graph, problem.groups, state.plan)
    accuracy, pgd = zoo.measured(small, network, x[:NUM], y[:NUM], attacked=300)
    yield {"accuracy": accuracy, "PGD-20": pgd, "seconds": seconds}


BENCHMARK = Benchmark(
    cases=cases,
    measure=measure_variant,
    quick={"cases": ["credit_mlp:units:.5"], "variants": ["norm", "random"]},
    chart=("accuracy", "PGD-20"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
