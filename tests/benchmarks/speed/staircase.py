"""The staircase of one convolution and one depthwise layer: milliseconds of this machine at every width.

    python -m tests.benchmarks staircase [--widths=80]

Kernels of 3x3 on a map of 16 x 16, the convolution with 32 channels in, on one thread: the fastest of 120 runs, the
widths taking turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from keras_robust_prune.latency.kernels import CONVOLUTION, DEPTHWISE, Kernel
from keras_robust_prune.latency.tiles import times_of
from tests.benchmarks.benchmark import Benchmark, Row

WIDTHS = flags.DEFINE_integer("widths", 80, "The widest layer.")
ROUNDS = flags.DEFINE_integer("rounds", 24, "How often every width has its turn, of five runs.")
TITLES = {CONVOLUTION: "convolution 3x3, 32 channels in", DEPTHWISE: "depthwise convolution 3x3"}


def measure(operator: str, dtype: str) -> Iterator[Row]:
    """Every width."""
    widths = range(1, WIDTHS.value + 1)
    kernels = [
        Kernel(operator, 3, 3, 1, 16, 16, width if operator == DEPTHWISE else 32, width)
        for width in widths
    ]
    for width, time in zip(widths, times_of(kernels, dtype, ROUNDS.value), strict=True):
        yield {"width": width, "ms": f"{time:.6g}"}


def draw(rows: list[Row], folder: Path) -> str:
    """A panel per operator and type."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    for line, operator in zip(panels, TITLES, strict=True):
        for panel, dtype in zip(line, ("float32", "int8"), strict=True):
            mine = [r for r in rows if (r["operator"], r["dtype"]) == (operator, dtype)]
            _stairs(panel, mine)
            panel.set_title(f"{TITLES[operator]}, {dtype}", fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("output channels")
    for panel in panels[:, 0]:
        panel.set_ylabel("microseconds")
    figure.savefig(folder / "staircase.png", dpi=110)
    pyplot.close(figure)
    return "![The stairs](staircase.png)"


def _stairs(panel: Any, rows: Sequence[Row]) -> None:
    widths = [int(row["width"]) for row in rows]
    panel.step(widths, [1000 * float(row["ms"]) for row in rows], where="mid", linewidth=1.4)
    panel.set_xticks(range(0, max(widths, default=0) + 1, 16))
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)


BENCHMARK = Benchmark(
    cases=lambda: (
        {"operator": operator, "dtype": dtype}
        for operator in TITLES
        for dtype in ("float32", "int8")
    ),
    measure=measure,
    quick={"widths": 20, "rounds": 3},
    afterwards=draw,
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
