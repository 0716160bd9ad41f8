"""Stopping criteria: `"pgd@0.05>=0.9*dense"`, `"certified_agreement>=0.9@0.01"`.

A criterion is measured after every step on the smaller network; pruning ends at the last step that meets it. The right
answers are the dense network's own, so without attack it is agreement that is measured. With real unlabelled inputs
(`calibration=array`) it is measured on them; otherwise on inputs made from the network, and then it says what the
network keeps on *those*, which is an estimate of what it keeps in the world.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from keras_robust_prune.evaluation.attacks import Attack
from keras_robust_prune.evaluation.evaluate import evaluate
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.synthesis.synthesis import synthetic_inputs

# Inputs that a criterion is measured on; proofs cost more than attacks.
NUM_ATTACKED, NUM_CERTIFIED = 256, 64
CERTIFIED = {"certified_agreement": "agree", "certified": "pruned_is_constant"}
FORM = re.compile(
    r"^\s*(?P<what>[a-z_]+)(?P<options>[-\w.:+]*)(@(?P<eps>[\w.:+/%-]+))?\s*>=\s*"
    r"(?P<value>[0-9.]+)\s*(?P<dense>\*\s*dense)?\s*(@(?P<late>[\w.:+/%-]+))?\s*$"
)
EXAMPLES = '"agreement>=0.95", "pgd@0.05>=0.9*dense", "certified_agreement>=0.9@0.01"'


@dataclasses.dataclass
class StoppingCriterion:
    """A share that the pruned network shall not fall below.

    Attributes:
        what: `"agreement"`, `"certified_agreement"`, `"certified"`, or an attack.
        eps: the attack's or the certificate's radius, as text.
        value: the share, (0, 1].
        relative: whether `value` counts in the dense network's share.

    Example:
        >>> stopping_criterion("pgd@0.05>=0.9*dense")
        pgd@0.05>=0.9*dense
    """

    what: str
    eps: str
    value: float
    relative: bool

    def __repr__(self) -> str:
        radius = f"@{self.eps}" if self.eps else ""
        return f"{self.what}{radius}>={self.value:g}{'*dense' if self.relative else ''}"

    def prepare(self, dense: Graph, problem: Problem) -> None:
        """Take the inputs, the dense network's answers to them, and its own share.

        Raises:
            ValueError: `calibration="weights"` forbids the inputs that a criterion is measured on.
        """
        if isinstance(problem.calibration, str):
            raise ValueError(
                f"stop='{self}' is measured on inputs, which calibration='weights' forbids. Leave"
                " calibration out, or pass inputs."
            )
        count = NUM_CERTIFIED if self.what in CERTIFIED else NUM_ATTACKED
        given = problem.inputs_given()
        if not given:
            arrays = synthetic_inputs(dense, problem.inputs, None, problem.seed, problem.verbose)
            inputs, kind = [array[:count] for array in arrays.arrays], "made"
        else:
            inputs, kind = [part[:count] for part in given], "given"
        self._x = inputs[0] if len(inputs) == 1 else inputs
        self._range = problem.inputs
        self._dense = dense
        self._y = answers(build(dense), self._x)
        self._on = f"{len(inputs[0])} {kind} inputs"
        self._needed = self.value * (self.measure(dense) if self.relative else 1.0)

    def measure(self, graph: Graph) -> float:
        """The share of a network, [0, 1]."""
        if self.what in CERTIFIED:
            from keras_robust_prune.verify.certificate import certify

            proven = certify(
                self._dense, graph, self._x, float(self.eps), input_range=self._range, verbose=0
            )
            return float(np.mean(getattr(proven, CERTIFIED[self.what])))
        attacks = [] if self.what == "agreement" else [Attack.parse(f"{self.what}@{self.eps}")]
        found = evaluate(
            build(graph), self._x, self._y, attacks=attacks, input_range=self._range, verbose=0
        )
        return found[str(attacks[0])] if attacks else found.accuracy

    def failed_by(self, graph: Graph) -> str:
        """Says how a network fails the criterion; empty if it meets it."""
        share = self.measure(graph)
        return "" if share >= self._needed - 1e-9 else f"the next step has {self.report(share)}"

    def met_by(self, graph: Graph) -> str:
        """What a network keeps, measured anew."""
        return self.report(self.measure(graph))

    def report(self, share: float) -> str:
        """A share in words."""
        return f"{self}: {share:.4f}, {self._needed:.4f} needed, on {self._on}"


def answers(model: Any, x: Any) -> Any:
    """The classes that a model answers: `(n,)` integers, a list of them for several outputs."""
    outputs = model.predict(x, verbose=0)
    if isinstance(outputs, dict):
        return {name: _classes(output) for name, output in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return [_classes(output) for output in outputs]
    return _classes(outputs)


def _classes(output: np.ndarray) -> np.ndarray:
    if output.shape[-1] == 1:
        return (output[..., 0] > 0.5).astype(int)
    return np.argmax(output, axis=-1)


def stopping_criterion(text: str | None) -> StoppingCriterion | None:
    """Read a stopping criterion.

    Args:
        text: `NAME[@RADIUS]>=SHARE[*dense]`; the radius may stand at the end.

    Raises:
        ValueError: the text is none.
    """
    if text is None:
        return None
    found = FORM.match(text)
    if not found:
        raise ValueError(f"stop={text!r} is no stopping criterion. Examples: {EXAMPLES}.")
    what = found["what"] + (found["options"] or "")
    eps = found["eps"] or found["late"] or ""
    value = float(found["value"])
    if not 0.0 < value <= 1.0:
        raise ValueError(f"stop={text!r} asks for {value:g}; a share lies above 0 and up to 1.")
    if (what == "agreement") == bool(eps):
        raise ValueError(
            f"stop={text!r}: "
            + ("agreement has no radius" if eps else f"'{what}' needs a radius, e.g. {what}@0.01")
            + f". Examples: {EXAMPLES}."
        )
    if what != "agreement" and what not in CERTIFIED:
        Attack.parse(f"{what}@{eps}")  # refuses what is no attack
    criterion = StoppingCriterion(what, eps, value, found["dense"] is not None)
    if what in CERTIFIED and criterion.relative:
        raise ValueError(f"stop={text!r}: a certified share cannot count in the dense network's.")
    return criterion
