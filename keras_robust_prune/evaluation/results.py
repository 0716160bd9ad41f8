"""What an evaluation found: shares with confidence intervals, as a table and as a dict."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from keras_robust_prune.evaluation.attacks import Attack
from keras_robust_prune.reporting.measurement import Measurement
from keras_robust_prune.reporting.plots import new_figure
from keras_robust_prune.reporting.tables import Table, as_html

CLEAN, ATTACK, CORRUPTION, AGREEMENT = "clean", "attack", "corruption", "agreement"
ALL_HEADS = "all outputs"
Z_95 = 1.959963984540054


def wilson_interval(count: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share: where the true share lies with 95 % confidence.

    Args:
        count: successes, 0 to `total`.
        total: trials.
        z: quantile of the normal distribution; 1.96 stands for 95 %.

    Returns:
        Lower and upper end in [0, 1]; (0, 1) without trials.

    Raises:
        ValueError: `count` does not lie between 0 and `total`.

    Example:
        >>> [round(end, 4) for end in wilson_interval(8, 10)]
        [0.4902, 0.9433]

    Reference:
        Wilson, 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share: count lies between 0 and total.")
    if total == 0:
        return 0.0, 1.0
    share, spread = count / total, z * z / total
    middle = (share + spread / 2) / (1 + spread)
    reach = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Measure:
    """A share of the inputs for which something holds.

    Attributes:
        head: the output it is about.
        kind: `"clean"`, `"attack"`, `"corruption"` or `"agreement"`.
        name: the attack or corruption, e.g. `"pgd@0.05"`, `"jpeg@3"`; else the kind.
        holds: for which inputs, `(num_inputs,)` bool.
        seconds: how long measuring took.
    """

    head: str
    kind: str
    name: str
    holds: np.ndarray = dataclasses.field(repr=False)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """For how many inputs it holds."""
        return int(np.count_nonzero(self.holds))

    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        return self.count / len(self.holds) if len(self.holds) else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        return wilson_interval(self.count, len(self.holds))

    def measurement(self, subject: str, name: str) -> Measurement:
        """The share with its interval, under a name, on what was measured."""
        low, high = self.interval
        ends = min(low, self.value), max(high, self.value)  # as rounding may have it
        return Measurement(name, self.value, *ends, len(self.holds), subject)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the single inputs, as plain values."""
        lower, upper = self.interval
        return {
            "output": self.head,
            "kind": self.kind,
            "name": self.name,
            "value": self.value,
            "lower": lower,
            "upper": upper,
            "count": self.count,
            "total": len(self.holds),
            "seconds": self.seconds,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found. Prints as a table; `to_dict()` gives plain values.

    An input counts as robust if it is classified rightly and no point that the attack found is classified otherwise. So
    a robust accuracy is an upper bound: a stronger attack may lower it.

    Attributes:
        subject: what was evaluated.
        num_inputs: on how many inputs.
        measures: every share; with several outputs each for every output, then for all of them at once.
        warnings: reasons to distrust the figures, e.g. masked gradients.

    Example:
        >>> measure = Measure("probability", "clean", "clean", np.array([True, True, False, True]))
        >>> print(Evaluation("toy", 4, (measure,)))
        toy, 4 inputs
        measure  accuracy   95 % interval
        ---------------------------------
        clean       .7500  [.3006, .9544]
        >>> Evaluation("toy", 4, (measure,))["clean"]
        0.75
    """

    subject: str
    num_inputs: int
    measures: tuple[Measure, ...]
    warnings: tuple[str, ...] = ()

    @property
    def heads(self) -> tuple[str, ...]:
        """The outputs, in order; with several, `"all outputs"` last."""
        return tuple(dict.fromkeys(measure.head for measure in self.measures))

    def find(self, name: str, head: str | None = None) -> Measure:
        """A measure by its name, for one output; by default the only one, or all at once.

        An attack is found by every text that names it: `"pgd@8/255"` is `"pgd@0.0313725"`.

        Raises:
            KeyError: there is none.
        """
        head = head or self.heads[-1]
        for wanted in (name, _printed(name)):
            for measure in self.measures:
                if (measure.name, measure.head) == (wanted, head):
                    return measure
        names = dict.fromkeys(measure.name for measure in self.measures)
        raise KeyError(
            f"Nothing called {name!r} was measured for {head!r}; there is {list(names)}."
        )

    def __getitem__(self, name: str) -> float:
        return self.find(name).value

    @property
    def accuracy(self) -> float:
        """Clean accuracy, in [0, 1]; with several outputs of all at once."""
        return self[CLEAN]

    @property
    def corruption_accuracy(self) -> float:
        """Mean accuracy over every corruption and severity measured; NaN without any."""
        head = self.heads[-1:]
        values = [m.value for m in self.measures if m.kind == CORRUPTION and m.head in head]
        return sum(values) / len(values) if values else math.nan

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Every share as a `Measurement`, with Wilson's 95 % interval."""
        return tuple(
            m.measurement(self.subject, m.name if len(self.heads) == 1 else f"{m.name} of {m.head}")
            for m in self.measures
        )

    @property
    def overall(self) -> tuple[Measurement, ...]:
        """Every share of all outputs at once, or of the only one; that of clean inputs is the `accuracy`."""
        return tuple(
            m.measurement(self.subject, "accuracy" if m.kind == CLEAN else m.name)
            for m in self.measures
            if m.head == self.heads[-1]
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        return {
            "subject": self.subject,
            "num_inputs": self.num_inputs,
            "measures": [measure.to_dict() for measure in self.measures],
            "warnings": list(self.warnings),
        }

    @property
    def title(self) -> str:
        """What was evaluated, and on how many inputs."""
        return f"{self.subject}, {self.num_inputs:,} inputs"

    @property
    def tables(self) -> tuple[Table, ...]:
        """Shares with intervals; then, per output, accuracy by corruption and severity."""
        many = len(self.heads) > 1
        header = ("measure", *(("output",) if many else ()), "accuracy", "95 % interval")
        rows = [self._row(m, many) for m in self.measures if m.kind != CORRUPTION]
        damaged = [self._corruptions(head, many) for head in self.heads]
        return (Table(header, rows, left=1 + many), *filter(None, damaged))

    def __str__(self) -> str:
        shares, *damaged = self.tables
        lines = [self.title, str(shares)]
        for found in damaged:
            lines += ["", found.caption, str(found)]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        warned = [f"warning: {warning}" for warning in self.warnings]
        return as_html([self.title, *self.tables, *warned])

    def plot(self) -> Any:
        """Every share with its 95 % interval, as a matplotlib figure that notebooks show.

        `evaluation.plot().savefig("shares.png")` writes it.

        Raises:
            ValueError: matplotlib is not installed.
        """
        shares = [m for m in self.measures if m.head == self.heads[-1]]
        figure = new_figure(5.5, 1.0 + 0.28 * len(shares))
        axes = figure.add_subplot()
        for place, measure in enumerate(shares):
            low, high = measure.interval
            away = [[max(measure.value - low, 0)], [max(high - measure.value, 0)]]
            axes.errorbar(measure.value, place, xerr=away, fmt="o", color="C0", capsize=3)
        names = ["agreement" if m.kind == AGREEMENT else m.name for m in shares]
        axes.set_yticks(range(len(shares)), names)
        axes.set(xlim=(-0.03, 1.03), ylim=(len(shares) - 0.5, -0.5))
        axes.set(xlabel="share of the inputs, 95 % interval", title=self.title)
        axes.grid(axis="x", alpha=0.3)
        return figure

    @staticmethod
    def _row(measure: Measure, many: bool) -> tuple[str, ...]:
        lower, upper = (_share(end) for end in measure.interval)
        name = "agreement with reference" if measure.kind == AGREEMENT else measure.name
        head = (measure.head,) if many else ()
        return (name, *head, _share(measure.value), f"[{lower}, {upper}]")

    def _corruptions(self, head: str, many: bool) -> Table | None:
        found: dict[str, dict[str, float]] = {}
        for measure in self.measures:
            if measure.kind == CORRUPTION and measure.head == head:
                name, _, severity = measure.name.partition("@")
                found.setdefault(name, {})[severity] = measure.value
        if not found:
            return None
        severities = sorted({severity for values in found.values() for severity in values})
        rows = []
        for name, values in found.items():
            cells = [_share(values[s]) if s in values else "" for s in severities]
            rows.append((name, *cells, _share(sum(values.values()) / len(values))))
        title = f"accuracy of {head!r} by severity" if many else "accuracy by severity"
        return Table(("corruption", *severities, "mean"), rows, caption=title)


def _printed(name: str) -> str:
    """The text that an attack prints as; what names none stays."""
    try:
        return str(Attack.parse(name))
    except ValueError:
        return name


def _share(value: float) -> str:
    """`.9876`, `1.000`."""
    text = f"{value:.4f}"
    return text[:5] if text.startswith("1") else text.lstrip("0")
