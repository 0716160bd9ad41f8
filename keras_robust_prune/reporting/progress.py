"""How far the work is: one line that moves where lines can, now and then a line in a pipe, nothing if it is short."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

from tqdm import tqdm

Part = TypeVar("Part")
# Seconds before anything is shown, and between two lines that stay.
DELAY, BETWEEN_LINES = 2.0, 10.0
FORM = "{desc}: {percentage:3.0f}%, {remaining} left{postfix}"


class Progress(tqdm):
    """A stage of the work as a context; `update(n)` says that n more parts are done.

    Written to standard output, and wiped when the stage ends. There is one line at a time: a stage within another one
    takes its line, and says both. In a file or pipe a line is written every ten seconds at most.

    Args:
        stage: what is done, e.g. `"synthetic inputs"`.
        total: how many parts there are.
        verbose: 0 shows nothing.
        file: where it is written; standard output by default.

    Example:
        >>> with Progress("repair", 2, verbose=0) as progress:
        ...     progress.update(2)
        >>> progress.n
        0
    """

    monitor_interval = 0  # no thread that looks after it
    _shown: ClassVar[list[Progress]] = []

    def __init__(self, stage: str, total: int, verbose: int = 1, file: Any = None) -> None:
        self.out = out = file or sys.stdout
        moves = moving(out)
        if verbose and Progress._shown:
            outer = Progress._shown[-1]
            outer.clear()
            if outer.total > 1:
                stage = f"{outer.desc} {min(outer.n + 1, outer.total)} of {outer.total}, {stage}"
        super().__init__(
            desc=stage,
            total=total,
            disable=not verbose,
            file=out if moves else Lines(out),
            mininterval=0.1 if moves else BETWEEN_LINES,
            delay=DELAY if moves else BETWEEN_LINES,
            miniters=1,
            leave=False,
            position=0,
            dynamic_ncols=moves,
            bar_format=FORM,
        )
        if verbose:
            Progress._shown.append(self)

    def close(self) -> None:
        """Wipes the line."""
        # by identity: bars at one position are equal
        Progress._shown[:] = [shown for shown in Progress._shown if shown is not self]
        super().close()

    def say(self, text: str, always: bool = False) -> bool:
        """Writes a line that stays, unless one was written within the last ten seconds; returns whether it did.

        Args:
            text: the line.
            always: whatever was written before.
        """
        if self.disable or not (always or Lines.due()):
            return False
        self.clear()
        self.out.write(f"{text}\n")
        self.out.flush()
        Lines.written = time.monotonic()
        return True

    @classmethod
    def over(cls, stage: str, parts: Sequence[Part], verbose: int | None = None) -> Iterator[Part]:
        """Every part in turn; what is done with it counts as its share.

        Args:
            stage: what is done.
            parts: of it.
            verbose: 0 shows nothing; None shows it where the stage that it belongs to is shown.

        Example:
            >>> list(Progress.over("repair", ["a", "b"], verbose=0))
            ['a', 'b']
        """
        verbose = len(cls._shown) if verbose is None else verbose
        with cls(stage, len(parts), verbose) as progress:
            for part in parts:
                yield part
                progress.update()


def moving(out: Any) -> bool:
    """Whether a line that was written can be written again: in terminals and notebooks."""
    in_notebook = type(out).__module__.partition(".")[0] == "ipykernel"
    return in_notebook or bool(getattr(out, "isatty", lambda: False)())


class Lines:
    """Writes states of a moving line as lines of their own, ten seconds apart."""

    written: ClassVar[float] = 0.0
    """When the last line was written, whoever wrote it."""

    def __init__(self, out: Any) -> None:
        self.out = out

    @staticmethod
    def due() -> bool:
        """Whether the last line is long enough ago."""
        return time.monotonic() - Lines.written >= BETWEEN_LINES

    def write(self, text: str) -> None:
        text = text.replace("\r", "").strip()
        if text and Lines.due():
            self.out.write(f"{text}\n")
            Lines.written = time.monotonic()

    def flush(self) -> None:
        self.out.flush()
