"""Every command with its flags and what it says of itself.

Names and defaults are those of `krp.prune` and `krp.evaluate`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any, NoReturn

from absl.flags import argparse_flags

from keras_robust_prune.cli import about
from keras_robust_prune.cli.about import PROGRAM
from keras_robust_prune.cli.values import comma_list, fractions


class Parser(argparse_flags.ArgumentParser):
    """Tells what is wrong in one message, with the way out, and exits with 1."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        print(f"error: {message}. See {self.prog} --help.", file=sys.stderr)
        sys.exit(1)


def parser() -> Parser:
    """All commands with their flags."""
    shape: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    top = Parser(prog=PROGRAM, description=about.ABOUT, epilog=about.MORE, **shape)
    version = importlib.import_module("keras_robust_prune").__version__
    top.add_argument("--version", action="version", version=f"{PROGRAM} {version}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command")

    def command(name: str, arguments: str) -> Any:
        call = f"{PROGRAM} {name} {arguments} [--flags]"
        first, _, details = getattr(about, name.upper()).partition("\n")
        text = f"{first}\n{details}"
        return commands.add_parser(name, usage=call, help=first, description=text, **shape)

    _fill_prune(command("prune", "MODEL OUT"))
    _fill_inspect(command("inspect", "MODEL"))
    _fill_evaluate(command("evaluate", "MODEL"))
    _fill_certify(command("certify", "MODEL SMALL"))
    _fill_export(command("export", "MODEL OUT"))
    _fill_files(command("files", "FILE..."))
    _fill_demo(command("demo", "[FOLDER]"))
    return top


SWITCHES: set[str] = set()
"""Names of the flags that are on or off, once there is a parser."""

CERTIFIED = 100
"""Inputs that are certified where nothing else is said."""


def _fill_prune(to: Any) -> None:
    to.add_argument("source", metavar="MODEL", help="what is pruned")
    to.add_argument("out", metavar="OUT", help="where the smaller network goes")
    _add_trust(to)
    _add_choice(to.add_argument_group("what is removed"))
    _add_pruning(to.add_argument_group("how"))
    _add_outputs(to.add_argument_group("what is written"))
    measuring = to.add_argument_group("what is measured before and after")
    _add_measuring(measuring)
    measuring.add_argument(
        "--certify",
        type=float,
        metavar="EPS",
        help=f"also prove, for points within EPS of the first {CERTIFIED} inputs of --data, how far the networks can be"
        " apart; see the command certify",
    )


def _fill_inspect(to: Any) -> None:
    to.add_argument("source", metavar="MODEL", help="what is looked at")
    _add_trust(to)
    _add_keep(to)
    _add_json(to)


def _fill_evaluate(to: Any) -> None:
    to.add_argument("source", metavar="MODEL", help="what is measured")
    _add_trust(to)
    _add_measuring(to)
    _add_comparing(to)
    _add_range(to)
    _add_seed(to)
    _add_quiet(to)


def _fill_certify(to: Any) -> None:
    to.add_argument("source", metavar="MODEL", help="the network before")
    to.add_argument("small", metavar="SMALL", help="the network after")
    _add_trust(to)
    to.add_argument(
        "--data",
        metavar="FILE",
        help="an .npy or .npz file of inputs (array x), scaled as the network takes them",
    )
    to.add_argument(
        "--eps",
        type=float,
        default=0.01,
        help="how far points are from an input at most, in every coordinate (default: %(default)s)",
    )
    to.add_argument(
        "--num_inputs",
        type=int,
        default=CERTIFIED,
        help="how many of the inputs, from the first (default: %(default)s)",
    )
    _add_range(to)
    _add_quiet(to)


def _fill_files(to: Any) -> None:
    to.add_argument(
        "sources", metavar="FILE", nargs="+", help="what is compared, the first with the rest"
    )
    _add_trust(to)
    _add_measuring(to)
    _add_comparing(to)
    to.add_argument(
        "--surrogates",
        type=comma_list,
        default=[],
        metavar="MODELS",
        help="the Keras models that the files were made of, with commas, one per file: attacks that follow gradients"
        " follow theirs (default: those of --reference)",
    )
    to.add_argument(
        "--runs", type=int, default=200, help="how often each file is timed (default: %(default)s)"
    )
    _add_range(to)
    _add_seed(to)
    _add_quiet(to)


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
    _add_switch(
        to,
        "dense_per_tensor",
        "one scale for the int8 kernel of a Dense layer: for runtimes before 2.17",
    )
    to.add_argument(
        "--float_layers",
        type=int,
        default=0,
        metavar="N",
        help="so many of the worst layers of an int8_float32 file stay in float32 (default: %(default)s)",
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
    to.add_argument(
        "--labels",
        metavar="FILE",
        help="names of the classes, one a line: the file then describes itself, in TFLite Metadata",
    )
    _add_switch(to, "softmax", "append a softmax to outputs that are logits")
    _add_switch(to, "force", "write them all the same, with a warning")
    _add_overwrite(to)
    _add_seed(to)
    _add_quiet(to)


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
        type=fractions,
        default=0.5,
        metavar="FRACTION",
        help="fraction to remove, at least 0 and below 1, or fractions by layer, of which others lose nothing, such as"
        " conv_3=0.7,dense_1=0.5 (default: %(default)s)",
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
        "--device",
        choices=("cpu", "gpu", "hexagon", "host", "none"),
        help="widths become multiples of what its kernels compute at once, for the numbers of --quantize; --round_to"
        " says it by hand (default: cpu with --tflite where --measure or --limits count the whole network, else none)",
    )
    to.add_argument(
        "--stop",
        metavar="PROMISE",
        help='end at the last step that meets a stopping criterion, e.g. "pgd@0.05>=0.9*dense"',
    )
    to.add_argument(
        "--minutes",
        type=float,
        help="about how long robust may take, instead of what the network's size asks for and what is announced",
    )
    to.add_argument(
        "--memory",
        type=float,
        metavar="GB",
        help="gigabytes that pruning may take: batches get smaller and more is computed anew",
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
    _add_switch(to, "force", "write the .tflite file even if it agrees too little with the model")
    to.add_argument("--report", metavar="FILE", help="also write this .html page")
    _add_overwrite(to)


def _add_measuring(to: Any) -> None:
    to.add_argument(
        "--data",
        metavar="FILE",
        help="an .npz file of labelled inputs: arrays x, scaled as the network takes them, and y (or x_test"
        " and y_test); for several inputs one array per input, by its name. They are measured on; nothing is decided on"
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
    _add_switch(to, "overwrite", "replace what is there")


def _add_trust(to: Any) -> None:
    _add_switch(
        to, "trust", "load MODEL even if its file would run code of its own, as Lambda layers do"
    )
    to.add_argument(
        "--extensions",
        type=comma_list,
        default=[],
        metavar="FILE.py",
        help="Python files of your own, run first: they register attacks, layers and quantizations",
    )


def _add_quiet(to: Any) -> None:
    _add_switch(to, "quiet", "print what was found, but not how far the work is")
    _add_json(to)


def _add_json(to: Any) -> None:
    _add_switch(to, "json", "print every figure as one line of JSON, and nothing else")


def _add_switch(to: Any, name: str, text: str) -> None:
    """A flag that is on or off, `--name` or `--noname`; `values.in_absls_forms` knows the rest."""
    SWITCHES.add(name)
    to.add_argument(f"--{name}", action="store_true", help=text)
    to.add_argument(f"--no{name}", dest=name, action="store_false", help=argparse.SUPPRESS)
