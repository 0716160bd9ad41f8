"""Attacks by name: `"pgd@0.05"` is PGD within an l-inf ball of radius 0.05.

An attack looks for the point of a ball at which a network is most wrong. Those that follow gradients do so on the
logits. All are seeded, run in batches and stay within the input range; every answer is judged afterwards by the
network's own outputs.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from keras_robust_prune.evaluation.apgd import apgd
from keras_robust_prune.evaluation.ascent import pgd
from keras_robust_prune.evaluation.layout import Layout
from keras_robust_prune.evaluation.square import square
from keras_robust_prune.evaluation.subjects import Scorer
from keras_robust_prune.evaluation.threat import NORMS, Threat

# Steps (gradients, queries or draws) where the text names none.
STEPS = {
    "fgsm": 1,
    "pgd": 20,
    "apgd": 100,
    "apgd-dlr": 100,
    "square": 1000,
    "noise": 20,
    "autoattack": 100,
}
GRADIENT_FREE = frozenset(["square", "noise"])
_FORM = re.compile(
    r"(?P<name>[a-z]+(?:-dlr)?)(?:-(?P<steps>\d+))?(?:x(?P<restarts>\d+))?"
    r"@(?P<eps>[0-9.eE+-]+)(?:/(?P<divisor>[0-9.]+))?(?P<percent>%)?(?::(?P<norm>\w+))?"
)


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack and its radius.

    The text is `name[-steps][xrestarts]@eps[%][:norm]`:

    - `"fgsm@0.05"`: one signed gradient step (Goodfellow et al., 2015);
    - `"pgd@0.05"`, `"pgd-50x5@8/255"`, `"pgd@0.5:l2"`: projected gradient ascent from random starts, 20 steps once
      unless said (Madry et al., 2018);
    - `"apgd@0.05"`, `"apgd-dlr@0.05"`: Auto-PGD with cross-entropy or the difference-of-logits ratio, 100 steps
      (Croce & Hein, 2020);
    - `"square@0.05"`: Square attack without gradients, 1,000 queries (Andriushchenko et al., 2020), l-inf only;
    - `"noise@0.05"`: the worst of 20 random points of the ball;
    - `"autoattack@0.05"`: the AutoAttack of ART, from the extra `attacks`.

    Attributes:
        name: a key of `STEPS`.
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
        if self.name not in STEPS:
            raise ValueError(f"{self.name!r} is no attack; expected one of {', '.join(STEPS)}.")
        if self.norm not in NORMS:
            raise ValueError(f"{self.norm!r} is no norm; expected one of {', '.join(NORMS)}.")
        if self.name == "square" and self.norm != "linf":
            raise ValueError(
                "The Square attack knows the l-inf norm only. Write 'square@eps', or take"
                " 'pgd@eps:l2' or 'noise@eps:l2'."
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
                f" 'pgd@0.5:l2' or 'fgsm@5%' (of the input range); names: {', '.join(STEPS)}."
            ) from None
        name = found["name"]
        steps = int(found["steps"] or STEPS.get(name, 1))
        restarts = int(found["restarts"] or 1)
        return cls(name, eps, found["norm"] or "linf", steps, restarts, bool(found["percent"]))

    def __str__(self) -> str:
        steps = "" if self.steps == STEPS[self.name] else f"-{self.steps}"
        restarts = "" if self.restarts == 1 else f"x{self.restarts}"
        eps = f"{self.eps * 100:.6g}%" if self.relative else f"{self.eps:.6g}"
        norm = "" if self.norm == "linf" else f":{self.norm}"
        return f"{self.name}{steps}{restarts}@{eps}{norm}"

    @property
    def needs_gradients(self) -> bool:
        """Whether it differentiates the network."""
        return self.name not in GRADIENT_FREE

    def threat(self, layout: Layout, input_range: Any) -> Threat:
        """The ball it may use on inputs of a layout."""
        lower, upper = layout.range_rows(input_range)
        width = upper - lower
        # A feature that cannot move needs some unit, for it is divided by.
        scale = np.where(width > 0, width, 1) if self.relative else np.ones_like(width)
        shape = layout.shapes[0] if len(layout.shapes) == 1 else (layout.num_features,)
        return Threat(lower, upper, scale.astype(np.float32), self.eps, self.norm, shape)

    def run(
        self, scorer: Scorer, x: np.ndarray, labels: np.ndarray, threat: Threat, *, seed: int = 0
    ) -> np.ndarray:
        """Looks for points at which the scorer is wrong.

        Args:
            scorer: what is attacked.
            x: inputs, `(num_inputs, num_features)`, within the range.
            labels: right classes, `(num_inputs,)`.
            threat: from `threat()`.
            seed: of everything drawn.

        Returns:
            For each input the worst point found, same shape as `x`; where it holds, the nearest to failing.
        """
        worst = x.copy()
        height = np.full(len(x), -np.inf, np.float32)
        for restart in range(self.restarts):
            left = np.flatnonzero(height <= 0)
            if not left.size:
                break
            rng = np.random.default_rng([seed, restart])
            moved = self._once(scorer, x[left], labels[left], threat, rng, restart, seed)
            reached = margins(scorer, moved, labels[left])
            better = reached > height[left]
            worst[left[better]], height[left[better]] = moved[better], reached[better]
        return worst

    def _once(
        self,
        scorer: Scorer,
        x: np.ndarray,
        labels: np.ndarray,
        threat: Threat,
        rng: np.random.Generator,
        restart: int,
        seed: int,
    ) -> np.ndarray:
        if self.name == "noise":
            return _noise(scorer, x, labels, threat, self.steps, rng)
        if self.name == "square":
            return square(
                lambda rows, right: margins(scorer, rows, right),
                x, labels, threat, queries=self.steps, rng=rng,
            )  # fmt: skip
        if self.name == "autoattack":
            from keras_robust_prune.evaluation.autoattack import autoattack

            return autoattack(scorer, x, labels, threat, steps=self.steps, seed=seed)
        start = x if self.name == "fgsm" and restart == 0 else threat.sample(x, rng)
        if self.name.startswith("apgd"):
            loss = "dlr" if self.name == "apgd-dlr" else "ce"
            if loss == "dlr" and scorer.head.num_classes < 3:
                raise ValueError(
                    f"{str(self)!r} needs 3 classes, but the output {scorer.head.name!r} has 2."
                    " Write 'apgd@...'."
                )
            return apgd(scorer, x, start, labels, threat, steps=self.steps, loss=loss)
        size = self.eps if self.name == "fgsm" else 2.5 * self.eps / self.steps
        return pgd(scorer, x, start, labels, threat, steps=self.steps, step_size=size)


def margins(scorer: Scorer, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Best wrong score minus the right one, `(num_inputs,)`: above 0 is misclassified."""
    scores = scorer.scores(rows)
    index = np.arange(len(rows))
    right = scores[index, labels].copy()
    scores = scores.copy()
    scores[index, labels] = -np.inf
    return scores.max(1) - right


def _noise(
    scorer: Scorer,
    x: np.ndarray,
    labels: np.ndarray,
    threat: Threat,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """The worst of some random points."""
    worst = x.copy()
    height = np.full(len(x), -np.inf, np.float32)
    for _ in range(draws):
        left = np.flatnonzero(height <= 0)
        if not left.size:
            break
        moved = threat.sample(x[left], rng)
        reached = margins(scorer, moved, labels[left])
        better = reached > height[left]
        worst[left[better]], height[left[better]] = moved[better], reached[better]
    return worst
