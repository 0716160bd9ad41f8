"""TFLite Metadata: a file that says what its input and output mean, for MediaPipe Tasks and other readers.

Written with flatbuffers alone, by the published schema (metadata_schema.fbs, root type ModelMetadata, identifier M001):
a buffer of the file named `TFLITE_METADATA`, and a ZIP archive behind the file that holds `labels.txt`. An interpreter
reads neither, so the file computes what it computed before.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable, Sequence

import flatbuffers
import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.exporting.describing import FileDescription, Port, describe

LABELS = "labels.txt"
BUFFER = "TFLITE_METADATA"
IDENTIFIER = b"M001"
# Numbers of the schema: kinds of content, of processing, of files, of colour.
_FEATURES, _PICTURE = 1, 2
_NORMALIZATION = 1
_AXIS_LABELS = 2
_COLOURS = {3: 1, 1: 2}
# Readers older than this do not know what is written here.
_MIN_PARSER = "1.0.0"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a `.tflite` file says of itself.

    Attributes:
        name: of the model.
        description: what it is for.
        labels: names of the classes, in the order of the outputs; they become `labels.txt`.
        version, author, license: as one likes.
        score: what the outputs are: `"probability"`, `"logit"`, `"value"`; None takes it from the last activation.

    Example:
        >>> Metadata("digits", labels=[str(k) for k in range(10)]).labels[3]
        '3'
    """

    name: str
    description: str = ""
    labels: Sequence[str] = ()
    version: str = ""
    author: str = ""
    license: str = ""
    score: str | None = None


