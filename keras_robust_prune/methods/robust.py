"""The method `robust`: sets of units, chosen and repaired on inputs made from the network.

Consumer after consumer in the order of the graph, on the pruned network's own activations: where the units that a
consumer mixes are not decided yet, backward elimination over all layers that read them chooses which are removed; then
the consumer is solved towards the dense network's pre-activations. At the end the pruned network is distilled from the
dense one.

With `calibration="weights"` no input is made or read: moments are estimated from weights and BatchNorm statistics, and
there is no distillation.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

from keras_robust_prune.methods.budgets import Budget
from keras_robust_prune.methods.by_cost import ByCost
from keras_robust_prune.methods.composition import Composition
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.repair.repair import Repair
from keras_robust_prune.methods.selectors import Elimination, Selector
from keras_robust_prune.synthesis.kinds import Synthesis

# What an argument of version 0.1.0 is now: the part, and its attribute.
_MOVED = {
    "perturb": ("Distillation", "perturb"),
    "num_steps": ("Distillation", "num_steps"),
    "seconds": ("Distillation", "seconds"),
    "num_inputs": ("Synthesis", "num_inputs"),
    "invert": ("Synthesis", "invert"),
}
_GONE = ("surround", "anneal", "merge", "bounds", "energy")


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Robust(Composition):
    """The best data-free method we have: a composition whose parts can be exchanged.

    Attributes:
        budget: `ByCost()`.
        selector: `Elimination()`.
        repair: `(LeastSquares(), Distillation())`. Also `"distill"` for these two and `"reconstruct"` for the first.
        synthesis: how inputs are made where none, or few, are given. Also `"auto"`, `"inverted"`, `"photographs"` or
            `"procedural"`, see `synthesis.kinds.synthesize`.
        step: fraction that one step removes where the problem does not say; None removes all in one step.
        name: of the method.
        minutes: about how long a run may take, see `Composition`; None for no limit.

    Example:
        >>> Robust(repair="reconstruct").repair
        (LeastSquares(),)
    """

    def __init__(
        self,
        budget: Budget | None = None,
        selector: Selector | None = None,
        repair: str | tuple[Repair, ...] = "distill",
        synthesis: Synthesis | str | None = None,
        step: float | None = None,
        name: str = "robust",
        minutes: float | None = None,
        **old: Any,
    ) -> None:
        if isinstance(repair, str):
            if repair not in ("distill", "reconstruct"):
                raise ValueError(
                    f"repair is {repair!r}; choose 'distill' or 'reconstruct', or give repairs, for"
                    " example (LeastSquares(), Distillation())."
                )
            repair = (LeastSquares(), Distillation())[: 2 if repair == "distill" else 1]
        if isinstance(synthesis, str):
            synthesis = Synthesis(synthesis)
        repair, synthesis = _translated(tuple(repair), synthesis or Synthesis(), old)
        super().__init__(
            budget or ByCost(), selector or Elimination(), repair, synthesis, step, name, minutes
        )


def _translated(
    repair: tuple[Repair, ...], synthesis: Synthesis, old: dict[str, Any]
) -> tuple[tuple[Repair, ...], Synthesis]:
    """The parts with what arguments of version 0.1.0 ask of them.

    Raises:
        TypeError: an argument never existed.
    """
    for name, value in old.items():
        if name in _GONE:
            text = f"Robust({name}=...) does nothing any more: measured, it was not worth it."
        elif name in _MOVED:
            part, attribute = _MOVED[name]
            text = f"Robust({name}=...) is {part}({attribute}=...) now, a part of Robust."
            if part == "Synthesis":
                synthesis = dataclasses.replace(synthesis, **{attribute: value})
            repair = tuple(
                dataclasses.replace(item, **{attribute: value})
                if isinstance(item, Distillation) and part == "Distillation"
                else item
                for item in repair
            )
        else:
            raise TypeError(f"Robust has no argument {name!r}.")
        warnings.warn(text, DeprecationWarning, stacklevel=3)
    return repair, synthesis
