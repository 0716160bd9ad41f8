"""Two logical devices of this machine's processor beside one: `fit`, synthesis, moments, distillation, evaluation.

    python -m tests.two_devices --keras=keras --steps=300

Prints what differs, and what a step of distillation takes on one device and spread over two, as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import tensorflow as tf
from networks import network, randomise, wrapped

import keras_robust_prune as krp
from keras_robust_prune import backends, demo
from keras_robust_prune.keras_io.adam import Adam
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.repair import consumers
from keras_robust_prune.methods.repair.course import Course
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.repair.moments import measure
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.kinds import Synthesis
from keras_robust_prune.synthesis.synthesis import synthetic_inputs

FEW = Synthesis(num_inputs=64)
BLOCKS = 5


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


def distilled(model: Any, strategy: Any) -> krp.PruningResult:
    """A pruned network, a few steps of distillation behind it."""
    method = krp.Robust(repair=(LeastSquares(), Distillation(num_steps=20)), synthesis=FEW)
    return krp.prune(model, 0.5, method=method, strategy=strategy, verbose=0)


def paces(model: Any, strategies: Mapping[str, Any], steps: int) -> dict[str, float]:
    """Milliseconds per step of distillation, the median of blocks taken in turns."""
    graph = read(model)
    inputs, specs = synthetic_inputs(graph, (0.0, 1.0), 128).arrays, input_specs(graph, (0.0, 1.0))
    steppers, taken = {}, defaultdict(list)
    for name, strategy in strategies.items():
        course = Course(graph, graph, [inputs], specs, True, 0, strategy=strategy)
        steppers[name] = course.stepper(Adam(course.weights, course.replicas))
        steppers[name](0, steps)
    for _ in range(BLOCKS):
        for name, step in steppers.items():
            begun, spent = time.perf_counter(), time.process_time()
            for number in range(1, 1 + steps):
                step(number, steps)
            taken[f"ms of the processor, {name}"].append(time.process_time() - spent)
            taken[f"ms, {name}"].append(time.perf_counter() - begun)
    return {name: 1000 * float(np.median(values)) / steps for name, values in taken.items()}


def synthesised(model: Any, count: int, strategy: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inverted inputs, and the second moments of the last consumer on them."""
    graph = read(model)
    split = split_activations(graph)
    (inputs,) = synthetic_inputs(graph, (0.0, 1.0), count, strategy=strategy).arrays
    name = consumers.solvable(split, find_groups(split).groups)[-1]
    moments = measure(split, split, name, [[inputs[:64]]], strategy=strategy)
    return inputs, moments.gram


def pictures(keras: str) -> Any:
    """A network of pictures that are large enough for windows."""
    module = backends.module(keras)
    layers = [module.Input((96, 96, 3)), module.layers.Conv2D(4, 5, strides=8, name="c")]
    layers += [module.layers.BatchNormalization(name="b"), module.layers.ReLU(name="r")]
    layers += [module.layers.Conv2D(4, 3, name="d"), module.layers.GlobalMaxPooling2D(name="p")]
    return randomise(module.Sequential([*layers, module.layers.Dense(3, name="last")]))


def apart(one: Any, two: Any) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))


def compared(keras: str, steps: int) -> dict[str, Any]:
    """What differs between one device and two, and what a step takes."""
    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    alone, spread = fitted(keras, tf.distribute.get_strategy()), fitted(keras, both)
    found: dict[str, Any] = {
        "replicas": both.num_replicas_in_sync,
        "masked": int(sum((mask == 0).sum() for mask in alone[0])),
        "masks": apart(alone[0], spread[0]),
        "weights": apart(alone[1], spread[1]),
    }
    model = network("conv_bn", keras)
    found |= paces(model, {"one": None, "two": both}, steps)
    one_result, two_result = (distilled(model, strategy) for strategy in (None, both))
    # Three batches, of which two go at once, and one batch of large pictures.
    cases = [(network("mlp", keras), 501), (model, 501), (pictures(keras), 3)]
    pairs = [[synthesised(*case, s) for s in (None, both)] for case in cases]
    found["synthesised"] = [apart(one[0], two[0]) for one, two in pairs]
    found["moments"] = [apart(one[1], two[1]) for one, two in pairs]
    digits, x, y = demo.load()
    given = {"attacks": ["pgd@0.1", "fgsm@0.1"], "verbose": 0}
    alone, spread = (
        krp.evaluate(digits, x[:101], y[:101], strategy=s, **given) for s in (None, both)
    )
    found["evaluated"] = [alone.accuracy, alone["pgd@0.1"], alone["fgsm@0.1"]]
    found["evaluated spread"] = [spread.accuracy, spread["pgd@0.1"], spread["fgsm@0.1"]]
    found["plans"] = one_result.plan.to_json() == two_result.plan.to_json()
    found["distilled"] = apart(one_result.model.get_weights(), two_result.model.get_weights())
    found["kept"] = one_result.history["distillation_kept"][-1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keras", default="tf_keras")
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    (processor,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, two)
    print(json.dumps(compared(args.keras, args.steps)))


if __name__ == "__main__":
    main()
