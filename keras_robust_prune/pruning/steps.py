"""What is said of the pruning steps while they are taken."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.pruning.target import Target
from keras_robust_prune.reporting.progress import Lines, Progress


class Steps:
    """A context that tells how far the steps are, and at times, and of the last one, what they came to.

    Args:
        target: what shall be reached; the lines speak of what it counts.
        verbose: 0 is silent, 2 says a line per step.
        done: how many steps were taken before.
    """

    def __init__(self, target: Target, verbose: int, done: int = 0) -> None:
        self.target, self.verbose = target, verbose
        stage = "pruning, step" if target.num_steps > 1 else "pruning"
        self.progress = Progress(stage, max(target.num_steps, 1), verbose)
        self.progress.n = self.progress.initial = done
        Lines.written = self.began = self.step_began = time.monotonic()
        self.last = ""

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.last:
            self.progress.say(self.last, always=True)
        self.progress.close()

    def step(self, state: PruningState, pruned: Graph, logs: Mapping[str, float]) -> None:
        """A step is done.

        Args:
            state: after it.
            pruned: the smaller network.
            logs: what callbacks saw.
        """
        if not self.verbose:
            return
        now = time.monotonic()
        measured = "".join(f", {k} {v:.4g}" for k, v in logs.items() if k.startswith("val_"))
        line = (
            f"step {state.step}: {self.target.removed(pruned, state.plan):.1%} of {self.target.name} removed,"
            f" {logs['params']:,.0f} parameters, {logs['macs']:,.0f} MACs{measured}"
            f" ({now - self.step_began:.1f} s)"
        )
        self.step_began = now
        self.last = "" if self.progress.say(line, always=self.verbose > 1) else line
        self.progress.update()
