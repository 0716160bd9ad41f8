"""The command line: `keras-robust-prune prune`, `inspect`, `evaluate` and `demo`.

Every command has flags of its own. Whatever can be refused is refused before the work begins; files appear whole or not
at all; what went wrong is one message and the exit code 1, an interruption is 130.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags, logging

from keras_robust_prune.export.inputs import load_inputs, load_labelled, load_range

PROGRAM = "keras-robust-prune"
ABOUT = "Makes a trained Keras network smaller, without its training data."
# At this distance the dense network of the demonstration withstands PGD on about three quarters of the images.
DEMO_RADIUS = 0.1


class Flag(NamedTuple):
    """A flag: its name, what it is left out, what it means, and how absl reads it.

    Attributes:
        name: without dashes.
        default: its value if it is left out.
        about: what it means.
        kind: absl's name of its type, as in `flags.DEFINE_<kind>`.
        options: further arguments of that function.
    """

    name: str
    default: Any
    about: str
    kind: str = "string"
    options: tuple[Any, ...] = ()

    def define(self, values: flags.FlagValues) -> None:
        """Declares it."""
        declare = getattr(flags, f"DEFINE_{self.kind}")
        declare(self.name, self.default, *self.options, self.about, flag_values=values)


METHODS = "robust, paper, greedy, baseline, norm or random"
MEASURE = (
    "What the fraction counts: the units of every layer alike, or the parameters or"
    " multiply-accumulate operations of the whole network."
)
CALIBRATION = (
    "A .npy or .npz file (array x) of unlabelled inputs that decisions may be taken on, or"
    " 'weights' for none at all; left out, inputs are made from the network where they are needed."
)
RANGE = (
    "The valid inputs: two numbers with a comma between them, or an .npz file with the arrays"
    " lower and upper."
)
DATA = (
    "An .npz file of labelled inputs: arrays x, scaled as the network takes them, and y; for several"
    " inputs one array per input, by its name. They are measured on; nothing is decided on them."
)
HELP = Flag("help", False, "Show this text.", "boolean")
OVERWRITE = Flag("overwrite", False, "Replace what is there.", "boolean")
SEED = Flag("seed", 0, "Of everything that is drawn.", "integer")
INPUT_RANGE = Flag("input_range", "0,1", RANGE)
KEEP = Flag("keep", [], "Layers whose units stay, with commas.", "list")
CHOICE = (
    Flag("target", 0.5, "Fraction to remove, at least 0 and below 1.", "float"),
    Flag("method", "robust", f"How units are chosen: {METHODS}."),
    SEED,
)
# The names and defaults are those of `krp.prune`.
PRUNING = (
    *CHOICE,
    Flag("measure", "units", MEASURE, "enum", (("units", "params", "macs"),)),
    Flag("step", None, "Fraction removed by one pruning step.", "float"),
    Flag("calibration", None, CALIBRATION),
    KEEP,
    Flag("round_to", 1, "Widths become multiples of this.", "integer"),
    Flag(
        "stop", None, 'A promise: end at the last step that keeps it, e.g. "pgd@0.05>=0.9*dense".'
    ),
    Flag("checkpoint", None, "Every step is noted in this file; the same command goes on from it."),
)
OUTPUTS = (
    Flag("tflite", None, "Also write this .tflite file."),
    Flag(
        "quantize",
        "none",
        "Numbers in the .tflite file.",
        "enum",
        (("none", "float16", "dynamic", "int8"),),
    ),
    Flag("report", None, "Also write this .html page."),
    OVERWRITE,
)
MEASURING = (
    Flag("data", None, DATA),
    Flag("attacks", [], "Attacks to measure on --data, with commas, such as pgd@0.05.", "list"),
)
COMPARING = (
    Flag("corruptions", [], "Such as jpeg@3, with commas; 'standard' for all.", "list"),
    Flag("reference", None, "A network to compare with, usually the dense one."),
)


@dataclasses.dataclass(frozen=True)
class Command:
    """A subcommand: what it is called, what it says of itself, its flags and what it does.

    Attributes:
        name: the word after the program's name.
        arguments: names of the positional arguments; those in brackets may be left out.
        about: one sentence.
        details: the rest of its help, examples included.
        flags: its own flags.
        run: called with the parsed flags and the positional arguments.
    """

    name: str
    arguments: tuple[str, ...]
    about: str
    details: str
    flags: tuple[Flag, ...]
    run: Callable[[Any, Sequence[str]], None]

    def help(self) -> str:
        """How to call it, in words, with examples and every flag."""
        call = " ".join([PROGRAM, self.name, *self.arguments, "[--flags]"])
        lines = [call, "", self.about, textwrap.dedent(self.details).rstrip(), "", "Flags:"]
        for flag in self.flags:
            choices = f" One of {', '.join(*flag.options)}." if flag.options else ""
            has_default = flag.default is not None and flag.kind not in ("boolean", "list")
            default = f" (default: {flag.default})" if has_default else ""
            lines.append(f"  --{flag.name}")
            text = f"{flag.about}{choices}{default}"
            lines += textwrap.wrap(text, 94, initial_indent=" " * 6, subsequent_indent=" " * 6)
        return "\n".join(lines)

    def parse(self, words: Sequence[str]) -> tuple[Any, list[str]]:
        """Flags and positional arguments.

        Raises:
            ValueError: a flag is unknown or has no such value, or an argument is missing or too much.
        """
        values = flags.FlagValues()
        for flag in (*self.flags, HELP):
            flag.define(values)
        more = f"See {PROGRAM} {self.name} --help."
        try:
            arguments = values([self.name, *words])[1:]
        except flags.Error as error:
            raise ValueError(f"{error}. {more}") from error
        needed = sum(not name.startswith("[") for name in self.arguments)
        if not values.help and not needed <= len(arguments) <= len(self.arguments):
            wanted, got = " ".join(self.arguments), " ".join(arguments) or "nothing"
            raise ValueError(f"'{self.name}' takes {wanted}, but got {got}. {more}")
        return values, arguments


def prune_command(values: Any, arguments: Sequence[str]) -> None:
    """`prune IN OUT`."""
    labelled = load_labelled(values.data) if values.data else None
    if values.attacks and labelled is None:
        raise ValueError("--attacks are measured on labelled inputs: give them with --data.")
    options = {flag.name: getattr(values, flag.name) for flag in PRUNING}
    if values.calibration not in (None, "weights"):
        options["calibration"] = load_inputs(values.calibration)
    source, target = arguments
    input_range = load_range(values.input_range)

    from keras_robust_prune.export.workflow import Job

    Job(
        source,
        target,
        options,
        input_range=input_range,
        tflite=values.tflite,
        quantize=None if values.quantize == "none" else values.quantize,
        report=values.report,
        labelled=labelled,
        attacks=values.attacks,
        overwrite=values.overwrite,
    ).run()


def inspect_command(values: Any, arguments: Sequence[str]) -> None:
    """`inspect IN`."""
    from keras_robust_prune.surgery.inspection import inspect

    print(inspect(arguments[0], keep=values.keep))


def evaluate_command(values: Any, arguments: Sequence[str]) -> None:
    """`evaluate IN --data=FILE`."""
    if not values.data:
        raise ValueError("'evaluate' needs labelled inputs: --data=FILE.npz with arrays x and y.")
    x, y = load_labelled(values.data)
    input_range = load_range(values.input_range)

    from keras_robust_prune.evaluation.evaluate import evaluate

    found = evaluate(
        arguments[0],
        x,
        y,
        attacks=values.attacks,
        corruptions=values.corruptions,
        reference=values.reference,
        input_range=input_range,
        seed=values.seed,
    )
    print(found)


def demo_command(values: Any, arguments: Sequence[str]) -> None:
    """`demo [FOLDER]`."""
    from keras_robust_prune import demo
    from keras_robust_prune.export.workflow import Job
    from keras_robust_prune.keras_io import writing

    folder = Path(arguments[0] if arguments else "keras_robust_prune_demo")
    dense, pruned, tflite = folder / "dense", folder / "pruned", folder / "pruned.tflite"
    if not values.overwrite:
        writing.refuse_existing([dense, pruned, tflite])
    model, x, y = demo.load()
    writing.save(model, dense, values.overwrite)
    print(f"A classifier of {x.shape[1]} x {x.shape[2]} digits goes in, as a SavedModel: {dense}")
    Job(
        str(dense),
        str(pruned),
        {flag.name: getattr(values, flag.name) for flag in CHOICE},
        tflite=str(tflite),
        labelled=(x, y),
        attacks=(f"pgd@{DEMO_RADIUS}",),
        overwrite=values.overwrite,
    ).run()


PRUNE = Command(
    "prune",
    ("IN", "OUT"),
    "Writes a smaller network.",
    """
    IN is a SavedModel folder written by tf_keras, a .keras or an .h5 file; it is not changed. OUT ends
    in .keras or .h5, or is the name of a SavedModel folder. No data is needed.

      # half the units of every layer, and a file for the phone
      keras-robust-prune prune mnist small --tflite=small.tflite --quantize=int8

      # half the multiplications, widths in eights; pixels from 0 to 255; a page to read
      keras-robust-prune prune resnet.h5 small.h5 --measure=macs --input_range=0,255 --round_to=8 \\
        --data=test.npz --attacks=pgd@2 --report=small.html
    """,
    (*PRUNING, INPUT_RANGE, *OUTPUTS, *MEASURING),
    prune_command,
)
INSPECT = Command(
    "inspect",
    ("IN",),
    "Lists what can be removed, what a unit of it costs, and which layers are kept and why.",
    """
    Nothing is changed.

      keras-robust-prune inspect mnist
    """,
    (KEEP,),
    inspect_command,
)
EVALUATE = Command(
    "evaluate",
    ("IN",),
    "Measures accuracy, robustness and agreement with another network.",
    """
    IN is a model or a .tflite file. Attacks follow gradients, which a .tflite file does not have: give
    the Keras model it was made from as --reference.

      keras-robust-prune evaluate small --data=test.npz --attacks=fgsm@0.05,pgd@0.05
      keras-robust-prune evaluate small.tflite --data=test.npz --attacks=pgd@0.05 --reference=small
    """,
    (*MEASURING, *COMPARING, INPUT_RANGE, SEED),
    evaluate_command,
)
DEMO = Command(
    "demo",
    ("[FOLDER]",),
    "Prunes a small trained classifier of digits that comes with the package: what was kept?",
    """
    FOLDER (keras_robust_prune_demo if left out) gets the SavedModel that goes in, the smaller one and a
    .tflite file. Nothing is downloaded.

      keras-robust-prune demo
      keras-robust-prune demo three_quarters --target=0.75 --method=norm
    """,
    (*CHOICE, OVERWRITE),
    demo_command,
)
COMMANDS = {command.name: command for command in (PRUNE, INSPECT, EVALUATE, DEMO)}


def usage() -> str:
    """What the program does and which commands it has."""
    lines = [f"{PROGRAM} COMMAND ...", "", ABOUT, "", "Commands:"]
    lines += [f"  {command.name:<10}{command.about}" for command in COMMANDS.values()]
    lines += ["", f"'{PROGRAM} COMMAND --help' tells more, '{PROGRAM} demo' shows it at work."]
    return "\n".join(lines)


def run(words: Sequence[str]) -> int:
    """Does what a command line asks for.

    Args:
        words: what stands behind the program's name.

    Returns:
        The exit code: 0, 1 after an error that was told, 130 after an interruption.
    """
    if not words or words[0] in ("--help", "-h", "help"):
        print(usage())
        return 0
    try:
        if words[0] not in COMMANDS:
            raise ValueError(f"There is no command {words[0]!r}.\n\n{usage()}")
        command = COMMANDS[words[0]]
        values, arguments = command.parse(words[1:])
        if values.help:
            print(command.help())
        else:
            command.run(values, arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was not finished was not written", file=sys.stderr)
        return 130
    return 0


def main() -> None:
    """The program `keras-robust-prune`; it keeps TensorFlow's remarks on itself to itself."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def parse(words: Sequence[str]) -> Sequence[str]:
        flags.FLAGS(words[:1])
        return words[1:]

    def quietly(words: Sequence[str]) -> int:
        logging.set_verbosity(logging.ERROR)
        return run(words)

    app.run(quietly, flags_parser=parse)


if __name__ == "__main__":
    main()
