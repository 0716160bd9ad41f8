"""How far the work is: one line that moves where lines can, now and then a line in a pipe, nothing if it is short."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

from tqdm import tqdm
from tqdm.utils import disp_trim

Part = TypeVar("Part")
# Seconds before anything is shown, and between two lines that stay.
DELAY, BETWEEN_LINES = 2.0, 10.0
# Of a stage: from here on its own pace says how long it takes, and not what was expected.
SURE = 0.1


class Progress(tqdm):
    """A stage of the work as a context; `update(n)` says that n more parts are done.

    Written to standard output, and wiped when the stage ends. There is one line at a time: a stage within another one
    takes its line, and says both. The share and the time left are those of the outermost stage, the whole run: from
    what `expect` says of the stages to come and from the pace of the one under way, or, where nothing is
    expected, as if all parts were alike. In a file or pipe a line is written every ten seconds at most.

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
        self.began = time.monotonic()
        self.share = 0.0  # of the whole run, as it was said last
        self.ahead: list[tuple[str, float]] = []  # stages of it to come, and their seconds
        self.expected: float | None = None
        moves, waited = moving(out), 0.0
        if verbose and Progress._shown:
            outer, whole = Progress._shown[-1], Progress._shown[0]
            outer.clear()
            if outer is whole:
                self.expected = whole._begun(stage)
            part = f" {min(outer.n + 1, outer.total)} of {outer.total}" if outer.total > 1 else ""
            stage = f"{outer.desc}{part}, {stage}"
            waited = self.began - whole.began
        if verbose:
            Progress._shown.append(self)
        delay = DELAY if moves else BETWEEN_LINES
        super().__init__(
            desc=stage,
            total=total,
            disable=not verbose,
            file=out if moves else Lines(out),
            mininterval=0.1 if moves else BETWEEN_LINES,
            delay=max(delay - waited, min(delay, 0.1)),
            miniters=1,
            leave=False,
            position=0,
            dynamic_ncols=moves,
        )

    @classmethod
    def expect(cls, stages: Sequence[tuple[str, float]]) -> None:
        """Say of the whole run that is shown, if any, which stages are to come, in order, and their seconds."""
        if cls._shown:
            cls._shown[0].ahead = list(stages)

    def _begun(self, stage: str) -> float | None:
        """The seconds expected of a stage that begins; those that were to come before it are over or left out."""
        for place, (name, seconds) in enumerate(self.ahead):
            if name == stage:
                del self.ahead[: place + 1]
                return seconds
        return None

    def __str__(self) -> str:
        share, left = Progress._whole(Progress._shown or [self])
        told = "?" if left is None else self.format_interval(left)
        text = f"{self.desc}: {100 * share:3.0f}%, {told} left"
        width = self.format_dict["ncols"]
        return disp_trim(text, width) if width else text

    @staticmethod
    def _whole(shown: Sequence[Progress]) -> tuple[float, float | None]:
        """The share of the outermost stage that is done, which never falls, and the seconds left of it."""
        whole, *within = shown
        passed = time.monotonic() - whole.began
        left: float | None
        if whole.ahead or (within and within[0].expected is not None):
            left = sum(seconds for _, seconds in whole.ahead)
            left += within[0]._left(_done(within)) if within else 0.0
            share = passed / max(passed + left, 1e-9)
        else:
            share, before = _done(shown), whole.initial / max(whole.total, 1)
            left = passed * (1 - share) / (share - before) if share > before else None
        whole.share = max(whole.share, share)
        return whole.share, left

    def _left(self, done: float) -> float:
        """The seconds left of a stage of the whole run: as expected at first, then more and more by its own pace."""
        passed = time.monotonic() - self.began
        by_pace = passed * (1 - done) / done if done else 0.0
        if self.expected is None:
            return by_pace
        trust = min(done / SURE, 1.0)
        return trust * by_pace + (1 - trust) * (1 - done) * self.expected

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


def _done(stages: Sequence[Progress]) -> float:
    """How much of the first stage is done, those within it counted as shares of its part under way."""
    found = 0.0
    for stage in reversed(stages):
        found = min((stage.n + found) / max(stage.total, 1), 1.0)
    return found


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
