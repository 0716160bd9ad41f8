"""The command line: `keras-robust-prune prune`, `inspect`, `evaluate`, `certify`, `export`, `files` and `demo`.

Every command has flags of its own. Whatever can be refused is refused before the work begins; files appear whole or not
at all; what went wrong is one message and the exit status 1, a missed target 3, an interruption 130.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import runpy
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_robust_prune.cli import values
from keras_robust_prune.cli.ending import Ending
from keras_robust_prune.cli.flags import CERTIFIED, PROGRAM, SWITCHES, parser
from keras_robust_prune.memory import give_back_what_is_freed

# At this distance the dense network of the demonstration withstands PGD on about three quarters of the images.
DEMO_RADIUS = 0.1
MISSED = 3
"""The exit status where everything was done and written, but the target was missed."""


def prune_command(args: argparse.Namespace) -> Any:
    """`prune MODEL OUT`."""
    if args.memory is not None:
        give_back_what_is_freed()
    from keras_robust_prune.inputs.loading import load_labelled, load_range

    labelled = load_labelled(args.data) if args.data else None
    if args.attacks and labelled is None:
        raise ValueError("--attacks are measured on labelled inputs: give them with --data.")
    certified = None
    if args.certify is not None:
        if labelled is None:
            raise ValueError("--certify is proven around inputs: give them with --data.")
        certified = (_first(labelled[0], CERTIFIED), args.certify)
    names = ("target", "method", "seed", "measure", "step", "keep", "round_to", "stop", "minutes")
    options = {
        name: getattr(args, name) for name in (*names, "calibration", "memory", "checkpoint")
    }
    input_range = load_range(args.input_range)
    limits = values.limits(args.limits)

    from keras_robust_prune.exporting.quantization import quantization_for
    from keras_robust_prune.exporting.workflow import Job

    way = quantization_for(args.quantize)  # refused before the work

    counted = _counted(args, way.name)
    options["measure"] = counted.get(args.measure, args.measure)
    if limits:
        options["limits"] = {counted.get(name, name): limit for name, limit in limits.items()}
    options["round_to"] = _round_to(args, way.name)

    return Job(
        args.source,
        args.out,
        {**options, "verbose": _verbose(args)},
        input_range=input_range,
        tflite=args.tflite,
        command=values.command_line([PROGRAM, *args.words]),
        quantize=way.name,
        report=args.report,
        labelled=labelled,
        attacks=args.attacks,
        certified=certified,
        overwrite=args.overwrite,
        trust=args.trust,
        force=args.force,
        inputs=_files_of(args),
    ).run()


def _verbose(args: argparse.Namespace) -> int:
    """Whether to say how far the work is; JSON stands alone."""
    return int(not (args.quiet or args.json))


def _counted(args: argparse.Namespace, dtype: str) -> dict[str, Any]:
    """What measures stand for that depend on the file: its bytes as it is quantised, and a device's milliseconds."""
    from keras_robust_prune.latency import Latency, LatencyTable
    from keras_robust_prune.methods.measures import Bytes

    family = "int8" if dtype.startswith("int8") else dtype
    found: dict[str, Any] = (
        {"bytes": Bytes(family)} if family in ("float16", "dynamic", "int8") else {}
    )
    if args.latency_table:
        table = LatencyTable.load(args.latency_table)
        timed = table.about.get("dtype") or family
        if (timed == "int8") != (family == "int8"):
            warnings.warn(
                f"'{args.latency_table}' holds the times of {timed}, but --quantize={args.quantize} computes in another"
                " type. Give the table of that type, or --quantize as it was timed.",
                stacklevel=2,
            )
        found["latency"] = Latency(table)
    return found


def _round_to(args: argparse.Namespace, dtype: str) -> int:
    """Of what widths are multiples: as asked, or as the kernels of the device like it."""
    from keras_robust_prune.latency import tile

    whole = (
        bool(args.limits) or args.measure != "units"
    )  # else each layer is asked for a fraction of its own
    device = args.device or ("cpu" if args.tflite and whole else "none")
    if args.round_to > 1 or device == "none":
        return int(args.round_to)
    return tile(device, dtype)


def _files_of(args: argparse.Namespace) -> dict[str, str]:
    """The files besides the model that a command reads, by their flags."""
    flags = ("data", "calibration", "input_range", "latency_table")
    named = {f"--{flag}": getattr(args, flag) for flag in flags}
    return {flag: text for flag, text in named.items() if text and os.path.exists(text)}


