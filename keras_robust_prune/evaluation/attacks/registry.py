"""The names of attacks: what the package ships, and what users register."""

from __future__ import annotations

import dataclasses
import re
from typing import Protocol

import numpy as np

from keras_robust_prune.evaluation.attacks.threat import NORMS, Threat
from keras_robust_prune.evaluation.classifier import Classifier

_NAME = re.compile(r"[a-z_]+(?:-[a-z_]+)*")


class AttackFunction(Protocol):
    """How an attack is computed."""

    def __call__(
        self,
        classifier: Classifier,
        x: np.ndarray,
        labels: np.ndarray,
        threat: Threat,
        *,
        steps: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Points `(num_inputs, num_features)` at which the classifier is as wrong as the attack can make it.

        Args:
            classifier: what is attacked.
            x: inputs, `(num_inputs, num_features)`, within the range.
            labels: right classes, `(num_inputs,)`.
            threat: the ball around each input.
            steps: gradients, queries or draws.
            rng: the source of all random numbers.
        """


@dataclasses.dataclass(frozen=True)
class AttackKind:
    """A kind of attack.

    Attributes:
        name: what texts call it.
        function: how it is computed.
        steps: gradients, queries or draws where a text names none.
        needs_gradients: whether it differentiates the network, which a `.tflite` file does not allow.
        norms: the balls that it knows.
        min_classes: how many classes it needs.
    """

    name: str
    function: AttackFunction
    steps: int
    needs_gradients: bool = True
    norms: tuple[str, ...] = NORMS
    min_classes: int = 2

    def __post_init__(self) -> None:
        problems = [] if callable(self.function) else [f"{self.function!r} is no function"]
        if not _NAME.fullmatch(self.name):
            problems.append("a name is made of small letters and '_', in words joined by '-'")
        if self.steps < 1:
            problems.append(f"steps is {self.steps}, but at least 1")
        if not self.norms or not set(self.norms) <= set(NORMS):
            problems.append(f"norms is {self.norms!r}, but some of {NORMS}")
        if problems:
            raise ValueError(
                f"{self.name!r} cannot be registered as an attack: {'; '.join(problems)}."
            )


ATTACKS: dict[str, AttackKind] = {}
"""Every attack by its name."""

_SHIPPED: set[str] = set()


def ship(*kinds: AttackKind) -> None:
    """Enter the package's own attacks."""
    for kind in kinds:
        ATTACKS[kind.name] = kind
        _SHIPPED.add(kind.name)


def register_attack(
    name: str,
    function: AttackFunction,
    *,
    steps: int = 20,
    needs_gradients: bool = True,
    norms: tuple[str, ...] = NORMS,
    min_classes: int = 2,
) -> None:
    """Gives an attack of your own a name, which then works wherever attacks are named.

    Whatever the function returns is brought back into the ball and the range, restarts are run and the worst points
    kept around it: it only has to move.

    Args:
        name: small letters and `_`, in words joined by `-`.
        function: `function(classifier, x, labels, threat, *, steps, rng)` returns points of the shape of `x`,
            `(num_inputs, num_features)`. `classifier.margins(x, labels)`, `.logits(x)` and `.gradient(x, labels)`
            answer; `threat.eps` counts in units of `threat.scale`.
        steps: how many where a text names none; in `"mine-50@0.1"` it is 50.
        needs_gradients: whether it calls `classifier.gradient`.
        norms: the balls that it knows.
        min_classes: how many classes it needs.

    Raises:
        ValueError: a value is out of its range, or the package ships an attack of that name. An attack of your own is
            replaced.

    Example:
        >>> def corners(classifier, x, labels, threat, *, steps, rng):
        ...     return x + threat.eps * threat.scale * rng.choice([-1, 1], x.shape)
        >>> register_attack("corners", corners, steps=1, needs_gradients=False, norms=("linf",))
        >>> ATTACKS["corners"].steps
        1
    """
    if name in _SHIPPED:
        raise ValueError(f"The package has an attack {name!r}. Choose another name.")
    ATTACKS[name] = AttackKind(name, function, steps, needs_gradients, tuple(norms), min_classes)
