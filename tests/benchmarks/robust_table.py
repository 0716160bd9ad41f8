"""Accuracy without data: the method `robust` on real networks, T1 beside T2 with 128 images.

    python tests/benchmarks/robust_table.py --shared ../shared --out robust.csv
    python tests/benchmarks/robust_table.py --rows mnist_mlp:units:.5 --tiers T0,T1 --seeds 0

One line per run, written as soon as it is there; lines that are there already are not run again. Every run is a
process of its own, so that its peak memory is its own. `--summary` prints the table of medians over seeds; and, where
the runs of `norm` (`--methods robust,norm`) are there, too, how much of what T2 gains over it T1 gains without data.
"""

from __future__ import annotations

import argparse
import csv
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from robust_measuring import DEFAULT, ZOO, load_data, measured

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
NUMBERS = ("accuracy", "pgd", "seconds", "cpu_seconds", "gigabytes", "macs", "params")
COLUMNS = ("network", "measure", "target", "method", "tier", "seed", *NUMBERS)


def run(shared: Path, row: str, method: str, tier: str, seed: int) -> dict[str, object]:
    """One pruning and what it kept."""
    from keras_robust_prune.keras_io.reading import read
    from keras_robust_prune.methods.problem import Problem
    from keras_robust_prune.methods.registry import method_for
    from keras_robust_prune.surgery.costs import num_macs
    from keras_robust_prune.surgery.cutting import cut
    from keras_robust_prune.surgery.groups import find_groups

    name, measure, target = row.split(":")
    train, x, y = load_data(shared, name)
    graph = read(shared / "zoo" / f"{name}.h5")
    groups = find_groups(graph)
    began = time.monotonic()
    small = graph
    if method != "dense":
        problem = Problem(
            graph,
            groups,
            target=float(target),
            measure=measure,
            input_range=ZOO[name].input_range,
            calibration={"T0": "weights", "T1": None, "T2": train[:128]}[tier],
            seed=seed,
        )
        *_, state = method_for(method).steps(problem)
        small = cut(state.graph, groups, state.plan)
    seconds = time.monotonic() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    accuracy, pgd = measured(small, name, x, y)
    numbers = (
        accuracy,
        pgd,
        seconds,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 2**20,
        num_macs(small) / num_macs(graph),
        small.num_params / graph.num_params,
    )
    head = (name, measure, target, method, tier, seed)
    return dict(zip(COLUMNS, (*head, *(round(number, 4) for number in numbers)), strict=True))


def summary(path: Path) -> str:
    """Medians over seeds, one line per row of the table."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with path.open() as stored:
        for line in csv.DictReader(stored):
            key = tuple(line[name] for name in COLUMNS[:5])
            found.setdefault(key, []).append(line)
    lines = ["| network | measure | target | method | tier | seeds | " + " | ".join(NUMBERS) + " |"]
    lines.append("|" + "---|" * (6 + len(NUMBERS)))
    for key, runs in sorted(found.items()):
        medians = [statistics.median(float(run[name]) for run in runs) for name in NUMBERS]
        cells = [*key, str(len(runs)), *(f"{value:.4g}" for value in medians)]
        lines.append("| " + " | ".join(cells) + " |")
    gains = shares(
        {
            key: statistics.median(float(run["accuracy"]) for run in runs)
            for key, runs in found.items()
        }
    )
    return "\n".join(lines + gains)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=DEFAULT)
    parser.add_argument("--out", type=Path, default=Path("robust_table.csv"))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--methods", default="robust")
    parser.add_argument("--tiers", default="T1,T2")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if options.summary:
        print(summary(options.out))
        return
    if options.one:
        row, method, tier, seed = options.one.split("/")
        result = run(options.shared, row, method, tier, int(seed))
        with options.out.open("a", newline="") as stored:
            csv.DictWriter(stored, COLUMNS).writerow(result)
        print(result, flush=True)
        return
    if not options.out.exists():
        options.out.write_text(",".join(COLUMNS) + "\n")
    with options.out.open() as stored:
        done = {tuple(line[name] for name in COLUMNS[:6]) for line in csv.DictReader(stored)}
    for seed in options.seeds.split(","):
        for tier in options.tiers.split(","):
            for method in options.methods.split(","):
                for row in options.rows.split(","):
                    if (*row.split(":"), method, tier, seed) not in done:
                        task = f"{row}/{method}/{tier}/{seed}"
                        command = [sys.executable, __file__, "--one", task]
                        command += ["--shared", str(options.shared), "--out", str(options.out)]
                        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
