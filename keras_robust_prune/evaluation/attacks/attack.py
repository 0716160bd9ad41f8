"""An attack and its radius, as a value that is read from a text and printed as one."""

from __future__ import annotations

import dataclasses
import re
import sys
import warnings
from typing import Any

import numpy as np

from keras_robust_prune.evaluation.attacks.registry import ATTACKS, AttackKind
from keras_robust_prune.evaluation.attacks.threat import NORMS, Threat
from keras_robust_prune.evaluation.attacks.worst import Worst
from keras_robust_prune.evaluation.classifier import Classifier
from keras_robust_prune.evaluation.layout import Layout

_FORM = re.compile(
    r"(?P<name>[a-z_]+(?:-[a-z_]+)*)(?:-(?P<steps>\d+))?(?:x(?P<restarts>\d+))?"
    r"@(?P<eps>[0-9.eE+-]+)(?:/(?P<divisor>[0-9.]+))?(?P<percent>%)?(?::(?P<norm>\w+))?"
)
# Names that attacks had, and have now.
_RENAMED = {"autoattack": "ensemble"}


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack and its radius.

    The text is `name[-steps][xrestarts]@eps[%][:norm]`:

    - `"fgsm@0.05"`: one signed gradient step (Goodfellow et al., 2015);
    - `"pgd@0.05"`, `"pgd-50x5@8/255"`, `"pgd@0.5:l2"`: projected gradient ascent from random starts, 20 steps once
      unless said (Madry et al., 2018);
    - `"apgd@0.05"`, `"apgd-dlr@0.05"`, `"apgd-t@0.05"`: Auto-PGD with cross-entropy, with the difference-of-logits
      ratio, and with that ratio towards nine other classes, 100 steps (Croce & Hein, 2020);
    - `"square@0.05"`: Square attack without gradients, 1,000 queries (Andriushchenko et al., 2020), l-inf only;
    - `"noise@0.05"`: the worst of 20 random points of the ball;
    - `"ensemble@0.05"`: `apgd`, then `apgd-t`, then `square` with 5,000 queries, each on what is left: AutoAttack
      (Croce & Hein, 2020) without its FAB;
    - whatever `register_attack` has named.

    Attributes:
        name: of the attack.
        eps: the radius, > 0; in the inputs' own unit, or with `relative` as a fraction of each feature's range.
        norm: `"linf"` or `"l2"`.
        steps: gradients, queries or draws, for each restart.
        restarts: how often it starts anew on inputs that still hold.
        relative: whether `eps` counts in widths of the input range (written in percent).

    Example:
        >>> attack = Attack.parse("pgd-50x5@8/255")
        >>> attack.steps, attack.restarts, round(attack.eps, 4)
        (50, 5, 0.0314)
        >>> str(Attack.parse("pgd@0.5:l2"))
        'pgd@0.5:l2'
    """

    name: str
    eps: float
    norm: str = "linf"
    steps: int = 1
    restarts: int = 1
    relative: bool = False

    def __post_init__(self) -> None:
        if self.name in _RENAMED:
            new = _RENAMED[self.name]
            warnings.warn(
                f"The attack {self.name!r} is called {new!r} now, for it is not AutoAttack: FAB is not"
                f" part of it. Write '{new}@{self.eps:.6g}'.",
                DeprecationWarning,
                stacklevel=_frames_of_the_package(),
            )
            object.__setattr__(self, "name", new)
        if self.name not in ATTACKS:
            raise ValueError(
                f"{self.name!r} is no attack; expected one of {', '.join(ATTACKS)}. One of your own"
                " gets its name by krp.register_attack."
            )
        if self.norm not in NORMS:
            raise ValueError(f"{self.norm!r} is no norm; expected one of {', '.join(NORMS)}.")
        if self.norm not in self.kind.norms:
            raise ValueError(
                f"The attack {self.name!r} knows the norm {' and '.join(self.kind.norms)} only. Write"
                f" '{self.name}@eps:{self.kind.norms[0]}', or take 'pgd@eps:{self.norm}' or"
                f" 'noise@eps:{self.norm}'."
            )
        if not (np.isfinite(self.eps) and self.eps > 0 and self.steps > 0 and self.restarts > 0):
            raise ValueError(
                f"The attack {self.name!r} has eps {self.eps}, {self.steps} steps and"
                f" {self.restarts} restarts; each has to be above 0."
            )

    @classmethod
    def parse(cls, text: str | Attack) -> Attack:
        """The attack that a text describes.

        Raises:
            ValueError: the text has another form, or names no attack or norm there is.
        """
        if isinstance(text, Attack):
            return text
        found = _FORM.fullmatch(text.strip().lower())
        try:
            if not found:
                raise ValueError
            eps = (
                float(found["eps"])
                / float(found["divisor"] or 1)
                / (100 if found["percent"] else 1)
            )
        except (ValueError, ZeroDivisionError):
            raise ValueError(
                f"{text!r} is no attack. Write 'pgd@0.05', 'pgd-50x5@8/255' (50 steps, 5 restarts),"
                f" 'pgd@0.5:l2' or 'fgsm@5%' (of the input range); names: {', '.join(ATTACKS)}."
            ) from None
        name = found["name"]
        kind = ATTACKS.get(_RENAMED.get(name, name))
        steps = int(found["steps"] or (kind.steps if kind else 1))
        restarts = int(found["restarts"] or 1)
        return cls(name, eps, found["norm"] or "linf", steps, restarts, bool(found["percent"]))

    def __str__(self) -> str:
        steps = "" if self.steps == self.kind.steps else f"-{self.steps}"
        restarts = "" if self.restarts == 1 else f"x{self.restarts}"
        eps = f"{self.eps * 100:.6g}%" if self.relative else f"{self.eps:.6g}"
        norm = "" if self.norm == "linf" else f":{self.norm}"
        return f"{self.name}{steps}{restarts}@{eps}{norm}"

    @property
    def kind(self) -> AttackKind:
        """What is registered under its name."""
        return ATTACKS[self.name]

    @property
    def needs_gradients(self) -> bool:
        """Whether it differentiates the network."""
        return self.kind.needs_gradients

    def threat(self, layout: Layout, input_range: Any) -> Threat:
        """The ball it may use on inputs of a layout."""
        lower, upper = layout.range_rows(input_range)
        width = upper - lower
        # A feature that cannot move needs some unit, for it is divided by.
        scale = np.where(width > 0, width, 1) if self.relative else np.ones_like(width)
        shape = layout.shapes[0] if len(layout.shapes) == 1 else (layout.num_features,)
        return Threat(lower, upper, scale.astype(np.float32), self.eps, self.norm, shape)

    def run(
        self,
        classifier: Classifier,
        x: np.ndarray,
        labels: np.ndarray,
        threat: Threat,
        *,
        seed: int = 0,
    ) -> np.ndarray:
        """Looks for points at which the classifier is wrong.

        Args:
            classifier: what is attacked.
            x: inputs, `(num_inputs, num_features)`, within the range.
            labels: right classes, `(num_inputs,)`.
            threat: from `threat()`.
            seed: of everything drawn.

        Returns:
            For each input the worst point found, same shape as `x`; where it holds, the nearest to failing.

        Raises:
            ValueError: the attack needs more classes, or returned something that is no points.
        """
        if classifier.head.num_classes < self.kind.min_classes:
            raise ValueError(
                f"{str(self)!r} needs {self.kind.min_classes} classes, but the output"
                f" {classifier.head.name!r} has {classifier.head.num_classes}. Write 'apgd@...'."
            )
        worst = Worst(classifier, x, labels)
        for restart in range(self.restarts):
            holding = worst.holding
            if not holding.size:
                break
            rng, part = np.random.default_rng([seed, restart]), x[holding]
            moved = np.asarray(
                self.kind.function(
                    classifier, part, labels[holding], threat, steps=self.steps, rng=rng
                ),
                np.float32,
            )
            if moved.shape != part.shape or not np.isfinite(moved).all():
                raise ValueError(
                    f"The attack {self.name!r} was given inputs {part.shape} and returned"
                    f" {moved.shape}{'' if np.isfinite(moved).all() else ' with NaN or infinity'}. An"
                    " attack returns a finite point for every input."
                )
            worst.offer(holding, threat.clip(part, moved))
        return worst.points


def _frames_of_the_package() -> int:
    """The `stacklevel` of a warning that names the line by which the package was called."""
    package, level = __name__.partition(".")[0], 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(package):
        frame, level = frame.f_back, level + 1
    return level