def inspect_command(args: argparse.Namespace) -> Any:
    """`inspect MODEL`, a `.tflite` file too."""
    if args.source.endswith(".tflite"):
        from keras_robust_prune.exporting.describing import describe_tflite

        return describe_tflite(args.source)
    from keras_robust_prune.pruning.inspection import inspect

    return inspect(args.source, keep=args.keep, trust=args.trust)


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    """What is measured and how, alike for models and files."""
    from keras_robust_prune.inputs.loading import load_range

    return {
        "attacks": args.attacks,
        "corruptions": args.corruptions,
        "reference": args.reference,
        "input_range": load_range(args.input_range),
        "seed": args.seed,
        "trust": args.trust,
        "verbose": _verbose(args),
    }


def evaluate_command(args: argparse.Namespace) -> Any:
    """`evaluate MODEL --data=FILE`."""
    from keras_robust_prune.inputs.loading import load_labelled

    if not args.data:
        raise ValueError("'evaluate' needs labelled inputs: --data=FILE.npz with arrays x and y.")
    x, y = load_labelled(args.data)

    from keras_robust_prune.evaluation.evaluate import evaluate

    return evaluate(args.source, x, y, **_measured(args))


def _first(x: Any, count: int) -> Any:
    """The first inputs, of one array or of arrays by name."""
    return {k: v[:count] for k, v in x.items()} if isinstance(x, Mapping) else x[:count]


def certify_command(args: argparse.Namespace) -> Any:
    """`certify MODEL SMALL --data=FILE`."""
    from keras_robust_prune.inputs.loading import load_arrays, load_range

    if not args.data:
        raise ValueError("'certify' needs inputs: --data=FILE.npz with an array x.")
    x = _first(load_arrays(args.data), args.num_inputs)

    from keras_robust_prune.verify.certificate import certify

    input_range = load_range(args.input_range)
    how = {"trust": args.trust, "verbose": _verbose(args)}
    return certify(args.source, args.small, x, args.eps, input_range, **how)


def files_command(args: argparse.Namespace) -> Any:
    """`files A.tflite B.tflite ...`."""
    from keras_robust_prune.inputs.loading import load_labelled

    labelled = load_labelled(args.data) if args.data else None

    from keras_robust_prune.exporting.comparing import compare_files

    return compare_files(
        args.sources,
        *(labelled or (None, None)),
        runs=args.runs,
        surrogates=args.surrogates,
        **_measured(args),
    )


def export_command(args: argparse.Namespace) -> Any:
    """`export MODEL OUT`."""
    from keras_robust_prune.inputs.loading import load_range

    input_range = load_range(args.input_range)

    from keras_robust_prune.exporting.metadata import Metadata
    from keras_robust_prune.exporting.tflite import export

    metadata = None
    if args.labels:
        labels = Path(args.labels).read_text(encoding="utf-8").splitlines()
        metadata = Metadata(Path(args.out).stem, labels=[label for label in labels if label])
    reports = export(
        args.source,
        args.out,
        args.quantize if len(args.quantize) > 1 else args.quantize[0],
        calibration=args.calibration,
        input_range=input_range,
        dense_per_tensor=args.dense_per_tensor,
        float_layers=args.float_layers,
        min_agreement=args.min_agreement,
        max_runtime=args.max_runtime,
        metadata=metadata,
        softmax=args.softmax,
        force=args.force,
        overwrite=args.overwrite,
        seed=args.seed,
        trust=args.trust,
        verbose=_verbose(args),
    )
    return reports


def demo_command(args: argparse.Namespace) -> Any:
    """`demo [FOLDER]`."""
    from keras_robust_prune import demo
    from keras_robust_prune.exporting.workflow import Job
    from keras_robust_prune.keras_io import writing
    from keras_robust_prune.keras_io.outputs import LITE, SAVED_MODEL, Output, check

    folder = Path(args.folder)
    dense, pruned, tflite = folder / "dense", folder / "pruned", folder / "pruned.tflite"
    places = [Output("FOLDER", dense, SAVED_MODEL), Output("FOLDER", pruned, SAVED_MODEL)]
    check([*places, Output("FOLDER", tflite, LITE)], overwrite=args.overwrite)
    model, x, y = demo.load()
    writing.save(model, dense, args.overwrite)
    if not args.json:
        print(f"A classifier of {x.shape[1]} x {x.shape[2]} digits, as a SavedModel: {dense}")
    options = {name: getattr(args, name) for name in ("target", "method", "seed")}
    return Job(
        str(dense),
        str(pruned),
        {**options, "verbose": _verbose(args)},
        tflite=str(tflite),
        labelled=(x, y),
        attacks=(f"pgd@{DEMO_RADIUS}",),
        overwrite=args.overwrite,
    ).run()


