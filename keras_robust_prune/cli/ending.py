"""How the program ends when it is told to: at any moment, with one line and the status that shells expect.

Ctrl-C and SIGTERM raise an exception, so that nothing half is left. Imports and native code may swallow it or take
long; what has not ended by itself a few seconds later is ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

GRACE = 5.0


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


class Ending:
    """Whether the program has been told to end, and by what.

    Attributes:
        signal: the number of the signal; 0 before one arrives.
        checkpoint: the file from which the same command goes on, if any.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.checkpoint: str | None = None

    @property
    def status(self) -> int:
        """The exit status, as shells have it."""
        return 128 + (self.signal or signal.SIGINT)

    def watch(self) -> None:
        """Has signals end the program; those that a caller had it ignore stay ignored."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._arrived)

    def tell(self) -> int:
        """Prints the one line, and gives the exit status."""
        line = "interrupted: what was not finished was not written."
        if self.checkpoint and Path(self.checkpoint).exists():
            line += f" The same command goes on from '{self.checkpoint}'."
        print(line, file=sys.stderr, flush=True)
        return self.status

    def _arrived(self, number: int, frame: Any) -> None:
        if self.signal:
            return
        self.signal = number
        patience = threading.Timer(GRACE, self._end)
        patience.daemon = True
        patience.start()
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def _end(self) -> None:
        """Ends the program from outside whatever holds it up."""
        status = self.tell()
        sys.stdout.flush()
        os._exit(status)