def normalization(lower: np.ndarray, upper: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and deviation by which a reader turns pixels from 0 to 255 into the model's range: (pixel - mean) / std.

    Args:
        lower: of every channel, `(channels,)`.
        upper: likewise.

    Example:
        >>> normalization(np.array([-1.0]), np.array([1.0]))
        ([127.5], [127.5])
        >>> normalization(np.array([0.0]), np.array([255.0]))  # the network scales by itself
        ([0.0], [1.0])
    """
    std = 255.0 / np.maximum(np.asarray(upper, float) - lower, 1e-12)
    mean = -np.asarray(lower, float) * std
    return (mean + 0.0).tolist(), std.tolist()


def mediapipe_problems(described: FileDescription, metadata: Metadata) -> list[str]:
    """What keeps MediaPipe's ImageClassifier from taking a file, a sentence each.

    Args:
        described: the file.
        metadata: what it says of itself.
    """
    found = []
    if len(described.inputs) != 1 or len(described.outputs) != 1:
        ports = f"{len(described.inputs)} inputs and {len(described.outputs)} outputs"
        return [f"It has {ports}; one picture and one row of scores are expected."]
    given, scores = described.inputs[0], described.outputs[0]
    if len(given.shape) != 4 or given.shape[0] != 1 or given.shape[3] != 3:
        found.append(
            f"Input '{given.name}' has shape {list(given.shape)}; [1, height, width, 3] (RGB) is"
            " expected."
        )
    for port in (given, scores):
        if port.dtype not in ("uint8", "float32"):
            found.append(
                f"'{port.name}' is {port.dtype}; uint8 or float32 is expected: quantize="
                "'int8_uint8' or 'int8_float32'."
            )
    if not metadata.labels:
        found.append("It has no labels: Metadata(labels=...).")
    if metadata.score == "logit":
        found.append("Its scores are logits; probabilities are expected: softmax=True.")
    return found


def with_metadata(
    content: bytes,
    metadata: Metadata,
    bounds: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> bytes:
    """A file's bytes with metadata in them, and `labels.txt` behind.

    Args:
        content: the `.tflite` file.
        metadata: what it shall say.
        bounds: of every input the valid range, `lower` and `upper` of its shape; without them nothing is said of
            scaling.

    Raises:
        ValueError: there are not as many labels as the last axis of the output is long.
    """
    described = describe(content, metadata.name)
    if metadata.labels and len(metadata.labels) != described.outputs[0].shape[-1]:
        raise ValueError(
            f"There are {len(metadata.labels)} labels, but output '{described.outputs[0].name}' has"
            f" shape {list(described.outputs[0].shape)}: one label per class."
        )
    schema = backends.file_schema()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(_packed(described, metadata, bounds), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = BUFFER, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [item for item in model.metadata or [] if item.name != BUFFER.encode()]
    model.metadata.append(entry)
    written = backends.pack_file(model)
    if not metadata.labels:
        return written
    archive = io.BytesIO(written)
    with zipfile.ZipFile(archive, "a") as into:
        # A fixed date: the same model gives the same bytes.
        into.writestr(zipfile.ZipInfo(LABELS), "\n".join(metadata.labels) + "\n")
    return archive.getvalue()


def renamed(content: bytes, names: dict[str, str]) -> bytes:
    """A file whose signature calls its inputs and outputs otherwise.

    Args:
        content: the `.tflite` file.
        names: new names by the old ones.

    Raises:
        ValueError: the file has no input or output of such a name, or two would be called alike.
    """
    model = backends.file_schema().ModelT.InitFromPackedBuf(content, 0)
    items = [
        *(model.signatureDefs[0].inputs if model.signatureDefs else ()),
        *(model.signatureDefs[0].outputs if model.signatureDefs else ()),
    ]
    there = [item.name.decode() for item in items]
    unknown = sorted(set(names) - set(there))
    after = [names.get(name, name) for name in there]
    if unknown or len(set(after)) < len(after):
        raise ValueError(
            f"names is {names}, but the file's inputs and outputs are called {there}, and each needs"
            " a name of its own. Map these names to yours."
        )
    for item, name in zip(items, after, strict=True):
        item.name = name
    return backends.pack_file(model)


def _packed(
    described: FileDescription,
    metadata: Metadata,
    bounds: Sequence[tuple[np.ndarray, np.ndarray]],
) -> bytes:
    """The table ModelMetadata."""
    writer = _Writer()
    inputs = [
        writer.tensor(port.name, *_content(writer, port, bounds[k] if k < len(bounds) else None))
        for k, port in enumerate(described.inputs)
    ]
    outputs = [
        writer.tensor(
            port.name,
            writer.table(2, {0: writer.byte(_FEATURES), 1: writer.offset(writer.table(0, {}))}),
            None,
            LABELS if metadata.labels and not k else None,
            metadata.score or "",
        )
        for k, port in enumerate(described.outputs)
    ]
    graph = writer.table(10, {2: writer.vector(inputs), 3: writer.vector(outputs)})
    texts = {0: metadata.name, 1: metadata.description, 2: metadata.version}
    texts |= {4: metadata.author, 5: metadata.license, 7: _MIN_PARSER}
    fields = {slot: writer.text(value) for slot, value in texts.items() if value}
    root = writer.table(8, {**fields, 3: writer.vector([graph])})
    writer.builder.Finish(root, IDENTIFIER)
    return bytes(writer.builder.Output())


def _content(
    writer: _Writer, port: Port, bounds: tuple[np.ndarray, np.ndarray] | None
) -> tuple[int, int | None]:
    """Content of an input, and how pixels become its numbers."""
    channels = port.shape[-1] if len(port.shape) == 4 else 0
    if channels not in _COLOURS:
        features = writer.table(0, {})
        return writer.table(2, {0: writer.byte(_FEATURES), 1: writer.offset(features)}), None
    size = writer.table(2, {0: writer.uint(port.shape[2]), 1: writer.uint(port.shape[1])})
    picture = writer.table(2, {0: writer.byte(_COLOURS[channels]), 1: writer.offset(size)})
    content = writer.table(2, {0: writer.byte(_PICTURE), 1: writer.offset(picture)})
    if bounds is None:
        return content, None
    lower, upper = (np.broadcast_to(bound, port.shape[1:]) for bound in bounds)
    mean, std = normalization(lower.min((0, 1)), upper.max((0, 1)))
    options = writer.table(2, {0: writer.floats(mean), 1: writer.floats(std)})
    return content, writer.table(2, {0: writer.byte(_NORMALIZATION), 1: writer.offset(options)})


Put = Callable[[int], None]


class _Writer:
    """Tables of a flatbuffer whose schema has no generated code: a field is put into its slot by a function."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def table(self, num_slots: int, fields: dict[int, Put]) -> int:
        """A table with some of its fields; what they point to has to stand already."""
        self.builder.StartObject(num_slots)
        for slot, put in fields.items():
            put(slot)
        return int(self.builder.EndObject())

    def offset(self, place: int) -> Put:
        return lambda slot: self.builder.PrependUOffsetTRelativeSlot(slot, place, 0)

    def text(self, value: str) -> Put:
        return self.offset(self.builder.CreateString(value))

    def byte(self, value: int) -> Put:
        return lambda slot: self.builder.PrependUint8Slot(slot, value, 0)

    def uint(self, value: int) -> Put:
        return lambda slot: self.builder.PrependUint32Slot(slot, value, 0)

    def floats(self, values: Sequence[float]) -> Put:
        return self.offset(self.builder.CreateNumpyVector(np.asarray(values, np.float32)))

    def vector(self, places: Sequence[int]) -> Put:
        self.builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self.builder.PrependUOffsetTRelative(place)
        return self.offset(self.builder.EndVector())

    def tensor(
        self,
        name: str,
        content: int,
        processing: int | None,
        labels: str | None = None,
        about: str = "",
    ) -> int:
        """The table TensorMetadata of an input or output."""
        fields = {0: self.text(name), 3: self.offset(content)}
        if about:
            fields[1] = self.text(about)
        if processing is not None:
            fields[4] = self.vector([processing])
        if labels:
            file = self.table(5, {0: self.text(labels), 2: self.byte(_AXIS_LABELS)})
            fields[6] = self.vector([file])
        return self.table(7, fields)
