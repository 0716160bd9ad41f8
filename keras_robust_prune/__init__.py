"""Structured, robustness-aware pruning of trained Keras networks, without their training data.

    import keras_robust_prune as krp

    result = krp.prune("mnist_savedmodel", target=0.5)

The names below are the public ones. Importing this package imports no TensorFlow: a name is looked up when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_robust_prune.network.inspection import inspect as inspect
    from keras_robust_prune.network.kerases import ModelError as ModelError
    from keras_robust_prune.network.reading import load as load
    from keras_robust_prune.network.rules import Rule as Rule
    from keras_robust_prune.network.rules import register_rule as register_rule
    from keras_robust_prune.network.summary import summary as summary

__version__ = "0.1.0"

# Where each public name lives.
MENU = {
    "ModelError": "network.kerases",
    "Rule": "network.rules",
    "inspect": "network.inspection",
    "load": "network.reading",
    "register_rule": "network.rules",
    "summary": "network.summary",
}


def __getattr__(name: str) -> Any:
    if name not in MENU:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"{__name__}.{MENU[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *MENU})
