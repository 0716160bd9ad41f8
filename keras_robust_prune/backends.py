"""The one door to TensorFlow, both Keras versions, tfmot and LiteRT.

Nothing is imported before it is asked for. `import tf_keras` is Keras 2, `import keras` is Keras 3; which of them a
name inside TensorFlow means depends on the environment, so no such name is used.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import random
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

NAMES = ("tf_keras", "keras")
# What native code of TensorFlow writes to standard error about itself, past Python and its log levels.
REMARKS = re.compile(
    rb"WARNING: All log messages before absl::|[IW]\d{4,} .*\] |To enable the following instructions:"
    rb"|INFO: |fully_quantize: |E\d{4,} .*\] failed call to cuInit"
)
_REMARKS_LOCK = threading.RLock()
# Threads that import the same package at once may see it half done: Python lets them where waiting would never end.
_IMPORTING = threading.RLock()


class ModelError(ValueError):
    """A model cannot be read, built, loaded or saved; every reason is in it.

    Attributes:
        problems: one sentence for each problem.

    Example:
        >>> print(ModelError("'m' cannot be read", ["It holds no layer.", "It is not built."]))
        'm' cannot be read, 2 problems:
        - It holds no layer.
        - It is not built.
    """

    def __init__(self, subject: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            text = f"{subject}: {self.problems[0]}"
        else:
            lines = "".join(f"\n- {problem}" for problem in self.problems)
            text = f"{subject}, {len(self.problems)} problems:{lines}"
        super().__init__(text)


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Python's generator is afterwards as it was: both Keras versions draw seeds from it for every layer they make.

    Example:
        >>> random.seed(0)
        >>> with random_state_kept():
        ...     _ = random.random()
        >>> round(random.random(), 4)
        0.8444
    """
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Without what TensorFlow's native code writes to standard error about itself; all else comes out in the end.

    Start-up lines, delegates of the interpreter and the converter's `fully_quantize` are written past Python, so they
    are caught at the descriptor.
    """
    with _REMARKS_LOCK, contextlib.ExitStack() as stack:
        try:
            kept = os.dup(2)
        except OSError:  # a program without standard error
            yield
            return
        stack.callback(os.close, kept)
        caught = stack.enter_context(tempfile.TemporaryFile())
        _flush_errors()
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            _flush_errors()
            os.dup2(kept, 2)
            caught.seek(0)
            for line in caught:
                if not REMARKS.match(line):
                    os.write(2, line)


def _flush_errors() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


def tensorflow() -> Any:
    """The module `tensorflow`."""
    found = sys.modules.get("tensorflow")
    if found is not None and not getattr(found.__spec__, "_initializing", False):
        return found
    with _IMPORTING, without_remarks():  # another thread may be at it
        found = importlib.import_module("tensorflow")
        found.config.list_physical_devices()  # says now what it would say later of a GPU that is not there
    return found


def tf_keras() -> Any:
    """The module `tf_keras`, which is Keras 2."""
    tensorflow()
    with _IMPORTING:
        return importlib.import_module("tf_keras")


def keras() -> Any:
    """The module `keras`, which is Keras 3, on TensorFlow.

    Raises:
        ModelError: Keras 3 runs on another backend.
    """
    tensorflow()
    try:
        with _IMPORTING:
            found = importlib.import_module("keras")
        backend = found.backend.backend()
    except ImportError:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        if backend == "tensorflow":
            raise
    if backend != "tensorflow":
        raise ModelError(
            "Keras 3 cannot be used",
            [
                f"its backend is '{backend}', and only 'tensorflow' is supported. Start Python with "
                "KERAS_BACKEND=tensorflow, or set it before keras is imported."
            ],
        )
    return found


def tfmot() -> Any:
    """The module `tensorflow_model_optimization`.

    On import it sets an environment variable by which TensorFlow chooses its Keras. TensorFlow is made to choose before
    that, and the variable is put back, so the import changes nothing for anybody else.
    """
    _ = tensorflow().keras.Model
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        return importlib.import_module("tensorflow_model_optimization")
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before


def module(name: str) -> Any:
    """The Keras of that name: `"tf_keras"` or `"keras"`."""
    if name not in NAMES:
        raise ValueError(f"'{name}' is no Keras; expected one of {', '.join(NAMES)}.")
    return tf_keras() if name == "tf_keras" else keras()


def keras_name(model: Any) -> str:
    """Which Keras a model or layer belongs to: `"tf_keras"` or `"keras"`.

    Raises:
        ModelError: to neither of them.
    """
    kind = model if isinstance(model, type) else type(model)
    for base in kind.__mro__:
        root = base.__module__.partition(".")[0]
        if root in NAMES:
            return root
    raise ModelError(
        f"An object of type {kind.__module__}.{kind.__qualname__} is no Keras model",
        ["expected a tf_keras or Keras 3 model, or the path of one."],
    )


def without_aliases(kind: Any) -> Any:
    """The class that a subclass of the same name with nothing of its own is."""
    while isinstance(kind, type) and getattr(kind.__base__, "__name__", "") == kind.__name__:
        if any(hasattr(value, "__get__") for value in vars(kind).values()):
            return kind
        kind = kind.__base__
    return kind


def model_class(layer: Any) -> Any:
    """The class `Model` of the Keras that a model or layer belongs to."""
    return module(keras_name(layer)).Model


def interpreter(model: str | Path | bytes, num_threads: int = 1, keep_tensors: bool = False) -> Any:
    """A `.tflite` interpreter, its tensors allocated: LiteRT's when it is installed, else TensorFlow's.

    Args:
        model: path or content of a `.tflite` file.
        num_threads: how many threads it computes with.
        keep_tensors: whether what is computed on the way stays readable, at the cost of speed.
    """
    try:
        with without_remarks():
            maker = importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        maker = tensorflow().lite.Interpreter
    given = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    with warnings.catch_warnings(), without_remarks():
        # TensorFlow's own announces that LiteRT will take its place.
        warnings.simplefilter("ignore", UserWarning)
        made = maker(
            **given, num_threads=num_threads, experimental_preserve_all_tensors=keep_tensors
        )
        made.allocate_tensors()  # the first of a process says which delegate it has
        return made


def saved_model(content: bytes) -> Any:
    """The message in a `saved_model.pb`; see `_message`."""
    return _message("tensorflow.core.protobuf.saved_model_pb2", "SavedModel", content)


def saved_metadata(content: bytes) -> Any:
    """The message in tf_keras's `keras_metadata.pb`; see `_message`."""
    return _message("tf_keras.protobuf.saved_metadata_pb2", "SavedMetadata", content)


