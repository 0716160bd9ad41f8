"""How far the work is: one line that moves in a terminal, now and then a line in a pipe, nothing if it is short."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

Part = TypeVar("Part")
# Seconds before anything is shown, and between two lines where lines cannot move.
DELAY, BETWEEN_LINES = 2.0, 10.0
UP = "\x1b[A"
FORM = "{desc}: {percentage:3.0f}%, {remaining} left{postfix}"


class Progress(tqdm):
    """A stage of the work as a context; `update(n)` says that n more parts are done.

    Written to standard output, and wiped when the stage ends. In a file or pipe there is a line every ten seconds.

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

    def __init__(self, stage: str, total: int, verbose: int = 1, file: Any = None) -> None:
        out = file or sys.stdout
        moves = bool(getattr(out, "isatty", lambda: False)()) or "ipykernel" in sys.modules
        super().__init__(
            desc=stage,
            total=total,
            disable=not verbose,
            file=out if moves else _Lines(out),
            mininterval=0.1 if moves else BETWEEN_LINES,
            delay=DELAY if moves else BETWEEN_LINES,
            miniters=1,
            leave=False,
            dynamic_ncols=moves,
            bar_format=FORM,
        )

    @classmethod
    def over(cls, stage: str, parts: Sequence[Part], verbose: int = 1) -> Iterator[Part]:
        """Every part in turn; what is done with it counts as its share.

        Example:
            >>> list(Progress.over("repair", ["a", "b"], verbose=0))
            ['a', 'b']
        """
        with cls(stage, len(parts), verbose) as progress:
            for part in parts:
                yield part
                progress.update()


class _Lines:
    """Writes every state of a moving line as a line of its own."""

    def __init__(self, out: Any) -> None:
        self.out = out

    def write(self, text: str) -> None:
        # A stage within another one moves the cursor up, which a file cannot.
        text = text.replace("\r", "").replace(UP, "").strip()
        if text:
            self.out.write(f"{text}\n")

    def flush(self) -> None:
        self.out.flush()
