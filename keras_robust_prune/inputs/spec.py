"""What one input of a network may be: an `InputSpec`, and the one place that reads `input_range=`."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Shape = Sequence[int | None]

# Beyond it float32 has no room left for what a network computes from squares.
LARGEST = 1e9
DEFAULT = (0.0, 1.0)
DEFAULT_ORIGIN = "by default"
# Ranges that differ by less may both be right: a few extreme values widen one.
FACTOR = 8.0
WAY_OUT = (
    "Pass input_range=(lower, upper), numbers or arrays of one input's shape; for several inputs a"
    " mapping from their names to such pairs"
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class InputSpec:
    """What one input of a network may be.

    `input_range=` takes one wherever it takes a pair `(lower, upper)`, also within a mapping by input
    name. What is not said is taken from the network.

    Attributes:
        shape: without the batch axis, unknown lengths filled in; `()` while it is not known.
        lower: least valid values, a number or an array that broadcasts to `shape`, float32.
        upper: greatest valid values, likewise.
        num_tokens: for whole-numbered inputs (of an Embedding) how many values there are, else 0.
        name: the network's name for the input.
        origin: where the range comes from: the user, a layer of the network, or the default.
        examples: real unlabelled inputs, `(num_examples, *shape)` float32, if any were given.

    Raises:
        ValueError: a bound is no finite number, lies beyond 1e9, does not fit the shape, or the range
            is empty; all of it at once.

    Example:
        >>> spec = InputSpec((2,), lower=[0, -4], upper=[1, 4])
        >>> spec.raw(np.array([0.5, 0.75]))
        array([0.5, 2. ], dtype=float32)
        >>> InputSpec(lower=1, upper=0)
        Traceback (most recent call last):
        ...
        ValueError: the input's range is empty: lower is 1, upper 0. Pass input_range=(lower, upper), ...
    """

    shape: tuple[int, ...] = ()
    lower: Any = DEFAULT[0]
    upper: Any = DEFAULT[1]
    num_tokens: int = 0
    name: str = ""
    origin: str = "given"
    examples: np.ndarray | None = None

    def __post_init__(self) -> None:
        problems = _problems(self.name, self.lower, self.upper, self.shape)
        if problems:
            raise ValueError(f"{'; '.join(problems)}. {WAY_OUT}.")
        for end in ("lower", "upper"):
            object.__setattr__(self, end, np.asarray(getattr(self, end), np.float32))

    @property
    def neutral(self) -> np.ndarray:
        """Where the raw value 0 lies between the bounds, [0, 1]: background, silence, the mean."""
        width = np.where(self.upper > self.lower, self.upper - self.lower, 1)
        return np.clip(-self.lower / width, 0.0, 1.0).astype("float32")

    def raw(self, unit: np.ndarray) -> np.ndarray:
        """Values of the network's inputs for values in [0, 1]."""
        if self.num_tokens:
            return unit
        return (self.lower + (self.upper - self.lower) * unit).astype("float32")

    def row(self, end: str) -> np.ndarray:
        """`"lower"` or `"upper"` as one number per entry, `(num_entries,)`."""
        return np.broadcast_to(getattr(self, end), self.shape).ravel()

    @property
    def ends(self) -> str:
        """The range in words: `[0, 255]`."""
        if self.num_tokens:
            return f"{self.num_tokens:,} tokens"
        return f"[{self.lower.min():g}, {self.upper.max():g}]"

    @property
    def digest(self) -> str:
        """A hash of everything that decides: shape, bounds, tokens and examples."""
        found = hashlib.sha256(f"{self.shape} {self.num_tokens}".encode())
        for array in (self.lower, self.upper, self.examples):
            if array is not None:
                found.update(f"{array.shape} {array.dtype}".encode())
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def __str__(self) -> str:
        source = "" if self.origin == "given" else f" ({self.origin})"
        return f"'{self.name}' {self.shape} in {self.ends}{source}"

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        real = "" if self.examples is None else f", {len(self.examples):,} examples"
        return f"InputSpec({self.shape}, {self.ends}{name}{real})"


def parse_range(
    given: Any,
    names: Sequence[str],
    shapes: Sequence[Shape],
    said: Sequence[InputSpec | None] = (),
) -> tuple[InputSpec, ...]:
    """Read an `input_range`.

    Args:
        given: None takes what the network says, else [0, 1]; a pair `(lower, upper)` or an `InputSpec`
            serves every input; a mapping by input name, or one `InputSpec` per input in a sequence,
            serves each.
        names: of the network's inputs, in order.
        shapes: theirs, without the batch axis; None where a length is open.
        said: what the network says of each; see `layers.asking`.

    Returns:
        One `InputSpec` per input.

    Raises:
        ValueError: whatever is wrong with any of them, all at once.

    Warns:
        UserWarning: what was given contradicts what the network says.

    Example:
        >>> image, age = parse_range(
        ...     {"image": (0, 255), "age": None}, ["image", "age"], [(8, 8, 1), (1,)]
        ... )
        >>> print(image, age, sep=", ")
        'image' (8, 8, 1) in [0, 255], 'age' (1,) in [0, 1] (by default)
    """
    every, problems = _by_input(given, names)
    found: list[InputSpec] = []
    hints = list(said) or [None] * len(names)
    for name, shape, hint in zip(names, shapes, hints, strict=True):
        if name not in every:
            continue
        try:
            found.append(_resolved(every[name], name, shape, hint))
        except _Problems as error:
            problems += error.args[0]
    if not problems and all((spec.lower == spec.upper).all() for spec in found):
        problems.append(f"the range is empty, its ends are the same for {list(names)}")
    if problems:
        raise ValueError(f"input_range does not fit: {'; '.join(problems)}. {WAY_OUT}.")
    for spec, hint in zip(found, hints, strict=True):
        _contradicts(spec, hint)
    return tuple(found)


