"""What pruning leaves of robustness: five networks, four methods, 0 to 75 % of the units.

    pip install -e '.[attacks,report]'
    python -m tests.benchmarks robustness_table --shared=../shared [--networks=mnist_mlp,...] [--methods=robust,norm]

Pruning sees no data. For each network, method, fraction and seed are measured on the first `--num` test inputs: clean
accuracy; PGD-20 and Auto-PGD at the radius of `zoo.py`; mean accuracy on corrupted images, all kinds and severities;
agreement with the dense network; and on the first few, at the radius `proven` of `zoo.py`, the share for which the
right class is certified and the share certified to agree with the dense network. Beside
the table are written `robustness.csv`, medians over the seeds; `robustness.png`, curves of every measure; and a figure
for each network, accuracy and PGD-20 accuracy over the fraction removed. At the end stands how much of the dense
network's PGD accuracy each method keeps.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import numpy as np
from absl import flags

import keras_robust_prune as krp
from tests.benchmarks.benchmark import Benchmark, Row, markdown, write_rows
from tests.benchmarks.zoo import NETWORKS, load_data, load_model

matplotlib.use("agg")

CHOSEN = flags.DEFINE_list(
    "networks",
    ["mnist_mlp", "mnist_cnn", "mnist_robust_cnn", "cifar_cnn", "resnet20"],
    "Which networks.",
)
METHODS = flags.DEFINE_list("methods", ["robust", "paper", "norm", "random"], "Which methods.")
TARGETS = flags.DEFINE_list("targets", ["0.25", "0.5", "0.75"], "Fractions of units removed.")
SEEDS = flags.DEFINE_integer("seeds", 1, "How many seeds.")
NUM = flags.DEFINE_integer("num", 300, "How many test inputs.")
PAPER_STEP = flags.DEFINE_float(
    "paper_step", 1 / 16, "Fraction of the units that one step of `paper` removes."
)
APGD_STEPS = flags.DEFINE_integer("apgd_steps", 40, "Steps of Auto-PGD.")
ALSO = flags.DEFINE_list(
    "also",
    ["apgd", "corruptions", "certified"],
    "What is measured beside accuracy, agreement and PGD-20, and takes most of the time.",
)

KEY = ("network", "method", "target", "seed")
MEASURES = (
    "clean", "pgd", "apgd", "corruptions", "agreement", "certified right", "certified to agree",
)  # fmt: skip
KEPT = {"0.25": 0.85, "0.5": 0.65}


def measures_of(name: str, pruned: Any, dense: Any) -> dict[str, Any]:
    """Every measure of one network beside the dense one."""
    network = NETWORKS[name]
    x, y = load_data(name, NUM.value)
    begin = time.perf_counter()
    pgd, apgd = f"pgd@{network.eps}", f"apgd-{APGD_STEPS.value}@{network.eps}"
    corrupted = "corruptions" in ALSO.value and x.ndim == 4
    found = krp.evaluate(
        pruned, x, y, attacks=[pgd, apgd] if "apgd" in ALSO.value else [pgd],
        corruptions="standard" if corrupted else (), reference=dense,
        input_range=network.input_range,
    )  # fmt: skip
    values = dict.fromkeys(MEASURES, math.nan)
    values |= {"clean": found.accuracy, "pgd": found[pgd], "agreement": found["agreement"]}
    if "apgd" in ALSO.value:
        values["apgd"] = found[str(krp.Attack.parse(apgd))]
    if corrupted:
        values["corruptions"] = found.corruption_accuracy
    if "certified" in ALSO.value:
        some = slice(network.num_proven)
        proven = krp.certify(dense, pruned, x[some], network.proven, network.input_range)
        right = found.find("clean").holds[some]
        values["certified right"] = float(np.mean(right & proven.pruned_is_constant))
        values["certified to agree"] = float(np.mean(proven.agree))
    seconds = time.perf_counter() - begin
    return {**values, "measure seconds": seconds, "warnings": json.dumps(found.warnings)}


def measure(network: str, method: str, target: str, seed: str) -> Iterator[dict[str, Any]]:
    """Prunes one network and measures what is left."""
    dense = load_model(network)
    if target == "0":
        size = {"units removed": 0.0, "params": dense.count_params(), "prune seconds": 0.0}
        yield {**size, **measures_of(network, dense, dense)}
        return
    begin = time.perf_counter()
    result = krp.prune(
        dense, float(target), method=method, seed=int(seed), verbose=0,
        input_range=NETWORKS[network].input_range, step=PAPER_STEP.value if method == "paper" else None,
    )  # fmt: skip
    size = {
        "units removed": result.plan.fraction,
        "params": result.graph.num_params,
        "prune seconds": time.perf_counter() - begin,
    }
    yield {**size, **measures_of(network, result.model, dense)}


def cases() -> Iterator[dict[str, str]]:
    """Every run; the dense network stands once for all methods."""
    for network in CHOSEN.value:
        yield dict(zip(KEY, (network, "dense", "0", "0"), strict=True))
        for target in TARGETS.value:
            for method in METHODS.value:
                for seed in range(SEEDS.value):
                    yield dict(zip(KEY, (network, method, target, str(seed)), strict=True))


def medians(rows: list[Row]) -> list[dict[str, Any]]:
    """One row for each network, method and fraction."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in KEY[:3]), []).append(row)
    return [
        {
            **same[0],
            **{name: median(float(row[name]) for row in same) for name in MEASURES},
            "seed": f"median of {len(same)}",
        }
        for same in groups.values()
    ]


