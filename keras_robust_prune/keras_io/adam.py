"""Adam by TensorFlow's own kernel, on one device or on every replica of a strategy.

The optimizers of tf_keras and Keras 3 sum gradients through a custom gradient, which TensorFlow registers by a new name
with every compiled step and never forgets, and the step's graph with it: megabytes with every run of a long process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.keras_io.distributing import Replicas

BETA_1, EPSILON = 0.9, 1e-8
_NUMBERS = ("beta1_power", "beta2_power", "lr", "beta1", "beta2", "epsilon")  # of the kernel


class Adam:
    """Moments of gradients, and the step that they give.

    Args:
        variables: TensorFlow's, made within the scope of the replicas.
        replicas: on which the gradients are.
        beta_2: by which the second moment decays.

    Attributes:
        slots: per variable the two moments, one variable after the other.

    Reference:
        [Kingma and Ba, 2015](https://arxiv.org/abs/1412.6980), with the epsilon of their section 2's last paragraph.
    """

    def __init__(self, variables: Sequence[Any], replicas: Replicas, beta_2: float = 0.999) -> None:
        tf = backends.tensorflow()
        self._variables, self._replicas, self._beta_2 = list(variables), replicas, beta_2
        with replicas.scope():
            self.slots = [tf.Variable(tf.zeros_like(v)) for v in self._variables for _ in range(2)]

    def apply(self, gradients: Sequence[Any], rate: Any, number: Any) -> None:
        """Takes a step, within a `tf.function`.

        Args:
            gradients: one per variable, as each replica has them; they are summed.
            rate: the step's, a scalar tensor.
            number: of the step, from 0, a scalar tensor.
        """
        tf = backends.tensorflow()
        done = tf.cast(number, tf.float32) + 1.0
        powers = [tf.pow(beta, done) for beta in (BETA_1, self._beta_2)]

        def move(variable: Any, m: Any, v: Any, gradient: Any) -> None:
            numbers = (*powers, rate, BETA_1, self._beta_2, EPSILON)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m.handle,
                v=v.handle,
                grad=gradient,
                **dict(zip(_NUMBERS, (tf.cast(x, variable.dtype) for x in numbers), strict=True)),
            )

        pairs = zip(self._variables, self.slots[::2], self.slots[1::2], strict=True)
        self._replicas.update(move, list(pairs), gradients)


def stepped(
    value: Any, gradient: Any, slot: tuple[Any, Any], rate: Any, number: Any, beta_2: float
) -> tuple[Any, tuple[Any, Any]]:
    """A tensor and its two moments after a step of the same, where no variable is to be kept.

    Args:
        value: the tensor.
        gradient: of it.
        slot: its moments so far, at first zeros.
        rate: the step's.
        number: of the step, from 0.
        beta_2: by which the second moment decays.
    """
    tf = backends.tensorflow()
    done = tf.cast(number, tf.float32) + 1.0
    m = BETA_1 * slot[0] + (1 - BETA_1) * gradient
    v = beta_2 * slot[1] + (1 - beta_2) * tf.square(gradient)
    rate *= tf.sqrt(1 - tf.pow(beta_2, done)) / (1 - tf.pow(BETA_1, done))
    return value - rate * m / (tf.sqrt(v) + EPSILON), (m, v)


def cosine(number: int, num_steps: int, peak: float, last: float = 0.0, warm: int = 0) -> float:
    """The rate of a step: rising for the first, then falling as a cosine.

    Args:
        number: of the step, from 0.
        num_steps: how many there are.
        peak: the greatest rate.
        last: what it falls to.
        warm: how many steps it rises for, from 0.

    Example:
        >>> [round(cosine(k, 8, 1.0, warm=4), 3) for k in range(9)]
        [0.0, 0.25, 0.5, 0.75, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if number < warm:
        return peak * number / warm
    share = (number - warm) / max(num_steps - warm, 1)
    return last + (peak - last) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