def ends_of(specs: Sequence[InputSpec]) -> tuple[Any, Any]:
    """Lower and upper ends, each a list in the order of the inputs if there are several."""
    lower, upper = [spec.lower for spec in specs], [spec.upper for spec in specs]
    return (lower, upper) if len(specs) > 1 else (lower[0], upper[0])


class _Problems(Exception):
    """Holds a list of what is wrong with one input."""


def _by_input(given: Any, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """What is given of each input, and what is wrong with the way it is given."""
    if isinstance(given, Mapping):
        problems = [f"there is no entry for '{name}'" for name in names if name not in given]
        problems += [
            f"there is no input '{name}', the network's are {list(names)}"
            for name in given
            if name not in names
        ]
        return {name: given[name] for name in names if name in given}, problems
    if isinstance(given, (list, tuple)) and any(isinstance(one, InputSpec) for one in given):
        if len(given) != len(names):
            return {}, [f"there are {len(given)} specs for {len(names)} inputs"]
        return dict(zip(names, given, strict=True)), []
    return dict.fromkeys(names, given), []


def _resolved(given: Any, name: str, shape: Shape, hint: InputSpec | None) -> InputSpec:
    """The spec of one input of a network.

    Raises:
        _Problems: it is none.
    """
    if given is None:
        given = hint or InputSpec(origin=DEFAULT_ORIGIN)
    if isinstance(given, InputSpec):
        spec = given
    else:
        lower, upper = _pair(given, name)
        problems = _problems(name, lower, upper, ())
        if problems:
            raise _Problems(problems)
        spec = InputSpec(lower=lower, upper=upper)
    known = _filled(shape, spec)
    problems = _problems(name, spec.lower, spec.upper, known)
    if spec.shape and not fits(spec.shape, shape):
        problems = [f"'{name}' takes the shape {tuple(shape)}, given is a spec of {spec.shape}"]
    if problems:
        raise _Problems(problems)
    tokens = spec.num_tokens or (hint.num_tokens if hint else 0)
    if tokens and spec.num_tokens != tokens:
        spec = dataclasses.replace(hint or spec, examples=spec.examples)
    return dataclasses.replace(spec, shape=known, num_tokens=tokens, name=name)


def _pair(given: Any, name: str) -> tuple[Any, Any]:
    if isinstance(given, (tuple, list, np.ndarray)) and len(given) == 2:
        return given[0], given[1]
    raise _Problems([f"'{name}' is given {given!r}, which is no pair"])


def _problems(name: str, lower: Any, upper: Any, shape: tuple[int, ...]) -> list[str]:
    """What is wrong with a range; with everything in its place an empty list."""
    named = f"'{name}'" if name else "the input"
    found = []
    for end, given in (("lower", lower), ("upper", upper)):
        try:
            value = np.asarray(given)
        except ValueError:  # rows of different lengths
            value = np.asarray(None)
        if value.dtype.kind not in "iufb":
            return [f"the {end} end of {named} is {given!r}, which is no number"]
        if not np.isfinite(value).all() or np.abs(value.astype(float)).max(initial=0) > LARGEST:
            return [
                f"the {end} end of {named} is {_short(value)}, not finite or beyond {LARGEST:g}"
            ]
        found.append(value.astype(np.float32))
    low, high = found
    try:
        together = np.broadcast_shapes(low.shape, high.shape, shape)
    except ValueError:
        together = None
    if together is None or (shape and together != shape):
        return [f"the ends of {named} have shapes {low.shape} and {high.shape}, it takes {shape}"]
    if (low > high).any():
        return [f"{named}'s range is empty: lower is {_short(low)}, upper {_short(high)}"]
    return []


def _short(value: np.ndarray) -> str:
    return f"{value:g}" if value.ndim == 0 else f"an array from {value.min():g} to {value.max():g}"


def _filled(shape: Shape, spec: InputSpec) -> tuple[int, ...]:
    """A shape with its open lengths taken from what is known of the input, or usual ones."""
    given = spec.shape or np.broadcast_shapes(spec.lower.shape, spec.upper.shape)
    known = given if fits(given, shape) else (None,) * len(shape)
    usual = 32 if len(shape) > 2 else 16
    return tuple(
        length or (other if other is not None and other > 1 else usual)
        for length, other in zip(shape, known, strict=True)
    )


def fits(given: Sequence[int], shape: Shape) -> bool:
    """Whether a shape is one that an input with open lengths takes."""
    return len(given) == len(shape) and all(
        wanted is None or length == wanted for length, wanted in zip(given, shape, strict=True)
    )


def _contradicts(spec: InputSpec, hint: InputSpec | None) -> None:
    """Warns of a range that is much wider or narrower than the network's own, or beside it."""
    if hint is None or spec.origin != "given" or spec.num_tokens or hint.num_tokens:
        return
    width = np.maximum(spec.upper - spec.lower, 1e-12)
    ratio = float(np.median(width / np.maximum(hint.upper - hint.lower, 1e-12)))
    beside = bool(((spec.lower > hint.upper) | (spec.upper < hint.lower)).all())
    if 1 / FACTOR <= ratio <= FACTOR and not beside:
        return
    warnings.warn(
        f"input_range says that '{spec.name}' lies in {spec.ends}, but {hint.origin}, as for inputs in"
        f" {hint.ends}. Leave input_range out to take that, or check how the network's inputs are"
        " scaled.",
        stacklevel=4,
    )
