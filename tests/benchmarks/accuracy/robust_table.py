"""Accuracy without data: the method `robust` on real networks, T1 beside T2 with 128 images.

    python -m tests.benchmarks robust_table --shared=../shared
    python -m tests.benchmarks robust_table --rows=mnist_mlp:units:.5 --tiers=T0,T1 --seeds=0

Every run is a process of its own, so that its peak memory is its own. The table ends with medians over seeds; and where
the runs of `norm` (`--methods=robust,norm`) are there, too, how much of what T2 gains over it T1 gains without data.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.methods.registry import method_for
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut
from tests.benchmarks import zoo
from tests.benchmarks.benchmark import Benchmark, Row, Spent, markdown

ROWS = (
    "mnist_mlp:units:.5",
    "mnist_mlp:units:.75",
    "mnist_cnn:units:.5",
    "mnist_cnn:units:.75",
    "mnist_cnn:units:.9",
    "mnist_robust_cnn:units:.5",
    "mnist_robust_cnn:units:.75",
    "cifar_cnn:units:.5",
    "resnet20:macs:.27",
    "resnet20:macs:.5",
    "xray_cnn:units:.5",
    "credit_mlp:units:.75",
)
KEY = ("network", "measure", "target", "method", "tier")
NUMBERS = ("accuracy", "pgd", "seconds", "cpu_seconds", "gigabytes", "macs", "params")

CHOSEN = flags.DEFINE_list("rows", list(ROWS), "network:measure:target of every row.")
METHODS = flags.DEFINE_list(
    "methods", ["robust"], "Which methods; `dense` is the network as it is."
)
TIERS = flags.DEFINE_list("tiers", ["T1", "T2"], "On which data decisions are taken.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Which seeds.")


def cases() -> Iterator[dict[str, str]]:
    """Every run: rows first, so that a table of one seed is there early."""
    for seed in SEEDS.value:
        for tier in TIERS.value:
            for method in METHODS.value:
                for row in CHOSEN.value:
                    yield {
                        **dict(zip(KEY, (*row.split(":"), method, tier), strict=True)),
                        "seed": seed,
                    }


def measure_run(
    network: str, measure: str, target: str, method: str, tier: str, seed: str
) -> Iterator[dict[str, float]]:
    """One pruning and what it kept."""
    train, _ = zoo.load_data(network, None, "train")
    x, y = zoo.load_data(network, None)
    graph = read(zoo.file_of(network))
    spent = Spent()
    small = graph
    if method != "dense":
        calibration = {"T0": "weights", "T1": None, "T2": train[:128]}[tier]
        problem = zoo.problem(network, graph, measure, target, seed, calibration=calibration)
        *_, state = method_for(method).steps(problem)
        small = cut(state.graph, problem.groups, state.plan)
    taken = tuple(spent)
    accuracy, pgd = zoo.measured(small, network, x, y)
    numbers = (
        accuracy,
        pgd,
        *taken,
        num_macs(small) / num_macs(graph),
        small.num_params / graph.num_params,
    )
    yield dict(zip(NUMBERS, (round(number, 4) for number in numbers), strict=True))


def summary(rows: list[Row], _: Path) -> str:
    """Medians over seeds, one line per row of the table."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(str(row[name]) for name in KEY), []).append(row)
    lines: list[Row] = []
    for key, runs in sorted(found.items()):
        medians = {name: statistics.median(float(run[name]) for run in runs) for name in NUMBERS}
        lines.append({**dict(zip(KEY, key, strict=True)), "seeds": len(runs), **medians})
    accuracies = {tuple(str(line[name]) for name in KEY): float(line["accuracy"]) for line in lines}
    return "Medians over seeds:\n\n" + markdown(lines) + "\n".join(shares(accuracies))


def shares(accuracies: dict[tuple[str, ...], float]) -> list[str]:
    """The share of T2's gain in accuracy over `norm` that T1 reaches, one line per row of the table.

    Args:
        accuracies: medians by network, measure, target, method and tier.
    """
    lines = []
    for row in sorted({key[:3] for key in accuracies}):
        needed = [(*row, *run) for run in (("norm", "T1"), ("robust", "T1"), ("robust", "T2"))]
        if all(key in accuracies for key in needed):
            norm, made, real = (accuracies[key] for key in needed)
            share = f"{(made - norm) / (real - norm):.2f}" if real != norm else "-"
            told = f"norm {norm:.3f}, T1 {made:.3f}, T2 {real:.3f}; share {share}"
            lines.append(f"{':'.join(row)}: {told}")
    return ["", *lines] if lines else []


BENCHMARK = Benchmark(
    cases=cases,
    measure=measure_run,
    quick={"rows": ["credit_mlp:units:.75"], "methods": ["norm"], "tiers": ["T1"], "seeds": ["0"]},
    chart=("accuracy", "pgd"),
    isolated=True,
    afterwards=summary,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
