"""What pruning did to one network, on one page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from keras_robust_prune.evaluation.evaluate import evaluate
from keras_robust_prune.evaluation.results import Evaluation
from keras_robust_prune.keras_io.outputs import PAGE_MARK
from keras_robust_prune.keras_io.reading import build
from keras_robust_prune.pruning.origin import Origin
from keras_robust_prune.pruning.pictures import data_uri, picture_of
from keras_robust_prune.pruning.plotting import steps
from keras_robust_prune.reporting.charts import Line, Point, line_chart
from keras_robust_prune.reporting.measurement import Measurement
from keras_robust_prune.reporting.page import (
    Code,
    Facts,
    Part,
    Section,
    figure,
    page,
    pictures,
    scrolling,
)
from keras_robust_prune.reporting.tables import Table
from keras_robust_prune.surgery.drawing import drawing
from keras_robust_prune.surgery.groups import ChannelGroups
from keras_robust_prune.verify.certificate import Certificate

# In-between fractions are measured where all of it takes about so many seconds.
CHEAP = 60.0
SHARES = (0.25, 0.5, 0.75)
ALONG = "of the units removed"


class Described(Protocol):
    """A file that tells of itself, such as an `ExportReport`."""

    @property
    def title(self) -> str: ...

    @property
    def lines(self) -> tuple[tuple[str, str], ...]: ...


class Measured(NamedTuple):
    """What was found of a network after some of the pruning.

    Attributes:
        fraction: of the units removed, 0 for the dense network.
        evaluation: what was found.
    """

    fraction: float
    evaluation: Evaluation


def measure(
    result: Any,
    x: Any,
    y: Any,
    attacks: Iterable[str] = (),
    shares: Sequence[float] | None = None,
    verbose: int = 0,
) -> tuple[Measured, ...]:
    """The dense network and the pruned one, and in between the same run with parts of its target.

    Args:
        result: a `PruningResult`.
        x: inputs.
        y: their labels.
        attacks: see `evaluate`.
        shares: of the target, in (0, 1); None measures three where that is cheap.
        verbose: 0 is silent.
    """

    def found(model: Any) -> Evaluation:
        return evaluate(
            model, x, y, attacks=attacks, input_range=result.inputs or None, verbose=verbose
        )

    dense, pruned = found(build(result.dense)), found(result.model)
    origin = result.origin
    if shares is None:
        seconds = sum(item.seconds for item in dense.measures) + (origin.seconds if origin else 0)
        shares = SHARES if seconds * len(SHARES) <= CHEAP else ()
    between = []
    for share in shares if origin and origin.scales else ():
        graph, plan = origin.at(share)
        between.append(Measured(plan.fraction, found(build(graph))))
    return (Measured(0.0, dense), *between, Measured(result.plan.fraction, pruned))


def report(
    result: Any,
    measured: Sequence[Measured] = (),
    files: Sequence[Described] = (),
    certificate: Certificate | None = None,
    facts: Sequence[tuple[str, str]] = (),
    command: str = "",
) -> str:
    """The page.

    Args:
        result: a `PruningResult`.
        measured: what was found, the dense network first and the pruned one last.
        files: what was exported.
        certificate: of the pruned network against the dense one.
        facts: what else there is to say of what went in and came out, e.g. hashes of files.
        command: the command line that does it again.
    """
    origin = result.origin
    sections = [
        Section("In short", [Facts(_short(result, measured))]),
        Section("Asked for, and how to do it again", _again(result, origin, facts, command)),
        Section("The network", _network(result, origin)),
        Section("What went, and what was kept and why", _groups(result, origin)),
        Section("What is still right", _right(measured)),
        Section("Step by step", _steps(result)),
        Section("What decisions were taken on", _inputs(result, origin)),
        Section("The file", _files(files)),
        Section("Certificate", _certificate(certificate)),
    ]
    before, after = result.comparison.before, result.comparison.after
    lead = f"{result.plan.fraction:.1%} of the units removed by '{result.method}':"
    lead += f" {before.params:,} parameters before, {after.params:,} after;"
    lead += f" {before.macs:,} MACs before, {after.macs:,} after."
    return page(
        f"{result.dense.name}, pruned",
        lead,
        sections,
        PAGE_MARK.decode(),
        "Made by keras_robust_prune.",
    )


def _short(result: Any, measured: Sequence[Measured]) -> list[tuple[str, str]]:
    before, after = result.comparison.before, result.comparison.after
    found = [
        ("removed", f"{result.removed:.1%} of the {result.measure}, {result.asked:.1%} asked for")
    ]
    for name, old, new in (
        ("parameters", before.params, after.params),
        ("MACs", before.macs, after.macs),
    ):
        found.append((name, f"{old:,} → {new:,} ({new / max(old, 1) - 1:+.1%})"))
    if measured:
        pairs = zip(measured[0].evaluation.overall, measured[-1].evaluation.overall, strict=True)
        found += [(old.name, f"{_share(old)} → {_share(new)}") for old, new in pairs]
    found.append(("decided on", result.tier))
    found += [("stopped early", result.stopped)] * bool(result.stopped)
    return found + [("stopping criterion", result.criterion)] * bool(result.criterion)


def _share(item: Measurement) -> str:
    low, high = item.interval or (item.number, item.number)
    return f"{item.number:.3f} [{low:.3f}, {high:.3f}]"


def _again(
    result: Any, origin: Origin | None, facts: Sequence[tuple[str, str]], command: str
) -> list[Part]:
    parts: list[Part] = [Code(command, "Command")] if command else []
    if origin is not None:
        parts.append(Code(f"import keras_robust_prune as krp\n\nresult = {origin.call}", "Call"))
    said = [("method", result.method), ("tier", result.tier)]
    taken = int(max(result.history.get("num_photographs", ()), default=0))
    said.append(("photographs of the package", f"{taken:,} crops" if taken else "none"))
    said += [("input", str(spec)) for spec in result.inputs]
    said += [] if origin is None else origin.facts(result.graph)
    return [*parts, Facts([*said, *facts])]


def _network(result: Any, origin: Origin | None) -> list[Part]:
    parts: list[Part] = []
    if origin is not None:
        drawn = drawing(result.dense, result.graph, origin.problem.groups)
        parts.append(
            figure(
                scrolling(drawn, "Drawing of the network"),
                "Units before → after; the bar is what is left of them. Lines at the side lead to what is"
                " read besides the layer above.",
            )
        )
    table = result.comparison.table
    return [*parts, Table(table.header, table.rows, foot=1, caption="Layer by layer")]


def _groups(result: Any, origin: Origin | None) -> list[Part]:
    if origin is None:
        return []
    groups: ChannelGroups = origin.problem.groups
    rows = []
    for group in groups.groups:
        kept = len(result.plan.kept(group.name))
        rows.append(
            (
                group.name,
                ", ".join(group.producers),
                ", ".join(group.consumers),
                f"{group.num_units:,}",
            )
            + (f"{kept:,}", f"{1 - kept / group.num_units:.0%}")
        )
    header = ("group", "units from", "read by", "units before", "units after", "removed")
    parts: list[Part] = [Table(header, rows, left=3, caption="Groups: units that go together")]
    stays = [(item.layer, f"{item.num_units:,}", item.reason) for item in groups.kept]
    if stays:
        caption = "Units that stay, and why"
        parts.append(Table(("layer", "units", "because"), stays, left=3, caption=caption))
    return parts


def _right(measured: Sequence[Measured]) -> list[Part]:
    if not measured:
        return []
    found = [(item.fraction, item.evaluation.overall) for item in measured]
    names = [item.name for item in found[0][1]]
    rows = [(name, *(_share(overall[k]) for _, overall in found)) for k, name in enumerate(names)]
    header = ("share of the inputs", *(f"{100 * fraction:.3g} % removed" for fraction, _ in found))
    lines = [
        Line(name, [Point(f, o[k].number, *(o[k].interval or (None, None))) for f, o in found])
        for k, name in enumerate(names)
    ]
    drawn = line_chart(lines, "What is still right, over the fraction removed", ALONG)
    count = measured[0].evaluation.num_inputs
    note = f"On {count:,} labelled inputs, which decided nothing; 95 % intervals (Wilson)."
    warned = dict.fromkeys(w for item in measured for w in item.evaluation.warnings)
    return [
        figure(drawn, note),
        Table(header, rows, caption="With 95 % intervals"),
        *(f"Mind: {w}" for w in warned),
    ]


def _steps(result: Any) -> list[Part]:
    over = steps(result.comparison, result.history)
    if not over:
        return []
    fractions = result.history["pruned_fraction"]
    begin = {"parameters": [Point(0.0, 1.0)], "MACs": [Point(0.0, 1.0)]}
    lines = [
        Line(
            name,
            begin.get(name, []) + [Point(f, v) for f, v in zip(fractions, values, strict=True)],
        )
        for name, values in over.items()
    ]
    rows = [
        (f"{k}", f"{fraction:.1%}", *(f"{values[k - 1]:.3f}" for values in over.values()))
        for k, fraction in enumerate(fractions, 1)
    ]
    table = Table(("step", "removed", *over), rows, caption="As shares, step by step")
    note = "As shares of what the dense network has; accuracy and the like of validation_data."
    return [figure(line_chart(lines, "The steps of the run", ALONG), note), table]


def _inputs(result: Any, origin: Origin | None) -> list[Part]:
    parts: list[Part] = [f"{result.tier[0].upper()}{result.tier[1:]}."]
    for kind, samples in () if origin is None else origin.samples.items():
        shown = [picture_of(sample, result.inputs[0]) for sample in samples]
        uris = [data_uri(picture) for picture in shown if picture is not None]
        if uris:
            texts = [f"{kind} input {k}" for k in range(1, len(uris) + 1)]
            parts.append(figure(pictures(uris, texts), f"{kind}: the first {len(uris)} inputs"))
    return parts


def _files(files: Sequence[Described]) -> list[Part]:
    if not files:
        return []
    names = dict.fromkeys(name for file in files for name, _ in file.lines)
    rows = [
        (name, *("; ".join(text for key, text in file.lines if key == name) for file in files))
        for name in names
    ]
    header = ("file", *(file.title for file in files))
    return [
        Table(header, rows, left=len(header), caption="Bytes, time, operators, inputs and outputs")
    ]


def _certificate(certificate: Certificate | None) -> list[Part]:
    if certificate is None:
        return []
    table = certificate.table
    return [
        f"Proven for {certificate.title}: every input within it of each.",
        Table(table.header, table.rows, caption="For how many inputs each was proven"),
        f"|pruned - dense| <= {certificate.bound}",
    ]