def _message(module_name: str, name: str, content: bytes) -> Any:
    """A protocol buffer's message, parsed.

    Raises:
        ValueError: the content is none.
    """
    error = importlib.import_module("google.protobuf.message").DecodeError
    try:
        return getattr(importlib.import_module(module_name), name).FromString(content)
    except error as reason:
        raise ValueError(str(reason)) from reason


@contextlib.contextmanager
def variables_within(num_bytes: int) -> Iterator[None]:
    """Has both Keras versions create no more variables than fit into so many bytes; what exceeds is not allocated.

    Raises:
        ModelError: a variable exceeds it.
    """
    tf, left = tensorflow(), num_bytes

    def create(next_creator: Any, **given: Any) -> Any:
        nonlocal left
        left -= _bytes_of(given)
        if left < 0:
            raise ModelError(
                "The model is not built",
                [
                    f"its configuration asks for more weights than the {num_bytes:,} bytes that fit what it stores."
                ],
            )
        return next_creator(**given)

    with tf.variable_creator_scope(create):
        yield


def _bytes_of(given: Mapping[str, Any]) -> int:
    """Bytes of a variable that is about to be created; 0 where nothing tells its shape beforehand."""
    tf, value = tensorflow(), given.get("initial_value")
    shape, dtype = given.get("shape"), given.get("dtype") or getattr(value, "dtype", None)
    if shape is None and callable(value):
        # Keras 3 tells a variable's shape to its initializer alone. In a graph that computes no value.
        with tf.Graph().as_default():
            drawn = value()
            shape, dtype = drawn.shape, dtype or drawn.dtype
    elif shape is None:
        shape = getattr(value, "shape", None)
    if shape is None:
        return 0
    known = tf.TensorShape(shape).num_elements()
    return int(known or 0) * tf.as_dtype(dtype or tf.float32).size


def file_schema() -> Any:
    """The flatbuffers classes of the `.tflite` format: LiteRT's when it is installed, else TensorFlow's."""
    try:
        with without_remarks():
            return importlib.import_module("ai_edge_litert.schema_py_generated")
    except ImportError:
        tensorflow()
        return importlib.import_module("tensorflow.lite.python.schema_py_generated")


def pack_file(model: Any) -> bytes:
    """The bytes of a `.tflite` file, from its objects, the `ModelT` of `file_schema`.

    Vectors of bytes, the weights, are aligned to 16 bytes, as the format asks; the generated code alone does not.
    """
    base = importlib.import_module("flatbuffers").Builder

    class Aligned(base):  # type: ignore[misc, valid-type]
        def StartVector(self, size: int, length: int, alignment: int) -> Any:  # noqa: N802
            return super().StartVector(size, length, 16 if size == 1 else alignment)

    builder = Aligned(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what a converter says about its own progress."""
    log = logging.getLogger("tensorflow")
    level = log.level
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        without_remarks(),
    ):
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)
