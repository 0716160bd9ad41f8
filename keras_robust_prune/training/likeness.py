"""What a rebuilt model takes over: a class that trains in a way of its own, and how the model was compiled."""

from __future__ import annotations

import warnings
from typing import Any

from keras_robust_prune import backends

STEPS = ("train_step", "test_step", "compute_loss", "compute_metrics")


def own_steps(model: Any) -> tuple[str, ...]:
    """The steps of training that a model's class does in its own way.

    Example:
        >>> import tf_keras
        >>> own_steps(tf_keras.Sequential())
        ()
    """
    return tuple(name for name in STEPS if not _is_kerass(type(model), name))


def with_class_of(model: Any, built: Any) -> Any:
    """The rebuilt model in the class of the one it stands for, where that trains in its own way.

    Args:
        model: the one given.
        built: a functional or sequential model with the same inputs and outputs.

    Raises:
        ValueError: the class cannot be made from inputs and outputs.
    """
    own = own_steps(model)
    if not own:
        return built
    kind = type(model)
    try:
        return kind(built.input, built.output, name=built.name)
    except Exception as error:
        raise ValueError(
            f"'{model.name}' trains by {', '.join(own)} of its class {kind.__name__}, which cannot be made"
            f" from inputs and outputs: {error}. Pass the plain model inside it, and give the result to a"
            f" {kind.__name__} of your own."
        ) from error


def compiled_like(model: Any, built: Any) -> Any:
    """The rebuilt model, compiled with the optimizer's settings, loss and metrics of the one it stands for.

    Warns:
        UserWarning: the model was compiled with something that its configuration does not give back.
    """
    if getattr(model, "optimizer", None) is None:
        return built
    try:
        built.compile_from_config(model.get_compile_config())
    except Exception as error:
        warnings.warn(
            f"'{model.name}' was compiled, but the model made from it is not: {error}. Compile it as you"
            " compiled that one.",
            stacklevel=3,
        )
    return built


def _is_kerass(kind: type, name: str) -> bool:
    """Whether a method is the one that Keras defines."""
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    return owner is None or owner.__module__.partition(".")[0] in backends.NAMES
