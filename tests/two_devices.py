"""Two logical devices of this machine's processor beside one: `RobustPruning` in `fit`, and distillation.

    python -m tests.two_devices --keras=keras --steps=300

Prints what differs, and what a step of distillation takes on one device and spread over two, as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import tensorflow as tf
from networks import network, wrapped

import keras_robust_prune as krp
from keras_robust_prune import demo
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.synthesis.kinds import Synthesis

FEW = Synthesis(num_inputs=64)


def fitted(keras: str, strategy: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Masks and weights after a `fit` that prunes in its second epoch."""
    model, x, y = wrapped(strategy, keras, 64)
    few = krp.Robust(repair="reconstruct", synthesis=FEW)
    pruning = krp.RobustPruning(0.5, begin=1, end=1, method=few)
    model.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0, callbacks=[pruning])
    masks = [
        np.asarray(layer.mask.numpy())
        for layer in model.layers
        if hasattr(layer, "mask_is_scheduled")
    ]
    return masks, list(model.get_weights())


def distilled(model: Any, strategy: Any, steps: int) -> tuple[krp.PruningResult, float]:
    """A pruned network, and the seconds that the processor spent on it."""
    method = krp.Robust(repair=(LeastSquares(), Distillation(num_steps=steps)), synthesis=FEW)
    begin = time.process_time()
    result = krp.prune(model, 0.5, method=method, strategy=strategy, verbose=0)
    return result, time.process_time() - begin


def apart(one: Any, two: Any) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))


def compared(keras: str, steps: int) -> dict[str, Any]:
    """What differs between one device and two, and CPU seconds per step."""
    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    alone, spread = fitted(keras, tf.distribute.get_strategy()), fitted(keras, both)
    found: dict[str, Any] = {
        "replicas": both.num_replicas_in_sync,
        "masked": int(sum((mask == 0).sum() for mask in alone[0])),
        "masks": apart(alone[0], spread[0]),
        "weights": apart(alone[1], spread[1]),
    }
    model = network("conv_bn", keras)
    for name, strategy in (("one", None), ("two", both)):
        (_, short), (result, long) = (distilled(model, strategy, n) for n in (1, 1 + steps))
        found[f"CPU seconds per step, {name}"] = (long - short) / steps
        found[name] = result
    one, two = found.pop("one"), found.pop("two")
    digits, x, y = demo.load()
    given = {"attacks": ["pgd@0.1", "fgsm@0.1"], "verbose": 0}
    alone, spread = (
        krp.evaluate(digits, x[:101], y[:101], strategy=s, **given) for s in (None, both)
    )
    found["evaluated"] = [alone.accuracy, alone["pgd@0.1"], alone["fgsm@0.1"]]
    found["evaluated spread"] = [spread.accuracy, spread["pgd@0.1"], spread["fgsm@0.1"]]
    found["plans"] = one.plan.to_json() == two.plan.to_json()
    found["distilled"] = apart(one.model.get_weights(), two.model.get_weights())
    found["kept"] = one.history["distillation_kept"][-1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keras", default="tf_keras")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    (processor,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, two)
    print(json.dumps(compared(args.keras, args.steps)))


if __name__ == "__main__":
    main()
