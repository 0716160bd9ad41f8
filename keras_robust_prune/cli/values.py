"""How words of the command line become values."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Collection, Sequence
from typing import Any


def in_absls_forms(words: Sequence[str], switches: Collection[str]) -> list[str]:
    """The words with absl's other forms of flags spelled out: `-name`, `--switch=true`, `--switch=0`.

    Args:
        words: of the command line.
        switches: names of the flags that are on or off.

    Example:
        >>> words = ["prune", "-overwrite", "--quiet=false", "--input_range", "-1,1"]
        >>> in_absls_forms(words, ("overwrite", "quiet"))
        ['prune', '--overwrite', '--noquiet', '--input_range', '-1,1']
    """
    found, rest = [], False
    for word in words:
        rest = rest or word == "--"
        match = None if rest else re.fullmatch(r"-{1,2}([a-z]\w+)(=.*)?", word, re.DOTALL)
        if match is not None:
            name, value = match[1], match[2] or ""
            truth = _TRUTHS.get(value[1:].lower()) if name in switches else None
            word = f"--{name}{value}" if truth is None else f"--{truth}{name}"
        found.append(word)
    return found


_TRUTHS = dict.fromkeys(("true", "t", "1", "yes", "y"), "")
_TRUTHS |= dict.fromkeys(("false", "f", "0", "no", "n"), "no")


def comma_list(text: str) -> list[str]:
    """`"a, b"` is `["a", "b"]`."""
    return [word.strip() for word in text.split(",") if word.strip()]


def fractions(text: str) -> float | dict[str, float]:
    """What `--target` asks for: one fraction, or fractions by group or layer.

    Example:
        >>> fractions("0.5"), fractions("conv_3=.7, dense_1=.5")
        (0.5, {'conv_3': 0.7, 'dense_1': 0.5})
    """
    items = comma_list(text)
    try:
        if "=" not in text:
            return float(text)
        pairs = [
            (name.strip(), float(part)) for name, _, part in (i.rpartition("=") for i in items)
        ]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a fraction such as 0.5 nor fractions by layer such as conv_3=0.7,dense_1=0.5"
        ) from None
    named = dict(pairs)
    if len(named) < len(pairs) or not all(named):
        raise argparse.ArgumentTypeError(f"{text!r} does not name every layer, and each once")
    return named


def command_line(words: Sequence[str]) -> str:
    r"""A command as one would type it, each flag in a line of its own.

    Example:
        >>> print(command_line(["keras-robust-prune", "prune", "my net", "out", "--seed=1"]))
        keras-robust-prune prune 'my net' out \
            --seed=1
    """
    return "".join(
        f" \\\n    {word}" if word.startswith("--") else f" {word}"
        for word in map(shlex.quote, words)
    ).lstrip()


def limits(items: Sequence[str]) -> dict[Any, float | str]:
    """`["bytes=0.5", "macs=0.25"]` as numbers by name; what is no number keeps its unit."""
    found: dict[Any, float | str] = {}
    for item in items:
        name, _, limit = (part.strip() for part in item.partition("="))
        if not limit:
            raise ValueError(f"--limits holds {item!r}: give WHAT=HOW_MUCH, such as bytes=0.5.")
        found[name] = float(limit) if limit.replace(".", "", 1).isdigit() else limit
    return found
