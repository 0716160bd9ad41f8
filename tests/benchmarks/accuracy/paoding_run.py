"""Prunes one network with paoding-dl: run by `paoding.py`, inside the environment it makes.

Usage: `python paoding_run.py NETWORK.h5 IMAGES.npz TARGET STEP SEED RESULT.json`
"""

import json
import os
import sys
import time

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
from paoding.pruner import Pruner
from paoding.sampler import Sampler
from paoding.utility.option import ModelType, SamplingMode


def main(network: str, data: str, target: str, step: str, seed: str, result: str) -> None:
    """Prune, and write seconds, accuracy before and after, and the units that are left."""
    with np.load(data) as arrays:
        images = (arrays["x_test"] / 255.0).astype("float32")[..., None]
        labels = arrays["y_test"].astype("int64").ravel()
    sampler = Sampler()
    sampler.set_strategy(mode=SamplingMode.STOCHASTIC, params=(0.75, 0.25), recursive_pruning=True)
    pruner = Pruner(
        network,
        (images[:50], labels[:50]),
        target=float(target),
        step=float(step),
        sample_strategy=sampler,
        model_type=ModelType.MNIST,
        seed_val=int(seed),
    )
    pruner.load_model()
    pruner.model.compile(
        optimizer="adam",
        loss=tf.keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    before = np.mean(pruner.model.predict(images, verbose=0).argmax(-1) == labels)
    begin = time.perf_counter()
    pruner.prune_fc()
    seconds = time.perf_counter() - begin
    after = np.mean(pruner.model.predict(images, verbose=0).argmax(-1) == labels)
    dense = [layer for layer in pruner.model.layers if hasattr(layer, "kernel")]
    kept = [int(np.any(layer.kernel.numpy() != 0, axis=1).sum()) for layer in dense[1:]]
    with open(result, "w") as file:
        json.dump(
            {"seconds": seconds, "before": float(before), "after": float(after), "kept": kept},
            file,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
