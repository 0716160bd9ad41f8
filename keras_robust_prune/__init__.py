"""Structured, robustness-aware pruning of trained Keras networks, without their training data.

    import keras_robust_prune as krp

    result = krp.prune("mnist_savedmodel", target=0.5)

The names below are the public ones. Importing this package imports no TensorFlow: a name is looked up when it is used.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras_robust_prune.latency as latency  # noqa: F401
    from keras_robust_prune.backends import ModelError as ModelError
    from keras_robust_prune.evaluation.attacks import Attack as Attack
    from keras_robust_prune.evaluation.attacks import register_attack as register_attack
    from keras_robust_prune.evaluation.evaluate import evaluate as evaluate
    from keras_robust_prune.evaluation.results import Evaluation as Evaluation
    from keras_robust_prune.exporting.comparing import compare_files as compare_files
    from keras_robust_prune.exporting.describing import FileDescription as FileDescription
    from keras_robust_prune.exporting.describing import describe_tflite as describe_tflite
    from keras_robust_prune.exporting.metadata import Metadata as Metadata
    from keras_robust_prune.exporting.quantization import Quantization as Quantization
    from keras_robust_prune.exporting.quantization import (
        register_quantization as register_quantization,
    )
    from keras_robust_prune.exporting.tflite import ExportReport as ExportReport
    from keras_robust_prune.exporting.tflite import export as export
    from keras_robust_prune.exporting.tflite import export_tflite as export_tflite
    from keras_robust_prune.inputs import InputSpec as InputSpec
    from keras_robust_prune.keras_io.files import load as load
    from keras_robust_prune.layers.base import LayerType as LayerType
    from keras_robust_prune.layers.base import register_layer as register_layer
    from keras_robust_prune.methods.robust import Robust as Robust
    from keras_robust_prune.pruning.inspection import inspect as inspect
    from keras_robust_prune.pruning.prune import prune as prune
    from keras_robust_prune.pruning.pruner import Pruner as Pruner
    from keras_robust_prune.pruning.result import PruningResult as PruningResult
    from keras_robust_prune.pruning.sensitivity import sensitivity as sensitivity
    from keras_robust_prune.pruning.tensorboard import TensorBoard as TensorBoard
    from keras_robust_prune.surgery.plan import Plan as Plan
    from keras_robust_prune.surgery.plan import Removal as Removal
    from keras_robust_prune.surgery.summary import summary as summary
    from keras_robust_prune.training.callbacks import RobustPruning as RobustPruning
    from keras_robust_prune.training.wrappers import strip as strip
    from keras_robust_prune.training.wrappers import wrap as wrap
    from keras_robust_prune.verify.certificate import certify as certify

__version__ = "0.2.0"

# Where each public name lives.
MENU = {
    "Attack": "evaluation.attacks",
    "Evaluation": "evaluation.results",
    "ExportReport": "exporting.tflite",
    "FileDescription": "exporting.describing",
    "InputSpec": "inputs",
    "LayerType": "layers.base",
    "Metadata": "exporting.metadata",
    "ModelError": "backends",
    "Plan": "surgery.plan",
    "Pruner": "pruning.pruner",
    "PruningResult": "pruning.result",
    "Quantization": "exporting.quantization",
    "Removal": "surgery.plan",
    "Robust": "methods.robust",
    "RobustPruning": "training.callbacks",
    "TensorBoard": "pruning.tensorboard",
    "certify": "verify.certificate",
    "compare_files": "exporting.comparing",
    "describe_tflite": "exporting.describing",
    "evaluate": "evaluation.evaluate",
    "export": "exporting.tflite",
    "export_tflite": "exporting.tflite",
    "inspect": "pruning.inspection",
    "load": "keras_io.files",
    "prune": "pruning.prune",
    "register_attack": "evaluation.attacks",
    "register_layer": "layers.base",
    "register_quantization": "exporting.quantization",
    "sensitivity": "pruning.sensitivity",
    "strip": "training.wrappers",
    "summary": "surgery.summary",
    "wrap": "training.wrappers",
}

# Names of before: where they still live, and what is used instead.
RENAMED = {
    "Rule": ("layers.rules", "LayerType"),
    "register_rule": ("layers.rules", "register_layer"),
}
# Rooms that are used by their own name: `krp.latency.measure(...)`.
ROOMS = ("latency",)


def __getattr__(name: str) -> Any:
    if name in ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name in RENAMED:
        home, instead = RENAMED[name]
        text = f"{__name__}.{name} is deprecated; use {__name__}.{instead}."
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    if name not in MENU:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"{__name__}.{MENU[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({"__version__", *MENU, *ROOMS})
