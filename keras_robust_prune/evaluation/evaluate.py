"""What was kept: accuracy, robustness against attacks and corruptions, agreement with the dense network."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings as python_warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from keras_robust_prune.evaluation import corruptions as damage
from keras_robust_prune.evaluation import masking
from keras_robust_prune.evaluation.adapters import ModelAdapter, adapt, trusted
from keras_robust_prune.evaluation.attacks import Attack
from keras_robust_prune.evaluation.classifier import Classifier, Head
from keras_robust_prune.evaluation.labels import heads
from keras_robust_prune.evaluation.results import (
    AGREEMENT,
    ALL_HEADS,
    ATTACK,
    CLEAN,
    CORRUPTION,
    Evaluation,
    Measure,
)
from keras_robust_prune.reporting.progress import Progress


def evaluate(
    model: Any,
    x: Any,
    y: Any,
    *,
    attacks: str | Attack | Iterable[str | Attack] = (),
    corruptions: str | Iterable[str] = (),
    reference: Any = None,
    surrogate: Any = None,
    input_range: Any = None,
    batch_size: int = 256,
    seed: int = 0,
    verbose: int = 1,
    trust: bool = False,
    strategy: Any = None,
) -> Evaluation:
    """Measures accuracy, robust accuracy, accuracy on corrupted images and agreement with a reference.

    Attacks that follow gradients do so on the logits, found behind softmax or sigmoid. A `.tflite` file has no
    gradients: attacks without gradients work on the file itself, the others on `surrogate`, and what they find is
    judged by the file (transfer, and named so). With several outputs each is attacked by itself.

    Args:
        model: a tf_keras or Keras 3 model, the path of one, or the path of a `.tflite` file.
        x: inputs, `(n, ...)`; a list or a mapping by name for several.
        y: class numbers `(n,)`, one-hot rows, or 0 and 1 for sigmoid outputs; a list or a mapping by name for several
            outputs.
        attacks: texts such as `"pgd@0.05"`; see `Attack`.
        corruptions: `"standard"` for all that fit, or names such as `"jpeg"` or `"jpeg@3"` (severity 3 alone).
        reference: the dense network, as model, path or file: how often both predict the same class.
        surrogate: for a `.tflite` file: the Keras model whose gradients are followed; by default `reference`.
        input_range: valid inputs: None takes what the network says, else (0, 1); `(lower, upper)`, numbers or
            arrays of one input's shape, or an `InputSpec`; for several inputs a mapping from their names to such.
            Attacks stay within it.
        batch_size: how many inputs are computed at once.
        seed: of everything drawn.
        verbose: 0 is silent; 1 says how far the work is if it takes long; 2 prints each figure as it is found.
        trust: whether models' files may run code of its own; see `krp.load`.
        strategy: a `tf.distribute.Strategy` over whose replicas the inputs of each batch are spread, attacks too.

    Returns:
        An `Evaluation`. Shares lie in [0, 1]; higher is better.

    Raises:
        ValueError: shapes, labels, attacks or corruptions do not fit the network, `x` lies outside `input_range`, or a
            `.tflite` file shall be attacked by gradients without a surrogate.

    Example:
        >>> import tf_keras
        >>> model = tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Dense(2)])
        >>> model.set_weights([np.eye(2), np.zeros(2)])
        >>> x = np.array([[0.1, 0.9], [0.4, 0.5]])
        >>> found = evaluate(model, x, [1, 1], attacks=["pgd@0.1"])
        >>> found.accuracy, found["pgd@0.1"]
        (1.0, 0.5)
    """
    title = _describe(model)
    if trust:
        model, reference, surrogate = map(trusted, (model, reference, surrogate))
    measuring = _Measuring.prepare(
        model, x, y, reference, surrogate, input_range, batch_size, seed, verbose, strategy
    )
    chosen = [Attack.parse(text) for text in _listed(attacks, Attack)]
    damages = measuring.parse_corruptions(_listed(corruptions))
    measuring.check(chosen, bool(damages))
    count = 1 + (measuring.reference is not None) + len(chosen) + len(damages)
    with Progress("measuring", len(measuring.heads) * count, verbose) as measuring.progress:
        for head in measuring.heads:
            measuring.clean(head)
        if measuring.reference is not None:
            for head in measuring.heads:
                measuring.agreement(head, measuring.reference)
        for head in measuring.heads:
            for attack in chosen:
                measuring.attack(head, attack)
            measuring.look_for_masking(head, chosen)
        for name, severity in damages:
            measuring.corruption(name, severity)
    return measuring.result(title)


@dataclasses.dataclass(eq=False)
class _Measuring:
    """One evaluation under way."""

    adapter: ModelAdapter
    reference: ModelAdapter | None
    surrogate: ModelAdapter | None
    rows: np.ndarray
    heads: tuple[Head, ...]
    input_range: Any
    batch_size: int
    seed: int
    verbose: int
    progress: Progress | None = None
    found: list[Measure] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    classifiers: dict[tuple[int, str], Classifier] = dataclasses.field(default_factory=dict)

    @classmethod
    def prepare(
        cls,
        model: Any,
        x: Any,
        y: Any,
        reference: Any,
        surrogate: Any,
        input_range: Any,
        batch_size: int,
        seed: int,
        verbose: int,
        strategy: Any,
    ) -> _Measuring:
        compared = None if reference is None else adapt(reference, strategy=strategy)
        helper = None if surrogate is None else adapt(surrogate, strategy=strategy)
        like = helper or compared
        adapter = adapt(model, like, strategy)
        if helper is None and compared is not None and compared.has_gradients:
            helper = compared
        for other, name in ((compared, "reference"), (helper, "surrogate")):
            _check_same(adapter, other, name)
        rows = adapter.layout.pack(x)
        if not len(rows):
            raise ValueError("x holds no input; nothing can be measured. Give at least one.")
        widths = [value.shape[1] for value in adapter.run(rows[:1], 1)[0]]
        asked = heads(adapter, widths, y, len(rows))
        return cls(adapter, compared, helper, rows, asked, input_range, batch_size, seed, verbose)

    def check(self, attacks: Sequence[Attack], corrupted: bool) -> None:
        """Refuses what cannot be measured, before anything is."""
        if not attacks and not corrupted:
            return
        lower, upper = self.adapter.layout.range_rows(self.input_range)
        slack = 1e-5 * (upper - lower)
        outside = ((self.rows < lower - slack) | (self.rows > upper + slack)).any(1)
        problems = []
        if outside.any():
            problems.append(
                f"{outside.sum():,} of {len(outside):,} inputs lie outside input_range (x reaches from"
                f" {self.rows.min():.4g} to {self.rows.max():.4g}). Pass the range that x really"
                " has, for example input_range=(0, 255), or scale x."
            )
        if self.adapter.integer_inputs and attacks:
            problems.append(
                f"The inputs {list(self.adapter.integer_inputs)} hold whole numbers, which cannot be"
                " moved a little. Evaluate without attacks."
            )
        following = [str(attack) for attack in attacks if attack.needs_gradients]
        if following and self._gradients() is None:
            problems.append(
                f"A .tflite file has no gradients, which {following} follow. Give the Keras model it"
                " was made from as surrogate=, or use 'square@eps' and 'noise@eps'."
            )
        for attack in attacks:
            few = [h.name for h in self.heads if h.num_classes < attack.kind.min_classes]
            if few:
                problems.append(
                    f"'{attack}' needs {attack.kind.min_classes} classes, but {few} have fewer. Use"
                    " 'apgd@eps'."
                )
        if problems:
            raise ValueError("\n".join(problems))
        self.rows = np.clip(self.rows, lower, upper)

    def _gradients(self) -> ModelAdapter | None:
        """Whose gradients are followed."""
        return self.adapter if self.adapter.has_gradients else self.surrogate

    def classifier(self, adapter: ModelAdapter, head: Head) -> Classifier:
        """The classifier of an adapter's head; made once, for it holds compiled attacks."""
        key = (id(adapter), head.name)
        if key not in self.classifiers:
            own = dataclasses.replace(head, activation=adapter.activations[head.output])
            self.classifiers[key] = Classifier(adapter, own, self.batch_size)
        return self.classifiers[key]

    def add(self, head: Head, kind: str, name: str, holds: Callable[[], np.ndarray]) -> None:
        """Measures, keeps and prints one share."""
        begin = time.perf_counter()
        measure = Measure(head.name, kind, name, holds(), time.perf_counter() - begin)
        self.found.append(measure)
        assert self.progress is not None
        self.progress.update()
        if self.verbose > 1:
            where = f" of {head.name}" if len(self.heads) > 1 else ""
            line = f"{name}{where}: {measure.value:.4f} ({measure.seconds:.1f} s)"
            self.progress.say(line, always=True)

    def right(self, head: Head) -> np.ndarray:
        """Which inputs the head classifies rightly."""
        return next(m.holds for m in self.found if (m.head, m.kind) == (head.name, CLEAN))

    def clean(self, head: Head) -> None:
        classifier = self.classifier(self.adapter, head)
        self.add(head, CLEAN, CLEAN, partial(_right_on, classifier, self.rows))

    def agreement(self, head: Head, reference: ModelAdapter) -> None:
        pair = [self.classifier(adapter, head) for adapter in (self.adapter, reference)]
        self.add(
            head, AGREEMENT, AGREEMENT,
            lambda: pair[0].predict(self.rows) == pair[1].predict(self.rows),
        )  # fmt: skip

    def attack(self, head: Head, attack: Attack) -> None:
        """Robust accuracy: right on the input and on what the attack makes of it."""
        source = self.adapter
        if attack.needs_gradients and not source.has_gradients:
            assert self.surrogate is not None
            source = self.surrogate
        attacked, judge = self.classifier(source, head), self.classifier(self.adapter, head)

        def holds() -> np.ndarray:
            left = np.flatnonzero(self.right(head))
            x, labels = self.rows[left], head.labels[left]
            threat = attack.threat(self.adapter.layout, self.input_range)
            moved = attack.run(attacked, x, labels, threat, seed=self.seed)
            robust = np.zeros(len(self.rows), bool)
            robust[left] = judge.predict(moved) == labels if len(left) else True
            return robust

        name = str(attack) if source is self.adapter else f"{attack} (transfer)"
        self.add(head, ATTACK, name, holds)

    def corruption(self, name: str, severity: int) -> None:
        images = self.adapter.layout.unpack(self.rows)[0]
        bounds = self._image_range()
        damaged = damage.CORRUPTIONS[name](
            images, severity, input_range=bounds, seed=self.seed
        ).reshape(len(images), -1)
        for head in self.heads:
            classifier = self.classifier(self.adapter, head)
            self.add(
                head, CORRUPTION, f"{name}@{severity}", partial(_right_on, classifier, damaged)
            )

    def parse_corruptions(self, texts: Sequence[str]) -> list[tuple[str, int]]:
        """Names and severities; refuses those that the inputs do not allow."""
        if not texts:
            return []
        shapes = self.adapter.layout.shapes
        if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] not in (1, 3):
            raise ValueError(
                f"Corruptions need one image with 1 or 3 channels, but the inputs have shapes"
                f" {list(shapes)}. Evaluate without them."
            )
        found = []
        for text in texts:
            names = damage.CORRUPTIONS if text == "standard" else (text,)
            for one in names:
                name, severities = damage.parse(one)
                if damage.CORRUPTIONS[name].colour and shapes[0][2] != 3:
                    if text == "standard":
                        continue
                    raise ValueError(f"{name!r} needs 3 channels, but x has {shapes[0][2]}.")
                found += [(name, severity) for severity in severities]
        return list(dict.fromkeys(found))

    def _image_range(self) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = self.adapter.layout.range_rows(self.input_range)
        shape = self.adapter.layout.shapes[0]
        return lower.reshape(shape), upper.reshape(shape)

    def look_for_masking(self, head: Head, attacks: Sequence[Attack]) -> None:
        """Warns if the gradients that attacks followed hide something."""
        following = [attack for attack in attacks if attack.needs_gradients]
        if not following or not self.adapter.has_gradients:
            return
        classifier, right = self.classifier(self.adapter, head), self.right(head)
        warnings = []
        threats = [attack.threat(self.adapter.layout, self.input_range) for attack in following]
        flat = masking.flat_gradients(classifier, self.rows[right], head.labels[right])
        warnings.append(flat)
        balls = {(a.eps, a.norm, a.relative): t for a, t in zip(following, threats, strict=True)}
        for ball, threat in balls.items():
            same = [a for a in attacks if (a.eps, a.norm, a.relative) == ball]
            strong = [a for a in same if a.needs_gradients and a.steps > 1]
            if not strong:
                continue
            robust = {a: self._holds(head, str(a)) for a in same}
            left = np.logical_and.reduce([robust[a] for a in strong])
            simple = [(a, ~robust[a][left]) for a in same if a not in strong]
            warnings.append(
                masking.weaker_than(
                    classifier,
                    self.rows[left],
                    head.labels[left],
                    threat,
                    simple,
                    strong,
                    self.seed,
                )
            )
        self.warnings += [warning for warning in dict.fromkeys(warnings) if warning]

    def _holds(self, head: Head, name: str) -> np.ndarray:
        return next(m.holds for m in self.found if (m.head, m.name) == (head.name, name))

    def result(self, subject: str) -> Evaluation:
        """Everything measured; with several heads their conjunction too."""
        measures = list(self.found)
        if len(self.heads) > 1:
            for kind, name in dict.fromkeys((m.kind, m.name) for m in self.found):
                same = [m for m in self.found if (m.kind, m.name) == (kind, name)]
                holds = np.logical_and.reduce([m.holds for m in same])
                seconds = sum(m.seconds for m in same)
                measures.append(Measure(ALL_HEADS, kind, name, holds, seconds))
        for warning in self.warnings:
            python_warnings.warn(warning, stacklevel=3)
        return Evaluation(subject, len(self.rows), tuple(measures), tuple(self.warnings))


def _right_on(classifier: Classifier, rows: np.ndarray) -> np.ndarray:
    """Which rows a classifier classifies rightly."""
    return classifier.predict(rows) == classifier.head.labels


def _listed(given: Any, *single: type) -> list[Any]:
    return [given] if isinstance(given, (str, *single)) else list(given)


def _check_same(adapter: ModelAdapter, other: ModelAdapter | None, name: str) -> None:
    if other is None:
        return
    if other.layout.shapes != adapter.layout.shapes:
        raise ValueError(
            f"The {name} takes inputs of shapes {list(other.layout.shapes)}, the model"
            f" {list(adapter.layout.shapes)}. Both have to answer the same inputs."
        )
    if len(other.output_names) != len(adapter.output_names):
        raise ValueError(
            f"The {name} has {len(other.output_names)} outputs, the model"
            f" {len(adapter.output_names)}. Both have to answer the same questions."
        )


def _describe(model: Any) -> str:
    if isinstance(model, (str, os.PathLike)):
        return os.path.basename(os.path.normpath(os.fspath(model)))
    return str(getattr(model, "name", type(model).__name__))
