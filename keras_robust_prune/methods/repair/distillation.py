"""Distillation: the pruned network learns the dense one's answers on synthetic inputs, and around them.

No label and no loss of the user's is involved: the targets are the dense network's logits, the inputs are synthetic (or
real unlabelled) ones, half of every batch moved at random, half adversarially against the pruned network, within a
radius that is measured on the network itself. Inputs that are held out decide whether the result is kept.
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
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.problem import PruningState
from keras_robust_prune.methods.repair.repair import Repair
from keras_robust_prune.methods.run import Run
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut
from keras_robust_prune.surgery.embedding import embed
from keras_robust_prune.synthesis.perturbation import radius
from keras_robust_prune.synthesis.probe import ActivationProbe, logit_refs, scores

_BATCH = 64
_WORK = 4e12  # multiplications that training may take
_FEWEST, _MOST = 50, 6000
_RATE, _WARM_UP = 2e-3, 50
_TIMED = 3  # steps from which a time limit is turned into a number of steps


@dataclasses.dataclass(frozen=True)
class Distillation(Repair):
    """Trains the whole pruned network, after the last step, to give the dense one's logits.

    The number of steps decides, never the clock, so a run repeats. Notes `distillation_error_before`,
    `distillation_error_after` (on inputs held out, over the variance of the dense network's logits; lower is better),
    `distillation_kept` (1 if training was kept, which it is where it lowers that error) and `distillation_radius`.

    Attributes:
        num_steps: how many; None lets the network's size decide, 50 to 6,000.
        seconds: about how long it may take: the first steps are timed, and as many are taken as fit. The result then
            depends on the machine and on what else runs there. None for no limit.
        perturb: whether inputs are moved.
    """

    num_steps: int | None = None
    seconds: float | None = None
    perturb: bool = True

    def network(self, run: Run, state: PruningState) -> PruningState:
        """The state with the pruned network distilled, if that helps; as it was without inputs."""
        if not run.reads_inputs:
            return state
        problem, (used, held) = run.problem, run.inputs
        done = distil(
            problem.graph,
            cut(state.graph, problem.groups, state.plan),
            used,
            held,
            run.spaces,
            seed=problem.seed,
            num_steps=self.num_steps,
            seconds=self.seconds,
            verbose=problem.verbose,
            perturb=self.perturb,
        )
        graph = state.graph
        if done.kept:
            graph = embed(graph, done.graph, problem.groups, state.plan)
        metrics = {
            "distillation_error_before": done.error_before,
            "distillation_error_after": done.error_after,
            "distillation_kept": float(done.kept),
            "distillation_radius": done.radius,
        }
        return dataclasses.replace(state, graph=graph, metrics={**state.metrics, **metrics})


@dataclasses.dataclass(frozen=True, eq=False)
class Distilled:
    """What distillation did.

    Attributes:
        graph: the pruned network, better or as it was.
        kept: whether training was kept.
        error_before, error_after: squared logit error on the inputs held out and around them, over
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


def distil(
    dense: Graph,
    pruned: Graph,
    sources: Sequence[Sequence[np.ndarray]],
    held: Sequence[Sequence[np.ndarray]],
    spaces: Sequence[InputSpec],
    seed: int = 0,
    num_steps: int | None = None,
    seconds: float | None = None,
    verbose: int = 0,
    perturb: bool = True,
) -> Distilled:
    """Train the pruned network to give the dense one's logits.

    Args:
        dense: the network to learn from.
        pruned: a smaller network with the same inputs and outputs, physically cut.
        sources: kinds of unlabelled inputs that count alike, however many they are; each one array
            per network input.
        held: the same, of inputs that neither training nor any repair before it has seen: they
            decide whether the result is kept.
        spaces: their ranges.
        seed: of batches and noise.
        num_steps: how many; None lets the network's size decide.
        seconds: about how long it may take; None for no limit. See `Distillation`.
        verbose: 1 prints progress.
        perturb: whether inputs are moved.

    Returns:
        The result, with a decision taken on inputs that training did not see.
    """
    course = _Course(dense, pruned, sources, spaces, perturb, seed)
    before = course.error(held)
    steps = course.train(num_steps or course.num_steps, seconds, verbose)
    after = course.error(held)
    kept = bool(math.isfinite(after) and after < before)
    graph = course.trained() if kept else pruned
    return Distilled(graph, kept, before, after, course.radius, steps)


class _Course:
    """Teacher, student and optimiser of one run."""

    def __init__(
        self,
        dense: Graph,
        pruned: Graph,
        sources: Sequence[Sequence[np.ndarray]],
        spaces: Sequence[InputSpec],
        perturb: bool,
        seed: int,
    ) -> None:
        self.pruned, self.seed = pruned, seed
        self.keras = backends.module(pruned.keras)
        teacher, student = split_activations(dense), split_activations(pruned)
        self.teacher = ActivationProbe(teacher, logit_refs(teacher))
        self.student = ActivationProbe(student, logit_refs(student))
        for layer in self.student.model.layers:
            layer.trainable = True
        self.weights = list(self.student.model.trainable_weights)
        self.spaces = spaces
        first = [np.concatenate([x[:500] for x in same]) for same in zip(*sources, strict=True)]
        logits = self.teacher.run(first)
        self.scales = [float(np.var(z - z.mean(0))) + 1e-12 for z in logits]
        self.radius = radius(self.teacher, first, spaces) if perturb else 0.0
        work = _BATCH * (num_macs(dense) + (6 if perturb else 3) * num_macs(pruned))
        self.num_steps = int(np.clip(_WORK / max(work, 1), _FEWEST, _MOST))
        self.inputs = [np.concatenate(same) for same in zip(*sources, strict=True)]
        self.counts = np.array([len(source[0]) for source in sources])
        self.gradients = backends.tensorflow().function(self._gradients, autograph=False)

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

    def _gradients(self, key: Any, *tensors: Any) -> tuple[Any, list[Any]]:
        """Loss and gradients on one batch, moved first."""
        tf = backends.tensorflow()
        batch: list[Any] = list(tensors)
        if self.radius:
            half = _BATCH // 2
            attacked = self._adversarial([x[:half] for x in batch])
            shaken = self._random([x[half:] for x in batch], key)
            batch = [tf.concat(pair, 0) for pair in zip(attacked, shaken, strict=True)]
        with tf.GradientTape() as tape:
            loss = self._loss(batch)
        return loss, tape.gradient(loss, [_value(weight) for weight in self.weights])

    def batch(self, number: int, rng: np.random.Generator) -> tuple[Any, ...]:
        """What one step is given: the key of its noise, and mixtures of inputs of all kinds."""
        tf = backends.tensorflow()
        starts = np.cumsum(self.counts) - self.counts
        kind = rng.integers(0, len(self.counts), (2, _BATCH))
        rows = starts[kind] + rng.integers(0, self.counts[kind])
        pairs = zip(self.inputs, self.spaces, strict=True)
        mixtures = [tf.constant(mixed(x, rows, space, rng)) for x, space in pairs]
        return (tf.constant([self.seed, number], tf.int32), *mixtures)

    def optimizer(self, num_steps: int) -> Any:
        """Adam, its rate rising for the first steps and then falling to 0 as a cosine."""
        warm = max(min(_WARM_UP, num_steps // 2), 1)
        rate = self.keras.optimizers.schedules.CosineDecay(
            0.0, max(num_steps - warm, 1), warmup_target=_RATE, warmup_steps=warm
        )
        optimizer = self.keras.optimizers.Adam(rate, epsilon=1e-8)
        optimizer.build(self.weights)
        return optimizer

    def train(self, num_steps: int, seconds: float | None, verbose: int) -> int:
        """Take the steps; returns how many."""
        tf = backends.tensorflow()
        if seconds is not None:
            num_steps = self._that_fit(num_steps, seconds)
        optimizer = self.optimizer(num_steps)

        @tf.function(autograph=False)
        def step(*given: Any) -> None:
            _, gradients = self._gradients(*given)
            pairs = zip(gradients, self.weights, strict=True)
            optimizer.apply_gradients([(g, w) for g, w in pairs if g is not None])

        rng = np.random.default_rng([self.seed, 4])
        for number in Progress.over("distillation", range(num_steps), verbose):
            step(*self.batch(number, rng))
        return num_steps

    def _that_fit(self, num_steps: int, seconds: float) -> int:
        """How many steps fit into a time, by the time that some take which change nothing."""
        rng = np.random.default_rng([self.seed, 5])
        began = time.monotonic()
        self.gradients(*self.batch(0, rng))
        compiled = time.monotonic()
        for number in range(_TIMED):
            float(self.gradients(*self.batch(number, rng))[0])
        each = (time.monotonic() - compiled) / _TIMED
        left = seconds - 2 * (compiled - began) - _TIMED * each
        return int(np.clip(left / max(each, 1e-6), 1, num_steps))

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
    x: np.ndarray, rows: np.ndarray, space: InputSpec, rng: np.random.Generator
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
