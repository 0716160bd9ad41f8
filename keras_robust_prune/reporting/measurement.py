"""What is measured is a value: it carries its uncertainty, and what it was measured on."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A number that was measured. Tables, JSON and pages only render it.

    Attributes:
        name: what was measured, e.g. `"pgd@0.05"`.
        number: the value.
        lower: the lower end of its interval of confidence or spread; None if there is none.
        upper: the upper end.
        num_samples: on how many inputs, or in how many runs.
        measured_on: the model or file, and where it matters the tier of the inputs or the device.
        unit: of number and interval; empty for shares in [0, 1].

    Raises:
        ValueError: the number lies outside its own interval.

    Example:
        >>> print(Measurement("accuracy", 0.8, 0.49, 0.9433, 10, "small.tflite"))
        accuracy 0.8 [0.49, 0.9433], 10 samples, small.tflite
        >>> print(
        ...     Measurement("latency", 0.125, num_samples=20, measured_on="small.tflite", unit="ms")
        ... )
        latency 0.125 ms, 20 samples, small.tflite
    """

    name: str
    number: float
    lower: float | None = None
    upper: float | None = None
    num_samples: int = 0
    measured_on: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        low, high = self.lower, self.upper
        if (low is not None and self.number < low) or (high is not None and self.number > high):
            raise ValueError(
                f"{self.name} is {self.number:g}, outside of its interval [{low}, {high}]."
            )

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, if there are any."""
        return None if self.lower is None or self.upper is None else (self.lower, self.upper)

    @property
    def text(self) -> str:
        """The number as tables show it: whole bytes, shares to a thousandth.

        Example:
            >>> Measurement("size", 2000.0, unit="bytes").text, Measurement("accuracy", 0.5).text
            ('2,000', '0.500')
        """
        if self.unit == "bytes":
            return f"{self.number:,.0f}"
        return f"{self.number:.{4 if self.unit else 3}f}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.name} {self.number:.4g}", self.unit]
        if self.interval is not None:
            parts.append("[{:.4g}, {:.4g}]".format(*self.interval))
        samples = f"{self.num_samples:,} samples" if self.num_samples else ""
        return ", ".join(filter(None, [" ".join(filter(None, parts)), samples, self.measured_on]))
