"""Files -> Keras models: looked at first, then loaded by the Keras that wrote them."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_robust_prune import backends
from keras_robust_prune.backends import ModelError
from keras_robust_prune.keras_io.masked import masked_class
from keras_robust_prune.keras_io.stored import Stored, look
from keras_robust_prune.keras_io.vetting import Vetting

TFMOT_WRAPPER = "PruneLowMagnitude"
QUANTISED = "QuantizeWrapper"
TFMOT_SCHEDULES = ("ConstantSparsity", "PolynomialDecay")
# Building takes what is stored, and again what initializers draw and a SavedModel restores beside it.
VARIABLES, AT_LEAST = 4, 64 << 20


@backends.random_state_kept()
def load(
    path: str | Path, custom_objects: Mapping[str, Any] | None = None, trust: bool = False
) -> Any:
    """Load a model, plain or masked, with the Keras that wrote it; not compiled.

    What the path holds is told by its content, not by its name. Its configuration is read first: a file that would run
    Python code, or anything besides a network of the Keras's own and the user's registered parts, is refused. Files do
    not tell every damage: a `.keras` file has checksums, an `.h5` file and a SavedModel have none.

    Args:
        path: a SavedModel folder that tf_keras's `model.save` wrote, or a `.keras` or `.h5` file of either Keras.
        custom_objects: your own classes and functions by name.
        trust: whether the file may run code of its own, as Lambda layers do; only for files whose author is trusted
            like a program's.

    Returns:
        A tf_keras or Keras 3 model.

    Raises:
        ModelError: the path holds no model with layers, would run code, or Keras cannot load it.

    Example:
        >>> from keras_robust_prune import demo
        >>> load(demo.FOLDER / "digits.h5").name
        'digits'
    """
    stored = look(path)
    subject = f"'{path}' cannot be loaded"
    keras = backends.module(stored.keras)
    masked_class(stored.keras)  # registers it
    if QUANTISED in json.dumps(stored.configs):
        raise ModelError(
            subject,
            [
                "tfmot has made it ready for quantisation-aware training. Load it by tf_keras, within"
                " tfmot.quantization.keras.quantize_scope(), and pass the model."
            ],
        )
    with contextlib.ExitStack() as scopes:
        if TFMOT_WRAPPER in json.dumps(stored.configs):
            sparsity = backends.tfmot().sparsity.keras
            scopes.enter_context(sparsity.prune_scope())
            own = {name: getattr(sparsity, name) for name in TFMOT_SCHEDULES}
            custom_objects = {**own, **dict(custom_objects or {})}
        if not trust:
            _refuse_code(stored, custom_objects, subject)
            allowed = max(AT_LEAST, VARIABLES * stored.num_bytes)
            scopes.enter_context(backends.variables_within(allowed))
        source = scopes.enter_context(_as_named(stored))
        try:
            return keras.models.load_model(
                source,
                custom_objects=dict(custom_objects or {}),
                compile=False,
                safe_mode=not trust,
            )
        except ModelError as error:
            raise ModelError(subject, error.problems) from error
        except Exception as error:
            raise ModelError(subject, [_explained(error, stored.keras)]) from error


def _refuse_code(stored: Stored, custom_objects: Mapping[str, Any] | None, subject: str) -> None:
    """Raises if loading would run what only a trusted file may."""
    vetting = Vetting(stored.keras, custom_objects, opaque=not stored.suffix)
    problems = [*vetting.problems(stored.configs), *stored.problems]
    if problems:
        way_out = (
            "A file that can do this can do anything with this machine. If it misses a class or function of yours, "
            "pass custom_objects={'Name': Name} to krp.load or register it; if you trust its author, trust=True "
            "(--trust on the command line) loads it all the same."
        )
        raise ModelError(subject, [*problems[:-1], f"{problems[-1]} {way_out}"])


@contextlib.contextmanager
def _as_named(stored: Stored) -> Iterator[Path]:
    """The path under a name by which Keras reads it as what it is."""
    if stored.path.suffix == stored.suffix or not stored.suffix:
        yield stored.path
        return
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / f"model{stored.suffix}"
        try:
            other.symlink_to(stored.path.resolve())
        except OSError:
            shutil.copyfile(stored.path, other)
        yield other


def _explained(error: BaseException, keras: str) -> str:
    """What Keras says, in one line."""
    line = (str(error).strip().splitlines() or [""])[0][:300] or type(error).__name__
    return (
        f"{keras} says: {line} If it misses a class or function of yours, pass custom_objects={{'Name': Name}}; "
        "otherwise the file is damaged or of another version: save the model anew."
    )
