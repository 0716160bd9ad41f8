"""What every benchmark shares: cases that are measured one after the other, and tables that say where they come from.

A benchmark is a module with a `BENCHMARK`: its cases, how one of them is measured, and what `--quick` makes smaller.
Rows are written as soon as they are there; a case whose rows are there already is not measured again.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging

from keras_robust_prune import backends

Row = Mapping[str, Any]
ROOT = Path(__file__).parents[2]
VERSIONS = ("tensorflow", "tf_keras", "keras", "numpy")
# Flags that name places on one machine, which no stored table tells.
PLACES = ("shared", "out", "one", "cache", "environment")

SHARED = flags.DEFINE_string("shared", str(ROOT.parent / "shared"), "Folder with data/ and zoo/.")
OUT = flags.DEFINE_string("out", "benchmarks", "Folder for NAME.csv, NAME.md and NAME.png.")
QUICK = flags.DEFINE_bool(
    "quick", False, "A few minutes at most: small cases, to see that it runs."
)
ONE = flags.DEFINE_string("one", None, "Used inside: measure this case and print its rows as JSON.")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Cases, and how one of them is measured.

    Attributes:
        cases: every case as a mapping of texts; read from the flags.
        measure: from a case's values, by name, to its rows; columns of the case need not be repeated.
        quick: values of flags under `--quick`.
        chart: columns that are drawn, one panel each, a bar for each row.
        isolated: whether every case has a process of its own, so that its peak memory is its own.
        afterwards: writes what else there is to write from all rows into a folder; its text ends the table.
    """

    cases: Callable[[], Iterable[Mapping[str, str]]]
    measure: Callable[..., Iterable[Row]]
    quick: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    chart: Sequence[str] = ()
    isolated: bool = False
    afterwards: Callable[[list[Row], Path], str] | None = None

    def run(self, module: str) -> None:
        """Measure and write; `module` is the benchmark's own `__spec__.name`."""
        app.run(lambda _: self._main(module))

    def _main(self, module: str) -> None:
        logging.set_verbosity(logging.ERROR)
        self._make_quick()
        if ONE.value:
            case = json.loads(ONE.value)
            print(json.dumps([{**case, **row} for row in self.measure(**case)]))
            return
        name, folder = module.rpartition(".")[2], Path(OUT.value)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.csv"
        rows = read_rows(path)
        about = circumstances(name)
        for case in self.cases():
            if any(all(str(row.get(key)) == case[key] for key in case) for row in rows):
                continue
            found = self._isolated(module, case) if self.isolated else self.measure(**case)
            for row in found:
                rows.append({**case, **row})
                print(
                    "  ".join(f"{key}={cell(value)}" for key, value in rows[-1].items()), flush=True
                )
            write_rows(path, rows, about)
        text = f"# {name}\n\n" + "\n".join(about) + "\n\n" + markdown(rows)
        if self.afterwards is not None:
            text += "\n" + self.afterwards(rows, folder)
        (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
        if self.chart and rows:
            draw(folder / f"{name}.png", rows, self.chart)

    def _make_quick(self) -> None:
        """The values of `--quick` for every flag that was not given."""
        for name, value in self.quick.items() if QUICK.value else ():
            if not flags.FLAGS[name].present:
                flags.FLAGS[name].value = value

    def _isolated(self, module: str, case: Mapping[str, str]) -> list[Row]:
        command = [sys.executable, "-m", module, *sys.argv[1:], f"--one={json.dumps(dict(case))}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{dict(case)} failed:\n{done.stderr[-2000:]}", flush=True)
            return []
        return list(json.loads(done.stdout.splitlines()[-1]))


class Spent:
    """What a process has spent since this was made.

    Attributes:
        seconds: of the clock.
        cpu_seconds: of the processor, since the process began, its imports among them.
        gigabytes: the most memory that the process has taken so far.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __iter__(self) -> Iterator[float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield time.monotonic() - self._began
        yield usage.ru_utime + usage.ru_stime
        yield usage.ru_maxrss / 2**20


def circumstances(name: str) -> list[str]:
    """Machine, versions, commit and command, a line each."""
    versions = [f"{package} {_version(package)}" for package in VERSIONS]
    given = [
        argument for argument in sys.argv[1:]
        if argument.lstrip("-").partition("=")[0] not in PLACES
    ]  # fmt: skip
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return [
        f"- machine: {_processor()}, {os.cpu_count()} cores, load {load:.1f} at the start",
        f"- versions: Python {platform.python_version()}, {', '.join(versions)}",
        f"- commit: {_git('rev-parse', '--short', 'HEAD')}{' and changes' if _git('status', '--porcelain') else ''}",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `{' '.join(['python -m tests.benchmarks', name, *given])}`",
    ]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not there"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or ("unknown" if done.returncode else "")


def read_rows(path: Path) -> list[Row]:
    """The rows of a table that was begun earlier; lines with `#` are its circumstances."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def write_rows(path: Path, rows: Sequence[Row], about: Sequence[str] = ()) -> None:
    """A table as CSV, its circumstances above it in lines with `#`."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    draft = path.with_suffix(".csv.part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        file.writelines(f"# {line.removeprefix('- ')}\n" for line in about)
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    draft.replace(path)


def cell(value: Any) -> str:
    """Numbers with four digits, what was not measured as a dash."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    if number != number:
        return "-"
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else f"{number:.4g}"


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(key, "")) for key in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def draw(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """A panel for each column, a bar for each row, named by its texts."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = [
        " ".join(str(value) for value in row.values() if not _is_number(value)) for row in rows
    ]
    size = (3.5 * len(columns) + 2, 0.25 * len(rows) + 1)
    figure, panels = pyplot.subplots(
        1, len(columns), figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    for panel, column in zip(panels[0], columns, strict=True):
        values = [float(row.get(column) or "nan") for row in rows]
        panel.barh(range(len(rows)), values)
        panel.set_yticks(range(len(rows)), names, fontsize=7)
        panel.invert_yaxis() if panel is panels[0][0] else None
        panel.set_title(column, fontsize=9)
        panel.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def ready(path: Path) -> Callable[[], None]:
    """A function that runs a file once on an input of zeros."""
    interpreter = backends.interpreter(path, 1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    return interpreter.invoke


def in_turns(functions: Sequence[Callable[[], Any]], rounds: int) -> np.ndarray:
    """Seconds of every run of functions that are called in turns, `(num_functions, rounds)`.

    They are those of this thread, which stand while a busy machine does something else. What disturbs one run disturbs
    its neighbour in time, too: ratios are taken turn by turn. Before a run that counts there is one that does not, so
    that a function finds its own data in the caches and not another's.
    """
    found = np.empty((len(functions), rounds))
    for turn in range(rounds):
        for number, function in enumerate(functions):
            function()
            begin = time.thread_time()
            function()
            found[number, turn] = time.thread_time() - begin
    return found
