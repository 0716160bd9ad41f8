"""What pruning gives back."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.outputs import PAGE, Output, check
from keras_robust_prune.keras_io.writing import replacing
from keras_robust_prune.methods.measures import Amount
from keras_robust_prune.methods.problem import Method
from keras_robust_prune.pruning.origin import Origin
from keras_robust_prune.pruning.plotting import drawn
from keras_robust_prune.pruning.report import measure, report
from keras_robust_prune.reporting.tables import as_html
from keras_robust_prune.surgery.plan import Plan
from keras_robust_prune.surgery.summary import Comparison, compare
from keras_robust_prune.verify.certificate import Certificate


def tier_of(
    method: Method,
    calibration: Any,
    inputs: Sequence[InputSpec],
    history: Mapping[str, Sequence[float]],
) -> str:
    """Which data decisions were taken on, in words that stand in every report.

    Args:
        method: what decided.
        calibration: as it was given.
        inputs: what each input may be.
        history: what was logged; `num_photographs` of the package's own stood in for data.
    """
    if isinstance(calibration, str) or not getattr(method, "reads_inputs", True):
        return "T0: weights and the range of the inputs; no data"
    examples = inputs[0].examples
    if examples is None:
        beside = (
            ", and photographs that come with the package"
            if any(history.get("num_photographs", ()))
            else ""
        )
        return f"T1: weights, and inputs made from the network{beside}; no data"
    return f"T2: {len(examples):,} unlabelled inputs"


@dataclasses.dataclass(frozen=True, eq=False)
class PruningResult:
    """A pruned network and how it came about.

    Attributes:
        model: the smaller Keras model, of the Keras that was given.
        plan: every unit that went.
        history: what was logged at every pruning step, by name.
        tier: which data the decisions were taken on.
        method: the method's name.
        dense: the network before, as a graph.
        graph: the network after.
        stopped: why pruning ended before its target; empty if it did not.
        inputs: what each input of the network may be.
        measure: what the target counts.
        asked: the fraction of it that was to be removed.
        removed: the fraction that was removed; beside `asked` where widths allow no better.
        amounts: what is left, in its own unit, of each measure that is predicted for a file or a device.
        origin: what was asked, and how to ask it again.
        missed: how clearly that misses `asked`, and why; empty if it does not.
        criterion: what was asked with `stop=`, and what the model keeps of it, measured again.
    """

    model: Any
    plan: Plan
    history: Mapping[str, Sequence[float]]
    tier: str
    method: str
    dense: Graph
    graph: Graph
    stopped: str = ""
    criterion: str = ""
    inputs: tuple[InputSpec, ...] = ()
    measure: str = "units"
    asked: float = 0.0
    removed: float = 0.0
    missed: str = ""
    amounts: tuple[Amount, ...] = ()
    origin: Origin | None = None

    @property
    def promise(self) -> str:
        """The name of `criterion` until 0.1."""
        warnings.warn(
            "PruningResult.promise is now PruningResult.criterion.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.criterion

    @property
    def comparison(self) -> Comparison:
        """Layers, units, parameters and MACs before and after."""
        return compare(self.dense, self.graph)

    def summary(self) -> str:
        """A table of layers, units, parameters and MACs before and after.

        Example:
            `print(result.summary())`
        """
        return "\n".join([str(self.comparison), "", *self.notes])

    @property
    def notes(self) -> tuple[str, ...]:
        """What else there is to say: method, tier, what was asked for and what came of it."""
        notes = [f"method: {self.method}", f"decided on {self.tier}"]
        if len(self.amounts) < 2:
            notes.append(
                f"removed {self.removed:.1%} of the {self.measure}, {self.asked:.1%} asked for"
            )
        notes += [f"predicted {amount}" for amount in self.amounts]
        notes += [f"input {spec}" for spec in self.inputs]
        if self.stopped:
            notes.append(f"stopped early: {self.stopped}")
        if self.criterion:
            notes.append(f"stopping criterion: {self.criterion}")
        return tuple(notes)

    def _repr_html_(self) -> str:
        return as_html([self.comparison.table, "\n".join(self.notes)])

    def plot(self) -> Any:
        """Widths before and after and, of several steps, what was logged, as a figure that notebooks show.

        `result.plot().savefig("widths.png")` writes it.

        Raises:
            ValueError: matplotlib is not installed.
        """
        return drawn(self.comparison, self.history)

    def to_dict(self) -> dict[str, Any]:
        """Every figure as plain values, ready for JSON."""
        before, after = self.comparison.before, self.comparison.after
        named = ("method", "tier", "measure", "asked", "removed", "missed", "stopped", "criterion")
        return {
            **{name: getattr(self, name) for name in named},
            "amounts": [dataclasses.asdict(amount) for amount in self.amounts],
            "params": [before.params, after.params],
            "macs": [before.macs, after.macs],
            "units": {name: [n, len(self.plan.kept(name))] for name, n in self.plan.widths.items()},
            "inputs": [str(spec) for spec in self.inputs],
            "history": {name: [float(v) for v in values] for name, values in self.history.items()},
        }

    def report(
        self,
        path: str | Path,
        x: Any = None,
        y: Any = None,
        *,
        attacks: Iterable[str] = (),
        shares: Sequence[float] | None = None,
        files: Sequence[Any] = (),
        certificate: Certificate | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write one page that needs nothing else: what was asked, what went and what is left of it.

        Args:
            path: where it goes; ends in `.html`.
            x: labelled inputs to measure on; they decide nothing.
            y: their labels.
            attacks: what is measured besides accuracy, as for `krp.evaluate`.
            shares: parts of the target, in (0, 1), at which the run is repeated and measured too; None takes
                three where all of it takes about a minute, and none where it takes longer.
            files: what `krp.export` said of the files.
            certificate: of `krp.certify`.
            overwrite: whether a report that is there may be replaced.

        Raises:
            FileExistsError: something is there and may not be replaced.
            ValueError: there are no labels for `x`, or no inputs for `attacks`.

        Example:
            `result.report("small.html", x_test, y_test, attacks=["pgd@0.05"])`
        """
        attacks = tuple(attacks)
        if (x is None) != (y is None) or (attacks and x is None):
            raise ValueError("What is right is measured on labelled inputs: pass both x and y.")
        check([Output("path", path, PAGE)], overwrite=overwrite)
        found = () if x is None else measure(self, x, y, attacks, shares)
        text = report(self, found, files, certificate)
        with replacing(path, PAGE, overwrite) as draft:
            draft.write_text(text, encoding="utf-8")

    def __repr__(self) -> str:
        return f"PruningResult({self.method}, {self.plan.fraction:.1%} of units removed)"
