"""AutoAttack of the adversarial-robustness-toolbox (ART), which the extra `attacks` installs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.evaluation.ascent import LOSSES
from keras_robust_prune.evaluation.subjects import Scorer
from keras_robust_prune.evaluation.threat import Threat


def autoattack(
    scorer: Scorer, x: np.ndarray, labels: np.ndarray, threat: Threat, *, steps: int, seed: int
) -> np.ndarray:
    """ART's Auto-PGD on log-odds and (from 3 classes on) on the logits' ratio, DeepFool, and for images its Square.

    Args:
        scorer: the function that is attacked.
        x: inputs, `(num_inputs, num_features)`.
        labels: right classes, `(num_inputs,)`.
        threat: the ball.
        steps: steps of Auto-PGD and DeepFool.
        seed: of everything drawn. ART draws from NumPy's global generator, which is put back afterwards.

    Returns:
        Points of the ball, same shape as `x`.

    Raises:
        ImportError: ART is missing.

    Reference:
        [Nicolae et al., 2018](https://arxiv.org/abs/1807.01069) and [Croce & Hein,
        2020](https://arxiv.org/abs/2003.01690), whose FAB is DeepFool here and whose targeted attacks ART leaves out.
    """
    try:
        from art.attacks import evasion
    except ImportError as error:
        raise ImportError(
            "'autoattack' needs the adversarial-robustness-toolbox. Install it with: pip install"
            " 'keras-robust-prune[attacks]'"
        ) from error
    if not len(x):
        return x.copy()
    shape = threat.shape
    inner = (x / threat.scale).reshape(-1, *shape).astype(np.float32)
    ends = [(bound / threat.scale).reshape(shape) for bound in (threat.lower, threat.upper)]
    norm = np.inf if threat.norm == "linf" else 2
    eps = float(threat.eps)
    losses = ["ce", "dlr"] if scorer.head.num_classes > 2 else ["ce"]
    estimators = [_estimator(scorer, threat, loss, ends) for loss in losses]
    common = {"norm": norm, "eps": eps, "eps_step": 2 * eps, "batch_size": scorer.batch_size}
    attacks = [
        evasion.AutoProjectedGradientDescent(
            estimator, max_iter=steps, nb_random_init=5, loss_type=None, verbose=False, **common
        )
        for estimator in estimators
    ]
    first = estimators[0]
    attacks.append(
        evasion.DeepFool(
            first, max_iter=steps, epsilon=1e-3, batch_size=scorer.batch_size, verbose=False
        )
    )
    if len(shape) == 3 and shape[-1] in (1, 3):
        attacks.append(
            evasion.SquareAttack(first, norm=norm, eps=eps, max_iter=50 * steps, verbose=False)
        )
    one_hot = np.eye(scorer.head.num_classes, dtype=np.float32)[labels]
    with _seeded(seed):
        found = evasion.AutoAttack(first, attacks=attacks, **common).generate(inner, one_hot)
    return threat.clip(x, found.reshape(x.shape) * threat.scale)


def _estimator(scorer: Scorer, threat: Threat, loss: str, ends: list[np.ndarray]) -> Any:
    """What ART attacks: a classifier whose outputs are logits."""
    from art.estimators.classification import TensorFlowV2Classifier

    tf = backends.tensorflow()

    class Estimator(TensorFlowV2Classifier):
        """ART's own `compute_loss` asks for parts of Keras 2 that Keras 3 lacks."""

        def compute_loss(self, x: Any, y: Any, reduction: str = "none", **_: Any) -> np.ndarray:
            return np.asarray(losses(y, self.model(tf.convert_to_tensor(x))))

    def losses(one_hot: Any, logits: Any) -> Any:
        return LOSSES[loss](logits, tf.argmax(one_hot, 1, tf.int32))

    @tf.function(reduce_retracing=True, autograph=False)
    def logits(x: Any, training: bool = False) -> Any:
        rows = tf.reshape(x, (-1, scorer.subject.layout.num_features))
        return scorer.tensor(tf.cast(rows, tf.float32) * threat.scale)

    return Estimator(
        model=logits,
        nb_classes=scorer.head.num_classes,
        input_shape=threat.shape,
        loss_object=losses,
        clip_values=(ends[0], ends[1]),
    )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """NumPy's and Python's global generators set, and put back."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
