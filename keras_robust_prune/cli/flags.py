"""Every command with its flags and what it says of itself.

Names and defaults are those of `krp.prune` and `krp.evaluate`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any, NoReturn

from absl.flags import argparse_flags

PROGRAM = "keras-robust-prune"

ABOUT = f"""\
Makes a trained Keras network smaller, without its training data.

  {PROGRAM} demo                                    see it at work
  {PROGRAM} inspect mnist                           what can be removed
  {PROGRAM} prune mnist small --tflite=small.tflite half the units of every layer
  {PROGRAM} evaluate small --data=test.npz          what was kept
"""
MORE = f"'{PROGRAM} COMMAND --help' tells more about a command."
PRUNE = f"""\
Writes a smaller network.

MODEL is a SavedModel folder written by tf_keras, a .keras or an .h5 file; it is not changed. OUT ends in
.keras or .h5, or is the name of a SavedModel folder. No data is needed.

  # half the units of every layer, and a file for the phone
  {PROGRAM} prune mnist small --tflite=small.tflite --quantize=int8

  # half the multiplications, widths in eights; pixels from 0 to 255; a page to read
  {PROGRAM} prune resnet.h5 small.h5 --measure=macs --input_range=0,255 --round_to=8 \\
    --data=test.npz --attacks=pgd@2 --report=small.html
"""
INSPECT = f"""\
Lists what can be removed, what a unit of it costs, and which layers are kept and why. Nothing is changed.

Of a .tflite file it lists inputs, outputs, operators, the runtime that it needs and what a GPU refuses.

  {PROGRAM} inspect mnist
  {PROGRAM} inspect mnist.tflite
"""
EVALUATE = f"""\
Measures accuracy, robustness and agreement with another network.

MODEL is a model or a .tflite file. Attacks follow gradients, which a .tflite file does not have: give the
Keras model it was made from as --reference.

  {PROGRAM} evaluate small --data=test.npz --attacks=fgsm@0.05,pgd@0.05
  {PROGRAM} evaluate small.tflite --data=test.npz --attacks=pgd@0.05 --reference=small
"""
EXPORT = f"""\
Writes .tflite files of a model, pruned or not, each checked against the model before any is written.

MODEL is a SavedModel folder written by tf_keras, a .keras or an .h5 file. With several quantizations
small.tflite becomes small.int8.tflite and so on. Int8 ranges are measured on inputs made from the network, or
on --calibration.

  # for the camera of a phone whose runtime is TensorFlow Lite 2.16
  {PROGRAM} export small small.tflite --quantize=int8_uint8 --max_runtime=2.16 --dense_per_tensor

  # two files of a network that takes pixels from 0 to 255
  {PROGRAM} export resnet.h5 resnet.tflite --quantize=float16,int8 --input_range=0,255
"""
FILES = f"""\
Compares .tflite files in one table: bytes, milliseconds, accuracy, agreement, attacks and corruptions.

The files run in turns, on one and on two threads: median, 5 and 95 % of their times. Attacks that follow
gradients follow those of --reference, a Keras model; what they find is judged by each file.

  {PROGRAM} files dense.tflite small.tflite small.int8.tflite
  {PROGRAM} files dense.tflite small.tflite --data=test.npz --attacks=square@0.05,pgd@0.05 --reference=dense
"""
DEMO = f"""\
Prunes a small trained classifier of digits that comes with the package: what was kept?

FOLDER gets the SavedModel that goes in, the smaller one and a .tflite file. Nothing is downloaded.

  {PROGRAM} demo
  {PROGRAM} demo three_quarters --target=0.75 --method=norm
"""


class Parser(argparse_flags.ArgumentParser):
    """Tells what is wrong in one message, with the way out, and exits with 1."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        print(f"error: {message}. See {self.prog} --help.", file=sys.stderr)
        sys.exit(1)