def draw(panel: Any, own: list[dict[str, Any]], what: str, colours: dict[str, str]) -> None:
    """One measure of one network over the fraction removed, one line for each method."""
    for method in dict.fromkeys(row["method"] for row in own if row["method"] != "dense"):
        points = sorted(
            (float(row["target"]), float(row[what]))
            for row in own
            if row["method"] in (method, "dense")
        )
        panel.plot(*zip(*points, strict=True), marker=".", label=method, color=colours[method])
    panel.set_ylim(-0.02, 1.02)
    panel.grid(alpha=0.3)


def plot(rows: list[dict[str, Any]], folder: Path) -> None:
    """All measures of all networks in one figure, and what matters most in one for each network."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["network"] for row in rows))
    methods = dict.fromkeys(row["method"] for row in rows)
    colours = {method: f"C{k}" for k, method in enumerate(methods)}
    size = (2.6 * len(MEASURES), 2.4 * len(names))
    figure, axes = plt.subplots(
        len(names), len(MEASURES), figsize=size, squeeze=False, sharex=True, layout="constrained"
    )
    for line, name in zip(axes, names, strict=True):
        own = [row for row in rows if row["network"] == name]
        for panel, what in zip(line, MEASURES, strict=True):
            draw(panel, own, what, colours)
            panel.set_title(f"{name}: {what}", fontsize=8)
        single, panels = plt.subplots(1, 2, figsize=(7, 3), sharey=True, layout="constrained")
        attack = f"PGD-20 accuracy at radius {NETWORKS[name].eps}"
        for panel, what, title in zip(
            panels, ("clean", "pgd"), (f"{name}: accuracy", attack), strict=True
        ):
            draw(panel, own, what, colours)
            panel.set_title(title, fontsize=9)
            panel.set_xlabel("fraction of units removed")
        panels[0].legend(fontsize=8)
        single.savefig(folder / f"{name}.png", dpi=110)
        plt.close(single)
    axes[0, 0].legend(fontsize=7)
    figure.savefig(folder / "robustness.png", dpi=130)
    plt.close(figure)


def kept(rows: list[dict[str, Any]]) -> str:
    """How much of the dense network's PGD accuracy is left, beside what `robust` has to keep."""
    dense = {row["network"]: float(row["pgd"]) for row in rows if row["method"] == "dense"}
    cells = []
    for row in rows:
        if row["network"] in dense and row["method"] != "dense":
            share = float(row["pgd"]) / dense[row["network"]] if dense[row["network"]] else math.nan
            floor = KEPT.get(row["target"]) if row["method"] == "robust" else None
            verdict = "" if floor is None else ("kept" if share >= floor else f"below {floor}")
            values = (row["network"], row["method"], row["target"], share, verdict)
            cells.append(
                dict(zip(("network", "method", "target", "PGD kept", "asked"), values, strict=True))
            )
    return markdown(cells)


def publish(rows: list[Row], folder: Path) -> str:
    """Medians, curves, and what is kept."""
    middle = medians(rows)
    write_rows(folder / "robustness.csv", middle)
    plot(middle, folder)
    return kept(middle)


BENCHMARK = Benchmark(
    cases=cases,
    measure=measure,
    quick={
        "networks": ["credit_mlp"],
        "methods": ["norm"],
        "targets": ["0.5"],
        "num": 40,
        "also": [],
    },
    afterwards=publish,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
