"""A pruning run as a figure: widths before and after, and the way there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from keras_robust_prune.reporting.plots import new_figure
from keras_robust_prune.surgery.summary import Comparison

# What is drawn over the steps where it was logged, each as a share of what the dense network has or is.
NAMES = {"params": "parameters", "macs": "MACs"}


def drawn(comparison: Comparison, history: Mapping[str, Sequence[float]]) -> Any:
    """A matplotlib figure of widths and, of several steps, of what was logged at each.

    Args:
        comparison: layer by layer.
        history: values at every step, by name.

    Raises:
        ValueError: matplotlib is not installed.
    """
    rows = [(old, new) for old, new in comparison.rows if old.units]
    over = steps(comparison, history)
    figure = new_figure(6.5 + 4.5 * bool(over), max(2.6, 0.8 + 0.24 * len(rows)))
    left, *right = figure.subplots(1, 1 + bool(over), squeeze=False)[0]
    places = range(len(rows))
    left.barh(places, [old.units for old, _ in rows], color="0.85", label="before")
    left.barh(places, [new.units for _, new in rows], color="C0", height=0.5, label="after")
    for place, (old, new) in enumerate(rows):
        if old.units != new.units:
            left.text(old.units, place, f" {new.units} of {old.units}", va="center", fontsize=8)
    left.set_yticks(places, [shortened(old.name) for old, _ in rows], fontsize=8)
    left.set(xlabel="units", ylim=(len(rows) - 0.5, -0.5), title=comparison.before.name)
    left.margins(x=0.18)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=8)
    for axes in right:
        fractions = history["pruned_fraction"]
        for style, (name, values) in zip(itertools.cycle(("-", "--", ":")), over.items()):
            axes.plot(fractions, values, style, marker=".", label=name)
        axes.set(xlabel="fraction of the units removed", ylabel="share", ylim=(0, 1.03))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def steps(
    comparison: Comparison, history: Mapping[str, Sequence[float]]
) -> dict[str, Sequence[float]]:
    """What was logged at every step as shares in [0, 1], by name; nothing of a single step.

    Example:
        >>> from keras_robust_prune.surgery.summary import Summary
        >>> same = Comparison(Summary("a", ()), Summary("a", ()))
        >>> steps(same, {"pruned_fraction": [0.25, 0.5], "val_accuracy": [0.9, 0.8]})
        {'accuracy': [0.9, 0.8]}
    """
    if len(history.get("pruned_fraction", ())) < 2:
        return {}
    whole = {"params": comparison.before.params, "macs": comparison.before.macs}
    found: dict[str, Sequence[float]] = {
        NAMES[name]: [value / total for value in history[name]]
        for name, total in whole.items()
        if name in history and total
    }
    for name, values in history.items():
        if name.startswith("val_") and all(0 <= value <= 1 for value in values):
            found[name.removeprefix("val_")] = values
    return found


def shortened(name: str, most: int = 28) -> str:
    """A name that fits beside a drawing: of a long one its two ends.

    Example:
        >>> shortened("a" * 20 + "b" * 20, 9)
        'aaaa…bbbb'
    """
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
