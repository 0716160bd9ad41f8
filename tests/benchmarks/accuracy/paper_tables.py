"""Tables and plots of the paper's experiment, beside the published curves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
FRACTIONS = (0.25, 0.5, 0.75)
COLORS = {
    "paper": "tab:blue",
    "published": "tab:cyan",
    "greedy": "tab:green",
    "baseline": "tab:orange",
    "norm": "tab:purple",
    "random": "tab:gray",
}
# `published_curves.json` holds the curves of the authors' experiment, digitised: per network the
# fractions, and per quantity one run of the baseline and lowest, median and highest of the method.
PUBLISHED = json.loads(Path(__file__).with_name("published_curves.json").read_text())


def select(
    rows: Sequence[Row], network: str, method: str, fraction: float, key: str
) -> list[float]:
    """What all seeds measured, ascending."""
    return sorted(
        row[key]
        for row in rows
        if row["network"] == network
        and row["method"] == method
        and abs(row["fraction"] - fraction) < 1e-6
    )


def quantities(rows: Sequence[Row], network: str) -> list[str]:
    """`accuracy` and the radii that a network was measured at."""
    first = next(row for row in rows if row["network"] == network)
    return [key for key in first if key == "accuracy" or key.startswith("robust@")]


def shown(value: float | None, key: str) -> str:
    """Accuracies in percent, robust instances as counts."""
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if key == "accuracy" else f"{value:.0f}"


def published_at(network: str, key: str, fraction: float, which: str) -> float | None:
    """One published number, None if there is none."""
    curves = PUBLISHED.get(network, {})
    if key not in curves or fraction not in curves["fraction"]:
        return None
    value = curves[key][which][curves["fraction"].index(fraction)]
    return None if value is None else float(value)


def tables(rows: Sequence[Row], settings: Sequence[Any]) -> str:
    """All tables as Markdown: median (worst-best) over the seeds."""
    measured = {row["network"] for row in rows}
    parts = [
        "Accuracy in %, robust instances per 1,000: median (worst-best) over the seeds.",
        "`their` rows are digitised from the authors' curves, on their own networks.",
    ]
    for setting in settings:
        if setting.network in measured:
            parts.append(_table(rows, setting))
    parts.append(_gains(rows, [item for item in settings if item.network in measured]))
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row], setting: Any) -> str:
    network = setting.network
    keys = quantities(rows, network)
    names = dict.fromkeys(row["method"] for row in rows if row["network"] == network)
    dense = ", ".join(
        f"{key} {shown(select(rows, network, next(iter(names)), 0.0, key)[0], key)}" for key in keys
    )
    head = [f"{key} {fraction:.0%}" for key in keys for fraction in FRACTIONS]
    lines = [
        f"## {setting.number} {network} (alpha {setting.alpha:g}; dense: {dense})",
        "",
        "| method | " + " | ".join(head) + " | s to the end |",
        "|---" * (len(head) + 2) + "|",
    ]
    for name in names:
        cells = []
        for key in keys:
            for fraction in FRACTIONS:
                found = select(rows, network, name, fraction, key)
                cells.append(_cell(found, key))
        last = max(row["fraction"] for row in rows if row["method"] == name)
        seconds = np.median(select(rows, network, name, last, "seconds"))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds:.2f} |")
    for name, which in (("their paper", "median"), ("their baseline", "baseline")):
        cells = [
            shown(published_at(network, key, fraction, which), key)
            for key in keys
            for fraction in FRACTIONS
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " | |")
    return "\n".join(lines)


def _cell(found: list[float], key: str) -> str:
    if not found:
        return "-"
    middle = shown(float(np.median(found)), key)
    if found[0] == found[-1]:
        return middle
    return f"{middle} ({shown(found[0], key)}-{shown(found[-1], key)})"


def _gains(rows: Sequence[Row], settings: Sequence[Any]) -> str:
    lines = [
        "## Gain of `paper` over `baseline` at 50 %, medians",
        "",
        "| network | quantity | ours | as published, here | theirs |",
        "|---|---|---|---|---|",
    ]
    for setting in settings:
        for key in quantities(rows, setting.network):
            base = select(rows, setting.network, "baseline", 0.5, key)[0]
            gains: list[float | None] = [
                float(np.median(select(rows, setting.network, name, 0.5, key))) - base
                for name in ("paper", "published")
            ]
            median = published_at(setting.network, key, 0.5, "median")
            their = published_at(setting.network, key, 0.5, "baseline")
            gains.append(None if median is None or their is None else median - their)
            cells = [
                "-" if gain is None else ("+" if gain >= 0 else "") + shown(gain, key)
                for gain in gains
            ]
            lines.append(f"| {setting.network} | {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], settings: Sequence[Any], out: Path) -> Iterator[Path]:
    """One figure per network; yields the files."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    for setting in settings:
        mine = [row for row in rows if row["network"] == setting.network]
        if not mine:
            continue
        keys = quantities(mine, setting.network)
        figure, axes = pyplot.subplots(1, len(keys), figsize=(5.2 * len(keys), 4.2), squeeze=False)
        for axis, key in zip(axes[0], keys, strict=True):
            _panel(axis, mine, setting.network, key)
        axes[0][0].legend(fontsize=7, loc="lower left")
        figure.suptitle(f"{setting.number} {setting.network}: median and range of the seeds")
        figure.tight_layout()
        path = out / f"{setting.network}.png"
        figure.savefig(path, dpi=110)
        pyplot.close(figure)
        yield path


def _panel(axis: Any, rows: Sequence[Row], network: str, key: str) -> None:
    for name, color in COLORS.items():
        places = sorted({row["fraction"] for row in rows if row["method"] == name})
        if not places:
            continue
        found = [select(rows, network, name, place, key) for place in places]
        axis.plot(places, [np.median(part) for part in found], color=color, label=name)
        ends = [part[0] for part in found], [part[-1] for part in found]
        axis.fill_between(places, *ends, color=color, alpha=0.15, linewidth=0)
    curves = PUBLISHED.get(network, {})
    if key in curves:
        places = np.array(curves["fraction"])
        for which, color, label in (
            ("median", COLORS["paper"], "their paper"),
            ("baseline", COLORS["baseline"], "their baseline"),
        ):
            values = np.array(curves[key][which], float)
            style = "x" if len(places) == 1 else "--"
            axis.plot(places, values, style, color=color, label=label, linewidth=1)
        if len(places) > 1:
            ends = np.array(curves[key]["low"], float), np.array(curves[key]["high"], float)
            axis.fill_between(places, *ends, color=COLORS["paper"], alpha=0.07, linewidth=0)
    axis.set_xlabel("fraction of the dense units removed")
    axis.set_title("accuracy" if key == "accuracy" else f"robust per 1,000, eps {key[7:]}")
    axis.margins(y=0.08)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
