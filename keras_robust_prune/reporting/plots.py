"""Figures that notebooks show by themselves, drawn with matplotlib where it is installed; nothing global is touched."""

from __future__ import annotations

import importlib
import io
from typing import Any


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches, that shows itself in a notebook and has `savefig`.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        module = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ValueError(
            "plot() draws with matplotlib, which is not installed:"
            " pip install 'keras-robust-prune[report]'"
        ) from error

    class Figure(module.Figure):  # type: ignore[misc, name-defined]
        def _repr_png_(self) -> bytes:
            drawn = io.BytesIO()
            self.savefig(drawn, format="png")
            return drawn.getvalue()

    return Figure(figsize=(width, height), layout="constrained")
