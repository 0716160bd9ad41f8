"""Promises to keep while pruning: `"pgd@0.05>=0.9*dense"`, `"certified_agreement>=0.9@0.01"`."""

from __future__ import annotations

from typing import Any


class Promise:
    def prepare(self, dense: Any, problem: Any) -> None:
        """."""

    def broken_by(self, graph: Any) -> str:
        """."""
        return ""


def promise_for(text: str | None) -> Promise | None:
    """."""
    return None
