"""Metadata is read back by a reader of this file's own, by the published numbers of the schema's fields."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers import number_types, table

from keras_robust_prune import backends
from keras_robust_prune.exporting.metadata import (
    Metadata,
    mediapipe_problems,
    normalization,
    with_metadata,
)
from keras_robust_prune.exporting.tflite import export, export_tflite

LABELS = ("cat", "dog", "bird", "fish")


class Read:
    """A table of a flatbuffer; fields are asked for by their number in `metadata_schema.fbs`."""

    def __init__(self, data: bytes, place: int) -> None:
        self.table = table.Table(bytearray(data), place)

    @classmethod
    def root(cls, data: bytes) -> Read:
        assert data[4:8] == b"M001"
        return cls(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))

    def at(self, field: int) -> int:
        place = self.table.Offset(4 + 2 * field)
        return place + self.table.Pos if place else 0

    def text(self, field: int) -> str:
        return self.table.String(self.at(field)).decode() if self.at(field) else ""

    def number(self, field: int, kind: Any = number_types.Uint8Flags) -> Any:
        return self.table.Get(kind, self.at(field)) if self.at(field) else 0

    def child(self, field: int) -> Read:
        return Read(bytes(self.table.Bytes), self.table.Indirect(self.at(field)))

    def children(self, field: int) -> list[Read]:
        if not self.at(field):
            return []
        offset = self.at(field) - self.table.Pos
        start, count = self.table.Vector(offset), self.table.VectorLen(offset)
        data = bytes(self.table.Bytes)
        return [Read(data, self.table.Indirect(start + 4 * k)) for k in range(count)]

    def floats(self, field: int) -> list[float]:
        offset = self.at(field) - self.table.Pos
        found = self.table.GetVectorAsNumpy(
            number_types.Float32Flags, self.at(field) - self.table.Pos
        )
        assert self.table.VectorLen(offset) == len(found)
        return [float(value) for value in found]


def pictures(keras: str = "tf_keras", activation: str | None = "softmax") -> Any:
    module = backends.module(keras)
    module.utils.set_random_seed(0)
    layers = module.layers
    given = module.Input((8, 6, 3), name="photo")
    found = layers.Conv2D(4, 3, activation="relu")(given)
    found = layers.Dense(4, activation, name="kinds")(layers.Flatten()(found))
    return module.Model(given, found, name="zoo")


def metadata_of(content: bytes) -> Read:
    model = backends.file_schema().ModelT.InitFromPackedBuf(content, 0)
    (entry,) = (item for item in model.metadata if item.name == b"TFLITE_METADATA")
    return Read.root(bytes(model.buffers[entry.buffer].data))


def test_everything_is_read_back(tmp_path: Path) -> None:
    said = Metadata("zoo", "which animal", LABELS, "1.2", "me", "Apache-2.0")
    path = tmp_path / "zoo.tflite"
    names = {"photo": "image", "kinds": "probabilities"}
    report = export_tflite(pictures(), path, metadata=said, names=names, input_range=(-1, 1))
    content = path.read_bytes()
    root = metadata_of(content)
    found = {name: root.text(field) for name, field in
             (("name", 0), ("description", 1), ("version", 2), ("author", 4), ("license", 5))}  # fmt: skip
    assert found == {"name": "zoo", "description": "which animal", "version": "1.2", "author": "me",
                     "license": "Apache-2.0"}  # fmt: skip
    (graph,) = root.children(3)
    (given,), (scores,) = graph.children(2), graph.children(3)
    assert (given.text(0), scores.text(0), scores.text(1)) == (
        "image",
        "probabilities",
        "probability",
    )
    picture = given.child(3)
    assert picture.number(0) == 2  # ImageProperties
    assert picture.child(1).number(0) == 1  # RGB
    size = picture.child(1).child(1)
    assert [size.number(k, number_types.Uint32Flags) for k in (0, 1)] == [6, 8]  # width, height
    (unit,) = given.children(4)
    assert unit.number(0) == 1  # NormalizationOptions
    assert [unit.child(1).floats(k) for k in (0, 1)] == [[127.5] * 3, [127.5] * 3]
    (labels,) = scores.children(6)
    assert (labels.text(0), labels.number(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.read("labels.txt").decode().split() == list(LABELS)
    assert report.description is not None
    assert [p.name for p in (*report.description.inputs, *report.description.outputs)] == [
        "image",
        "probabilities",
    ]
    assert report.mediapipe == ()
    assert "takes it as an image classifier" in str(report)


@pytest.mark.parametrize("maker", ["litert", "tensorflow"])
@pytest.mark.parametrize("way", ["float32", "int8"])
def test_files_compute_the_same_with_and_without(way: str, maker: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"calibration": "weights"} if way == "int8" else {}
    (plain,) = export(pictures(), tmp_path / "a.tflite", way, min_agreement=0, **options)
    said = with_metadata(Path(plain.path).read_bytes(), Metadata("zoo", labels=LABELS))
    outputs = []
    for content in (Path(plain.path).read_bytes(), said):
        if maker == "litert":
            interpreter = backends.interpreter(content)
        else:
            interpreter = backends.tensorflow().lite.Interpreter(model_content=content)
        interpreter.allocate_tensors()
        (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
        rng = np.random.default_rng(0)
        x = rng.integers(0, 100, given["shape"]).astype(given["dtype"])
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(found["index"]).copy())
    np.testing.assert_array_equal(*outputs)
    assert len(np.unique(outputs[0])) > 1


def test_weights_stay_aligned(tmp_path: Path) -> None:
    """Packed by the generated code alone they begin anywhere, and some processors read them slowly or not at all."""
    export_tflite(pictures(), tmp_path / "a.tflite", metadata=Metadata("z" * 13))
    content = (tmp_path / "a.tflite").read_bytes()
    schema = backends.file_schema()
    model = schema.Model.GetRootAs(content, 0)
    starts = []
    for index in range(model.BuffersLength()):
        if model.Buffers(index).DataLength():
            offset = model.Buffers(index)._tab.Offset(4)
            starts.append(model.Buffers(index)._tab.Vector(offset))
    assert len(starts) >= 4
    assert [start % 16 for start in starts] == [0] * len(starts)
    assert backends.pack_file(schema.ModelT.InitFromPackedBuf(content, 0))[4:8] == b"TFL3"


def test_a_network_that_scales_by_itself_takes_pixels() -> None:
    assert normalization(np.zeros(3), np.full(3, 255.0)) == ([0.0] * 3, [1.0] * 3)
    assert normalization(np.zeros(1), np.ones(1)) == ([0.0], [255.0])


def test_what_mediapipe_does_not_take_is_said_by_name(tmp_path: Path) -> None:
    said = Metadata("zoo", labels=LABELS)
    (report,) = export(
        pictures(activation=None), tmp_path / "a.tflite", "int8", calibration="weights",
        metadata=Metadata("zoo", score="logit"), min_agreement=0,
    )  # fmt: skip
    assert report.mediapipe is not None
    text = " ".join(report.mediapipe)
    for part in ("'photo' is int8", "'kinds' is int8", "labels", "softmax=True"):
        assert part in text
    (soft,) = export(pictures(activation=None), tmp_path / "b.tflite", metadata=said, softmax=True)
    assert soft.mediapipe == ()
    assert soft.ops["SOFTMAX"] == 1
    with pytest.raises(ValueError, match="Leave it out"):
        export(pictures(), tmp_path / "c.tflite", softmax=True)
    assert report.description is not None
    assert len(mediapipe_problems(report.description, said)) == 2


def test_labels_and_names_have_to_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one label per class"):
        export_tflite(pictures(), tmp_path / "a.tflite", metadata=Metadata("zoo", labels=("one",)))
    with pytest.raises(ValueError, match=r"\['photo', 'kinds'\]"):
        export_tflite(pictures(), tmp_path / "a.tflite", names={"image": "photo"})
    with pytest.raises(ValueError, match="a name of its own"):
        export_tflite(pictures(), tmp_path / "a.tflite", names={"photo": "kinds"})
    assert list(tmp_path.iterdir()) == []
