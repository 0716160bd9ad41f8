"""The pruned network imitates the dense one on synthetic inputs, and around them.

No label and no loss of the user's is involved: the targets are the dense network's logits, the
inputs are the synthetic ones (or real unlabelled ones), half of every batch moved at random, half
adversarially against the pruned network, within a radius that is measured on the network itself.
Inputs that are held back decide whether the result is kept.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.synthesis.perturbation import radius
from keras_robust_prune.synthesis.priors import InputSpace
from keras_robust_prune.synthesis.probe import ActivationProbe, logit_refs, scores

_BATCH = 64
_WORK = 4e12  # multiplications that training may take
_FEWEST, _MOST = 200, 6000
_RATE = 2e-3
_HELD = 8  # one of so many inputs is held back


@dataclasses.dataclass(frozen=True, eq=False)
class Imitation:
    """What distillation did.

    Attributes:
        graph: the pruned network, better or as it was.
        kept: whether training was kept.
        error_before, error_after: squared logit error on the inputs held back and around them, over
            the variance of the dense network's logits. Lower is better.
        radius: the l-inf radius, as a share of the input range.
        num_steps: how many were taken.
    """

    graph: Graph
    kept: bool
    error_before: float
    error_after: float
    radius: float
    num_steps: int


def imitate(
    dense: Graph,
    pruned: Graph,
    sources: Sequence[Sequence[np.ndarray]],
    held: Sequence[Sequence[np.ndarray]],
    spaces: Sequence[InputSpace],
    seed: int = 0,
    num_steps: int | None = None,
    seconds: float = 300.0,
    verbose: int = 0,
    perturb: bool = True,
) -> Imitation:
    """Train the pruned network to give the dense one's logits.

    Args:
        dense: the network to imitate.
        pruned: a smaller network with the same inputs and outputs, physically cut.
        sources: kinds of unlabelled inputs that count alike, however many they are; each one array
            per network input.
        held: the same, of inputs that neither training nor any repair before it has seen: they
            decide whether the result is kept.
        spaces: their ranges.
        seed: of batches and noise.
        num_steps: how many; None lets the network's size decide, 200 to 6,000.
        seconds: a hard limit, for slow machines. The rate of learning falls with whichever is
            nearer its end, steps or seconds, so that a run that is cut short ends as it should.
        verbose: 1 prints progress.
        perturb: whether inputs are moved.

    Returns:
        The result, with a decision taken on inputs that training did not see.
    """
    course = _Course(dense, pruned, sources, spaces, perturb)
    course.num_steps = num_steps or course.num_steps
    before = course.error(held)
    steps = course.train(sources, seed, seconds, verbose)
    after = course.error(held)
    kept = bool(math.isfinite(after) and after < before)
    graph = course.trained() if kept else pruned
    return Imitation(graph, kept, before, after, course.radius, steps)


def hold_back(
    inputs: Sequence[np.ndarray], seed: int = 0
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Inputs to repair and train on, and an eighth of them that only judges.

    A single input has to do both.
    """
    order = np.random.default_rng([seed, 3]).permutation(len(inputs[0]))
    held, used = np.split(order, [max(1, len(order) // _HELD)])
    used = used if len(used) else held
    return [x[used] for x in inputs], [x[held] for x in inputs]


class _Course:
    """Teacher, student and optimiser of one run."""

    def __init__(
        self,
        dense: Graph,
        pruned: Graph,
        sources: Sequence[Sequence[np.ndarray]],
        spaces: Sequence[InputSpace],
        perturb: bool,
    ) -> None:
        tf = backends.tensorflow()
        self.pruned = pruned
        teacher, student = split_activations(dense), split_activations(pruned)
        self.teacher = ActivationProbe(teacher, logit_refs(teacher))
        self.student = ActivationProbe(student, logit_refs(student))
        for layer in self.student.model.layers:
            layer.trainable = True
        self.weights = [_value(v) for v in self.student.model.trainable_weights]
        self.spaces = spaces
        first = [np.concatenate([x[:500] for x in same]) for same in zip(*sources, strict=True)]
        logits = self.teacher.run(first)
        self.scales = [float(np.var(z - z.mean(0))) + 1e-12 for z in logits]
        self.radius = radius(self.teacher, first, spaces) if perturb else 0.0
        work = _BATCH * (num_macs(dense) + (6 if perturb else 3) * num_macs(pruned))
        self.num_steps = int(np.clip(_WORK / max(work, 1), _FEWEST, _MOST))
        self.first = [tf.Variable(tf.zeros_like(v)) for v in self.weights]
        self.second = [tf.Variable(tf.zeros_like(v)) for v in self.weights]
        self.step = tf.function(self._step, autograph=False)

    def _loss(self, tensors: Sequence[Any]) -> Any:
        tf = backends.tensorflow()
        losses = []
        pairs = zip(self.student(tensors), self.teacher(tensors), self.scales, strict=True)
        for mine, theirs, scale in pairs:
            losses.append(tf.reduce_mean(tf.square(mine - theirs)) / scale)
        return tf.add_n(losses)

    def _adversarial(self, tensors: Sequence[Any]) -> list[Any]:
        """One step of the gradient's sign against the student's agreement with the teacher."""
        tf = backends.tensorflow()
        labels = [tf.argmax(scores(z), -1) for z in self.teacher(tensors)]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            found = [scores(z) for z in self.student(tensors)]
            loss = tf.add_n(
                [
                    tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(label, score))
                    for label, score in zip(labels, found, strict=True)
                ]
            )
        signs = [None if g is None else tf.sign(g) for g in tape.gradient(loss, tensors)]
        return self._moved(tensors, signs)

    def _random(self, tensors: Sequence[Any], key: Any) -> list[Any]:
        tf = backends.tensorflow()
        noise = [tf.random.stateless_uniform(tf.shape(x), key, -1.0, 1.0) for x in tensors]
        return self._moved(tensors, noise)

    def _moved(self, tensors: Sequence[Any], by: Sequence[Any]) -> list[Any]:
        tf = backends.tensorflow()
        found = []
        for x, direction, space in zip(tensors, by, self.spaces, strict=True):
            if direction is None or space.num_tokens:
                found.append(x)
                continue
            size = self.radius * (space.upper - space.lower)
            found.append(tf.clip_by_value(x + size * direction, space.lower, space.upper))
        return found

    def _step(self, number: Any, progress: Any, key: Any, *tensors: Any) -> Any:
        tf = backends.tensorflow()
        batch: list[Any] = list(tensors)
        if self.radius:
            half = _BATCH // 2
            attacked = self._adversarial([x[:half] for x in batch])
            shaken = self._random([x[half:] for x in batch], key)
            batch = [tf.concat(pair, 0) for pair in zip(attacked, shaken, strict=True)]
        with tf.GradientTape() as tape:
            loss = self._loss(batch)
        gradients = tape.gradient(loss, self.weights)
        rate = _RATE * 0.5 * (1 + tf.cos(math.pi * progress))
        rate *= tf.minimum(1.0, (number + 1.0) / 50.0)
        done = number + 1.0
        for weight, gradient, m, v in zip(
            self.weights, gradients, self.first, self.second, strict=True
        ):
            if gradient is None:
                continue
            gradient = tf.convert_to_tensor(gradient)  # that of an Embedding is sparse
            m.assign(0.9 * m + 0.1 * gradient)
            v.assign(0.999 * v + 0.001 * tf.square(gradient))
            scale = tf.sqrt(v / (1 - 0.999**done)) + 1e-8
            weight.assign_sub(rate * m / (1 - 0.9**done) / scale)
        return loss

    def train(
        self, sources: Sequence[Sequence[np.ndarray]], seed: int, seconds: float, verbose: int
    ) -> int:
        tf = backends.tensorflow()
        rng = np.random.default_rng([seed, 4])
        began = time.monotonic()
        inputs = [np.concatenate(same) for same in zip(*sources, strict=True)]
        counts = np.array([len(source[0]) for source in sources])
        starts = np.cumsum(counts) - counts
        now = began
        done = 0
        with Progress("distillation", self.num_steps, verbose) as bar:
            for number in range(self.num_steps):
                progress = max(number / self.num_steps, (now - began) / seconds)
                kind = rng.integers(0, len(sources), (2, _BATCH))
                rows = starts[kind] + rng.integers(0, counts[kind])
                key = tf.constant([seed, number], tf.int32)
                pairs = zip(inputs, self.spaces, strict=True)
                batch = [tf.constant(mixed(x, rows, space, rng)) for x, space in pairs]
                self.step(
                    tf.constant(float(number)), tf.constant(progress, tf.float32), key, *batch
                )
                now = time.monotonic()
                bar.update()
                done = number + 1
                if now - began > seconds:
                    break
        return done

    def error(self, sources: Sequence[Sequence[np.ndarray]]) -> float:
        """Mean squared error over the logits' variance, on inputs and around them."""
        return float(np.mean([self._error(inputs) for inputs in sources]))

    def _error(self, inputs: Sequence[np.ndarray]) -> float:
        tf = backends.tensorflow()
        losses = []
        for k in range(0, len(inputs[0]), 250):
            part = [tf.constant(x[k : k + 250]) for x in inputs]
            losses.append(float(self._loss(part)))
            if self.radius:
                losses.append(float(self._loss(self._adversarial(part))))
        return float(np.mean(losses))

    def trained(self) -> Graph:
        """The student's weights in the graph it was built from."""
        found = read(self.student.model)
        return self.pruned.with_weights(
            {
                (name, weight): found.layers[name].weights[weight]
                for name, layer in self.pruned.layers.items()
                for weight in layer.weights
                if name in found.layers
            }
        )


def mixed(
    x: np.ndarray, rows: np.ndarray, space: InputSpace, rng: np.random.Generator
) -> np.ndarray:
    """A batch of mixtures of two inputs: a few hundred would be overfitted, mixtures are many more.

    Args:
        x: the inputs, `(count, *shape)`.
        rows: which are mixed, `(2, batch)`; of each mixture the first makes up at least half.
        space: what an input may be; tokens stay as they are.
        rng: of the shares.
    """
    one, other = x[rows[0]], x[rows[1]]
    if space.num_tokens:
        return one
    share = rng.uniform(0.5, 1.0, (len(one),) + (1,) * (one.ndim - 1)).astype(one.dtype)
    return share * one + (1 - share) * other


def _value(variable: Any) -> Any:
    """The TensorFlow variable of a Keras variable."""
    return getattr(variable, "value", variable) if hasattr(variable, "_value") else variable
