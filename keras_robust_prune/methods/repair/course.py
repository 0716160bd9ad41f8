"""Training of distillation: dense network, pruned network, batches and optimiser."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_robust_prune import backends, memory
from keras_robust_prune.graph.graph import Graph, Ref
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.adam import Adam, cosine
from keras_robust_prune.keras_io.compiling import compiled, gradients
from keras_robust_prune.keras_io.distributing import Replicas
from keras_robust_prune.layers.splitting import split_activations, split_strides
from keras_robust_prune.methods.stages import Stage, Stages
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.surgery.costs import num_macs, work_of
from keras_robust_prune.synthesis.perturbation import radius
from keras_robust_prune.synthesis.pictures import Draw
from keras_robust_prune.synthesis.probe import ActivationProbe, bytes_per_input, logit_refs, scores

_BATCH, _RATE = 64, 2e-3
_LARGE_BATCH, _LARGE_RATE = 32, 1e-4  # where inputs stay where they are
_LARGE_WORK, _LARGE_FEWEST, _LARGE_MOST = 4e13, 40, 200
_REPEATS = 2  # how often a batch whose dense answers are known comes again
_MOST_ANSWERED = 128  # batches whose answers are remembered
_WORK = 5e12  # multiplications that training may take
_FEWEST, _MOST = 50, 6000
_WARM_UP = 50  # steps
_IN_TRAINING = 3.0  # times its tensors that one input of a step takes, with their gradients
_TIMED = 3  # steps from which a time limit is turned into a number of steps


def cost_of(graph: Graph, perturb: bool) -> float:
    """What a network costs on one input where steps are counted.

    Multiplications; where inputs are moved, `work_of`, by which a small separable network trains for minutes and not
    for half an hour.
    """
    return work_of(graph) if perturb else num_macs(graph)


def usual_steps(dense: float, pruned: float, perturb: bool) -> int:
    """How many steps are taken unless a number or a time is given.

    Args:
        dense: the dense network's `cost_of`.
        pruned: the pruned one's.
        perturb: whether inputs are moved.

    Example:
        >>> usual_steps(4e7, 2e7, True), usual_steps(1e5, 5e4, True)
        (488, 6000)
        >>> usual_steps(4e8, 3e8, False), usual_steps(1.5e10, 8e9, False)
        (200, 40)
    """
    if perturb:
        work = _BATCH * (dense + 6 * pruned)
        return int(np.clip(_WORK / max(work, 1), _FEWEST, _MOST))
    work = _LARGE_BATCH * (dense + 3 * pruned)
    return int(np.clip(_LARGE_WORK / max(work, 1), _LARGE_FEWEST, _LARGE_MOST))


def batch_passes(share: float, perturb: bool) -> tuple[float, float]:
    """Passes of the dense network that one step takes: forward, and with their gradient.

    A gradient to the weights takes as long again as one to the inputs, which is two such passes less one forward: what
    is taken off forward passes is never more than the gradients hold.

    Args:
        share: the pruned network's multiplications over the dense one's.
        perturb: whether inputs are moved.

    Example:
        >>> batch_passes(0.5, True), batch_passes(0.5, False)
        ((64.0, 80.0), (0.0, 32.0))
    """
    if perturb:
        return _BATCH * (1.5 - share), _BATCH * 2.5 * share
    return _LARGE_BATCH * (1 / _REPEATS - share), _LARGE_BATCH * 2.0 * share


class LastMap(NamedTuple):
    """The last tensor with positions before they are pooled.

    Attributes:
        ref: where it is, in both networks.
        kept: channels of the dense network's that the pruned one has, ascending.
    """

    ref: Ref
    kept: np.ndarray


class Course:
    """Dense network (teacher), pruned network (student), batches and optimiser of one run."""

    def __init__(
        self,
        dense: Graph,
        pruned: Graph,
        sources: Sequence[Sequence[np.ndarray]],
        spaces: Sequence[InputSpec],
        perturb: bool,
        seed: int,
        shares: Sequence[float] = (),
        last: LastMap | None = None,
        strategy: Any = None,
        draws: Sequence[Draw | None] = (),
    ) -> None:
        self.pruned, self.seed = pruned, seed
        self.replicas = Replicas(strategy)
        teacher, student = (split_strides(split_activations(graph)) for graph in (dense, pruned))
        self.kept = None if last is None else last.kept
        extra = () if last is None else (last.ref,)
        with self.replicas.scope():
            self.teacher = ActivationProbe(teacher, [*logit_refs(teacher), *extra])
            refs = [*logit_refs(student), *extra]
            self.student = ActivationProbe(student, refs, differentiated=True)
        self.num_logits = len(self.teacher.refs) - len(extra)
        for layer in self.student.model.layers:
            layer.trainable = True
        self.weights = [_value(weight) for weight in self.student.model.trainable_weights]
        self.spaces = spaces
        first = [np.concatenate([x[:500] for x in same]) for same in zip(*sources, strict=True)]
        self.batch_size = self.replicas.even(_batch_size(self.student.graph, perturb))
        self.rate = _RATE if perturb else _LARGE_RATE
        self.scales = self._scales(first)
        self.radius = 0.0
        if perturb:
            self.radius = radius(ActivationProbe(teacher, logit_refs(teacher)), first, spaces)
        steps = usual_steps(cost_of(dense, perturb), cost_of(pruned, perturb), perturb)
        # A batch that memory makes smaller takes more steps: as many inputs are seen.
        self.num_steps = math.ceil(steps * _usual_batch(perturb) / self.batch_size)
        weight = np.maximum(np.asarray(shares or [1.0] * len(sources), float), 1e-3)
        self.shares = weight / weight.sum()
        self.draws = () if perturb else draws
        self.answers: dict[int, list[np.ndarray]] = {}
        self.inputs = [np.concatenate(same) for same in zip(*sources, strict=True)]
        self.counts = np.array([len(source[0]) for source in sources])
        self.gradients = compiled(lambda *given: self.replicas.run(self._gradients, given))
        self.asked = compiled(lambda *x: self._targets(list(x)))
        self.attacked = compiled(lambda *x: self._adversarial(list(x)))

    def _targets(self, tensors: Sequence[Any]) -> list[Any]:
        """The dense network's answers: logits, and of its last map the channels that the pruned network has."""
        found = self.teacher(tensors)
        if self.kept is not None:
            found[-1] = backends.tensorflow().gather(found[-1], self.kept, axis=-1)
        return found

    def _scales(self, inputs: Sequence[np.ndarray]) -> list[float]:
        """The variance of each answer, the unit of its error."""
        tf = backends.tensorflow()
        size = self.teacher.batch_size()
        parts = [
            [np.asarray(z) for z in self._targets([tf.constant(x[k : k + size]) for x in inputs])]
            for k in range(0, len(inputs[0]), size)
        ]
        found = []
        for column in zip(*parts, strict=True):
            mean = np.mean([z.mean(0) for z in column], axis=0)
            square = np.mean([np.square(z - mean).mean() for z in column])
            found.append(float(square) + 1e-12)
        return found

    def _loss(self, tensors: Sequence[Any], targets: Sequence[Any] | None = None) -> Any:
        """Squared errors over the answers' variances; answers are asked for unless they are known."""
        tf = backends.tensorflow()
        if targets is None:
            targets = self._targets(tensors)
        pairs = zip(self.student(tensors), targets, self.scales, strict=True)
        return tf.add_n([tf.reduce_mean(tf.square(a - b)) / scale for a, b, scale in pairs])

    def _adversarial(self, tensors: Sequence[Any]) -> list[Any]:
        """One step of the gradient's sign against the student's agreement with the teacher."""
        tf = backends.tensorflow()
        labels = [tf.argmax(scores(z), -1) for z in self.teacher(tensors)[: self.num_logits]]
        found = [scores(z) for z in self.student(tensors)[: self.num_logits]]
        loss = tf.add_n(
            [
                tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(label, score))
                for label, score in zip(labels, found, strict=True)
            ]
        )
        signs = [None if g is None else tf.sign(g) for g in gradients(loss, tensors, "none")]
        return self._moved(tensors, signs)

    def _random(self, tensors: Sequence[Any], key: Any) -> list[Any]:
        tf = backends.tensorflow()
        number, count = self.replicas.mine()
        noise = [
            tf.random.stateless_uniform((count * x.shape[0], *x.shape[1:]), key, -1.0, 1.0)
            for x in tensors
        ]
        noise = [x[number::count] for x in noise]
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
        """Loss and gradients on one batch: moved first, or followed by its known answers."""
        tf = backends.tensorflow()
        batch: list[Any] = list(tensors[: len(self.spaces)])
        targets: Sequence[Any] | None = tensors[len(self.spaces) :] or None
        if self.radius:
            half = batch[0].shape[0] // 2
            attacked = self._adversarial([x[:half] for x in batch])
            shaken = self._random([x[half:] for x in batch], key)
            batch = [tf.concat(pair, 0) for pair in zip(attacked, shaken, strict=True)]
        loss = self._loss(batch, targets) / self.replicas.count
        found = gradients(loss, self.weights)
        return loss, [tf.convert_to_tensor(gradient) for gradient in found]

    def batch(self, number: int, num_steps: int) -> tuple[Any, ...]:
        """What one step is given: the key of its noise, mixtures of inputs of all kinds, and their answers if known.

        Where inputs stay where they are, batches come again, and only the first time the dense network is asked.
        """
        tf = backends.tensorflow()
        if not self.radius:
            number %= min(math.ceil(num_steps / _REPEATS), _MOST_ANSWERED)
        rng = np.random.default_rng([self.seed, 4, number])
        starts = np.cumsum(self.counts) - self.counts
        kind = rng.choice(len(self.counts), (2, self.batch_size), p=self.shares)
        rows = starts[kind] + rng.integers(0, self.counts[kind])
        pairs = zip(self.inputs, self.spaces, strict=True)
        found = [(self._drawn(x[rows], kind, space, rng), space) for x, space in pairs]
        mixtures = [tf.constant(mixed(x, space, rng)) for x, space in found]
        key = tf.constant([self.seed, number], tf.int32)
        if self.radius:
            return (key, *self.replicas.shards(mixtures))
        if number not in self.answers:
            self.answers[number] = [np.asarray(z, np.float16) for z in self.asked(*mixtures)]
        known = [tf.constant(z, tf.float32) for z in self.answers[number]]
        return (key, *self.replicas.shards([*mixtures, *known]))

    def _drawn(
        self, x: np.ndarray, kind: np.ndarray, space: InputSpec, rng: np.random.Generator
    ) -> np.ndarray:
        """Inputs of given kinds, those of which there are always more drawn anew."""
        for index, draw in enumerate(self.draws):
            if draw is not None:
                x[kind == index] = space.raw(draw(space, int((kind == index).sum()), rng))
        return x

    def rate_of(self, number: int, num_steps: int) -> float:
        """The rate of a step: rising for the first, then falling to 0 as a cosine."""
        warm = max(min(_WARM_UP, num_steps // 2), 1)
        return cosine(number, num_steps, self.rate, warm=warm)

    def stepper(self, adam: Adam) -> Callable[[int, int], None]:
        """One step, compiled, given its number and how many there are."""
        tf = backends.tensorflow()

        def on_all(rate: Any, number: Any, *given: Any) -> None:
            _, found = self.replicas.run(self._gradients, given)
            adam.apply(found, rate, number)

        taken = compiled(on_all)

        def step(number: int, num_steps: int) -> None:
            rate = tf.constant(self.rate_of(number, num_steps), tf.float32)
            taken(rate, tf.constant(number), *self.batch(number, num_steps))

        return step

    def train(self, wanted: int | None, seconds: float | None, verbose: int, stages: Stages) -> int:
        """Take as many steps as are wanted, or as fit into a time, or else as the network's size asks for.

        Those that an interrupted run had taken are not taken again. Returns how many there are.
        """
        stage, num_steps = stages.get("distillation"), wanted or self.num_steps
        if stage is not None:
            num_steps = stage.said["num_steps"]
        elif seconds is not None:
            num_steps = min(self._that_fit(seconds), wanted or _MOST)
        adam = Adam(self.weights, self.replicas)
        variables = [*self.weights, *adam.slots]
        if stage is not None:
            self.assign(variables, [stage.arrays[str(k)] for k in range(len(variables))])
        begin = 0 if stage is None else stage.said["done"]
        step = self.stepper(adam)
        for number in Progress.over("distillation", range(begin, num_steps), verbose):
            step(number, num_steps)
            if stages.due:
                found = {str(k): np.array(v) for k, v in enumerate(variables)}
                stages.put(
                    "distillation", Stage({"done": number + 1, "num_steps": num_steps}, found)
                )
        return num_steps

    def _that_fit(self, seconds: float) -> int:
        """How many steps fit into a time, at most 6,000, by the time that some take which change nothing."""
        began = time.monotonic()
        self.gradients(*self.batch(0, _MOST))
        traced = time.monotonic()
        for number in range(1, 1 + _TIMED):
            float(self.replicas.local(self.gradients(*self.batch(number, _MOST))[0]))
        each = (time.monotonic() - traced) / _TIMED
        left = seconds - 2 * (traced - began) - _TIMED * each
        return int(np.clip(left / max(each, 1e-6), 1, _MOST))

    def errors(self, sources: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """Per kind the mean squared error over the answers' variance, on inputs and around them."""
        return np.array([self._error(inputs) for inputs in sources])

    def _error(self, inputs: Sequence[np.ndarray]) -> float:
        tf = backends.tensorflow()
        losses, size = [], self.teacher.batch_size()
        for k in range(0, len(inputs[0]), size):
            part = [tf.constant(x[k : k + size]) for x in inputs]
            losses.append(float(self._loss(part)))
            if self.radius:
                losses.append(float(self._loss(self.attacked(*part))))
        return float(np.mean(losses))

    def values(self) -> list[np.ndarray]:
        """The student's weights."""
        return [np.array(weight) for weight in self.weights]

    def set(self, values: Sequence[np.ndarray]) -> None:
        """Give the student weights."""
        self.assign(self.weights, values)

    def assign(self, variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
        """Give variables their values, on every replica."""
        with self.replicas.scope():
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def trained(self) -> Graph:
        """The student's weights in the graph it was built from."""
        found = self.student.weights().items()
        return self.pruned.with_weights(
            {key: value for key, value in found if key[0] in self.pruned.layers}
        )


def mixed(x: np.ndarray, space: InputSpec, rng: np.random.Generator) -> np.ndarray:
    """A batch of mixtures of two inputs: a few hundred would be overfitted, mixtures are many more.

    Args:
        x: what is mixed, `(2, batch, *shape)`; of each mixture the first makes up at least half.
        space: what an input may be; tokens stay as they are.
        rng: of the shares.
    """
    one, other = x
    if space.num_tokens:
        return one
    share = rng.uniform(0.5, 1.0, (len(one),) + (1,) * (one.ndim - 1)).astype(one.dtype)
    return share * one + (1 - share) * other


def _batch_size(student: Graph, perturb: bool) -> int:
    """Inputs of one step: the usual number, or as many as there is memory for."""
    held = memory.most(memory.TRAINING) / (_IN_TRAINING * bytes_per_input(student))
    return int(np.clip(held, 2, _usual_batch(perturb)))


def _usual_batch(perturb: bool) -> int:
    return _BATCH if perturb else _LARGE_BATCH


def _value(variable: Any) -> Any:
    """The TensorFlow variable of a Keras variable."""
    return getattr(variable, "value", variable) if hasattr(variable, "_value") else variable