def tell(args: argparse.Namespace, found: Any) -> None:
    """Prints what a command found, as text or as one line of JSON."""
    if args.json:
        figures = (
            [item.to_dict() for item in found] if isinstance(found, tuple) else found.to_dict()
        )
        print(json.dumps(_strict({"command": args.command, "found": figures})))
    else:
        print(*(found if isinstance(found, tuple) else (found,)), sep="\n\n")


def _strict(value: Any) -> Any:
    """What JSON has no word for, NaN and infinity, as null."""
    if isinstance(value, Mapping):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


COMMANDS: Mapping[str, Callable[[argparse.Namespace], Any]] = {
    "prune": prune_command,
    "inspect": inspect_command,
    "evaluate": evaluate_command,
    "certify": certify_command,
    "export": export_command,
    "files": files_command,
    "demo": demo_command,
}


def _told(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """A warning is one line; what libraries say to programmers is not for users."""
    from keras_robust_prune.pruning.target import MissedTarget

    # A missed target is told in the end, by the exit status too.
    if issubclass(category, UserWarning) and not issubclass(category, MissedTarget):
        print(f"warning: {message}", file=sys.stderr)


def run(words: Sequence[str]) -> int:
    """Does what a command line asks for.

    Args:
        words: what stands behind the program's name.

    Returns:
        The exit status: 0, 1 after an error that was told, 3 after a missed target, 130 or 143 after an interruption.
    """
    try:
        args = parse(words)
    except SystemExit as done:
        return int(done.code or 0)
    return execute(args)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Flags and arguments; `command` is the command's name.

    Raises:
        SystemExit: help was asked for, or something is unknown or missing.
    """
    commands = parser()
    asked = ["--help"] if list(words) in ([], ["help"]) else values.in_absls_forms(words, SWITCHES)
    return commands.parse_args(asked, argparse.Namespace(words=list(words)))


def execute(args: argparse.Namespace, ending: Ending | None = None) -> int:
    """Runs the command that was parsed; see `run`."""
    ending = ending or Ending()
    ending.checkpoint = getattr(args, "checkpoint", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _told
            extend(getattr(args, "extensions", ()))
            found = COMMANDS[args.command](args)
            tell(args, found)
    except KeyboardInterrupt:
        return ending.tell()
    except Exception as error:
        # An import that was interrupted may say something else.
        if ending.signal:
            return ending.tell()
        if not isinstance(error, (ValueError, OSError, ImportError)):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    if ending.signal:
        return ending.tell()
    missed = getattr(getattr(found, "result", None), "missed", "")
    if missed:
        print(f"target missed: {missed} What was reached is written.", file=sys.stderr)
    return MISSED if missed else 0


def extend(paths: Sequence[str]) -> None:
    """Run Python files of the user's own, which register what is not in the package.

    Raises:
        ValueError: a file is not there or no Python file, before any is run.
    """
    wrong = [path for path in paths if not path.endswith(".py") or not os.path.isfile(path)]
    if wrong:
        raise ValueError(
            f"--extensions names {', '.join(map(repr, wrong))}; each has to be a Python file that is"
            " there, for example my_attacks.py."
        )
    for path in paths:
        runpy.run_path(path)


def main() -> None:
    """The program `keras-robust-prune`; it keeps TensorFlow's remarks on itself to itself."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    ending = Ending()

    def quietly(args: argparse.Namespace) -> int:
        logging.set_verbosity(logging.ERROR)
        return execute(args, ending)

    try:
        ending.watch()  # before whatever takes long to import
        from absl import app, logging

        app.run(quietly, flags_parser=lambda words: parse(words[1:]))
    except KeyboardInterrupt:
        sys.exit(ending.tell())
