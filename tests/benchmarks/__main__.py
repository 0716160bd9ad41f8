"""One command for every benchmark.

    python -m tests.benchmarks                      # lists them
    python -m tests.benchmarks NAME... [--quick] [--out=FOLDER] [--shared=FOLDER] [flags of the benchmark]
    python -m tests.benchmarks NAME --help

Each has a process of its own and writes NAME.csv, NAME.md and NAME.png with machine, versions and commit in the header.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDERS = ("parity", "accuracy", "robustness", "speed")


def benchmarks() -> dict[str, Path]:
    """Every benchmark by name: a module in one of the four folders that has a `BENCHMARK`."""
    paths = [path for folder in FOLDERS for path in sorted((HERE / folder).glob("*.py"))]
    return {path.stem: path for path in paths if "\nBENCHMARK = " in path.read_text()}


def run(path: Path, arguments: list[str]) -> int:
    """Run one benchmark; its exit status."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    places = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "MPLBACKEND": "agg"}
    environment = {**quiet, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    return subprocess.call([sys.executable, "-m", module, *arguments], env=environment)


def main(arguments: list[str]) -> int:
    """Run the benchmarks that are named; the number of those that failed."""
    known = benchmarks()
    names = [argument for argument in arguments if not argument.startswith("-")]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        if unknown:
            print(f"There is no benchmark {', '.join(unknown)}.")
        for name, path in known.items():
            first = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
            print(f"{path.parent.name + '/' + name:28} {first}")
        return 2 if unknown else 0
    given = [argument for argument in arguments if argument.startswith("-")]
    return sum(run(known[name], given) != 0 for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