def comma_list(text: str) -> list[str]:
    """`"a, b"` is `["a", "b"]`."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parser() -> Parser:
    """All commands with their flags."""
    shape: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    top = Parser(prog=PROGRAM, description=ABOUT, epilog=MORE, **shape)
    version = importlib.import_module("keras_robust_prune").__version__
    top.add_argument("--version", action="version", version=f"{PROGRAM} {version}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command")

    def command(name: str, arguments: str, about: str) -> Any:
        call = f"{PROGRAM} {name} {arguments} [--flags]"
        about, _, details = about.partition("\n")
        text = f"{about}\n{details}"
        return commands.add_parser(name, usage=call, help=about, description=text, **shape)

    _fill_prune(command("prune", "MODEL OUT", PRUNE))
    _fill_inspect(command("inspect", "MODEL", INSPECT))
    _fill_evaluate(command("evaluate", "MODEL", EVALUATE))
    _fill_export(command("export", "MODEL OUT", EXPORT))
    _fill_files(command("files", "FILE...", FILES))
    _fill_demo(command("demo", "[FOLDER]", DEMO))
    return top


def _fill_prune(to: Any) -> None:
    to.add_argument("source", metavar="MODEL", help="what is pruned")
    to.add_argument("out", metavar="OUT", help="where the smaller network goes")
    _add_trust(to)
    _add_choice(to.add_argument_group("what is removed"))
    _add_pruning(to.add_argument_group("how"))
    _add_outputs(to.add_argument_group("what is written"))
    _add_measuring(to.add_argument_group("what is measured before and after"))


def _fill_inspect(to: Any) -> None:
    to.add_argument("source", metavar="MODEL", help="what is looked at")
    _add_trust(to)
    _add_keep(to)


def _fill_evaluate(to: Any) -> None:
    to.add_argument("source", metavar="MODEL", help="what is measured")
    _add_trust(to)
    _add_measuring(to)
    _add_comparing(to)
    _add_range(to)
    _add_seed(to)
    _add_quiet(to)


def _fill_files(to: Any) -> None:
    to.add_argument(
        "sources", metavar="FILE", nargs="+", help="what is compared, the first with the rest"
    )
    _add_trust(to)
    _add_measuring(to)
    _add_comparing(to)
    to.add_argument(
        "--runs", type=int, default=200, help="how often each file is timed (default: %(default)s)"
    )
    _add_range(to)
    _add_seed(to)


def _fill_export(to: Any) -> None:
    to.add_argument("source", metavar="MODEL", help="what is exported")
    _add_trust(to)
    to.add_argument("out", metavar="OUT", help="where the .tflite file goes")
    to.add_argument(
        "--quantize",
        type=comma_list,
        default=["float32"],
        metavar="NAMES",
        help="float32, float16, dynamic, int8, int8_float32 or int8_uint8 (float32 or uint8 input and"
        " output), with commas (default: float32)",
    )
    _add_calibration(to)
    _add_range(to)
    to.add_argument(
        "--dense_per_tensor",
        action="store_true",
        help="one scale for the int8 kernel of a Dense layer: for runtimes before 2.17",
    )
    to.add_argument(
        "--min_agreement",
        type=float,
        default=0.9,
        help="a file that says what the model says on a smaller share of held-out inputs is not"
        " written (default: %(default)s)",
    )
    to.add_argument(
        "--max_runtime",
        metavar="VERSION",
        help="TensorFlow Lite's version on the device, such as 2.16: files that need a newer one are"
        " not written",
    )
    to.add_argument("--force", action="store_true", help="write them all the same, with a warning")
    _add_overwrite(to)
    _add_seed(to)


def _fill_demo(to: Any) -> None:
    to.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default="keras_robust_prune_demo",
        help="where everything goes (default: %(default)s)",
    )
    _add_choice(to)
    _add_overwrite(to)
    _add_quiet(to)


def _add_choice(to: Any) -> None:
    to.add_argument(
        "--target",
        type=float,
        default=0.5,
        help="fraction to remove, at least 0 and below 1 (default: %(default)s)",
    )
    to.add_argument(
        "--method",
        default="robust",
        help="how units are chosen: robust, paper, greedy, baseline, norm or random (default: %(default)s)",
    )
    _add_seed(to)


def _add_pruning(to: Any) -> None:
    _add_range(to)
    to.add_argument(
        "--measure",
        choices=("units", "params", "macs", "bytes", "latency"),
        default="units",
        help="what the fraction counts: the units of every layer alike, or of the whole network parameters,"
        " multiply-accumulate operations, bytes of its float32 file or milliseconds by --latency_table"
        " (default: %(default)s)",
    )
    to.add_argument(
        "--limits",
        type=comma_list,
        default=[],
        metavar="WHAT=HOW_MUCH",
        help="what may be left of several measures at once, instead of --target and --measure, such as"
        ' "latency=3 ms,bytes=0.5"',
    )
    to.add_argument(
        "--latency_table",
        metavar="FILE",
        help="milliseconds of the network's kernels on a device, written by krp.latency",
    )
    to.add_argument("--step", type=float, help="fraction removed by one pruning step")
    _add_calibration(to)
    _add_keep(to)
    to.add_argument(
        "--round_to",
        type=int,
        default=1,
        help="widths become multiples of this (default: %(default)s)",
    )
    to.add_argument(
        "--stop",
        metavar="PROMISE",
        help='end at the last step that meets a stopping criterion, e.g. "pgd@0.05>=0.9*dense"',
    )
    to.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="every step is noted in this file; the same command goes on from it",
    )
    _add_quiet(to)


def _add_outputs(to: Any) -> None:
    to.add_argument("--tflite", metavar="FILE", help="also write this .tflite file")
    to.add_argument(
        "--quantize",
        default="none",
        metavar="NAME",
        help="numbers in the .tflite file: none, float16, dynamic, int8, int8_float32, int8_uint8 or what"
        " --extensions registered (default: %(default)s)",
    )
    to.add_argument(
        "--force",
        action="store_true",
        help="write the .tflite file even if it agrees too little with the model",
    )
    to.add_argument("--report", metavar="FILE", help="also write this .html page")
    _add_overwrite(to)


def _add_measuring(to: Any) -> None:
    to.add_argument(
        "--data",
        metavar="FILE",
        help="an .npz file of labelled inputs: arrays x, scaled as the network takes them, and y; for"
        " several inputs one array per input, by its name. They are measured on; nothing is decided on"
        " them",
    )
    to.add_argument(
        "--attacks",
        type=comma_list,
        default=[],
        help="attacks to measure on --data, with commas, such as pgd@0.05",
    )


def _add_comparing(to: Any) -> None:
    to.add_argument(
        "--corruptions",
        type=comma_list,
        default=[],
        help="such as jpeg@3, with commas; 'standard' for all",
    )
    to.add_argument("--reference", help="a network to compare with, usually the dense one")


def _add_range(to: Any) -> None:
    to.add_argument(
        "--input_range",
        metavar="LOWER,UPPER",
        help="the valid inputs: two numbers, or an .npz file with the arrays lower and upper; left out,"
        " what the network says (a leading Rescaling, say), else 0,1",
    )


def _add_calibration(to: Any) -> None:
    to.add_argument(
        "--calibration",
        metavar="PATH",
        help="unlabelled inputs that decisions may be taken on: an .npy or .npz file (array x), or a folder"
        " of pictures; 'weights' for none at all; left out, inputs are made from the network where they"
        " are needed",
    )


def _add_keep(to: Any) -> None:
    to.add_argument(
        "--keep",
        type=comma_list,
        default=[],
        metavar="LAYERS",
        help="layers whose units stay, with commas",
    )


def _add_seed(to: Any) -> None:
    to.add_argument(
        "--seed", type=int, default=0, help="of everything that is drawn (default: %(default)s)"
    )


def _add_overwrite(to: Any) -> None:
    to.add_argument("--overwrite", action="store_true", help="replace what is there")
    to.add_argument("--nooverwrite", dest="overwrite", action="store_false", help=argparse.SUPPRESS)


def _add_trust(to: Any) -> None:
    to.add_argument(
        "--trust",
        action="store_true",
        help="load MODEL even if its file would run code of its own, as Lambda layers do",
    )
    to.add_argument(
        "--extensions",
        type=comma_list,
        default=[],
        metavar="FILE.py",
        help="Python files of your own, run first: they register attacks, layers and quantizations",
    )


def _add_quiet(to: Any) -> None:
    to.add_argument(
        "--quiet", action="store_true", help="print what was found, but not how far the work is"
    )
