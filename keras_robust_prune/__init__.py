"""Structured, robustness-aware pruning of trained Keras networks, without their training data.

    import keras_robust_prune as krp

    result = krp.prune("mnist_savedmodel", target=0.5)

The names below are the public ones. Importing this package imports no TensorFlow: a name is looked up when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_robust_prune.analysis.certificate import certify as certify
    from keras_robust_prune.delivery.tflite import export_tflite as export_tflite
    from keras_robust_prune.evaluation.attacks import Attack as Attack
    from keras_robust_prune.evaluation.evaluate import evaluate as evaluate
    from keras_robust_prune.evaluation.results import Evaluation as Evaluation
    from keras_robust_prune.network.inspection import inspect as inspect
    from keras_robust_prune.network.kerases import ModelError as ModelError
    from keras_robust_prune.network.rules import Rule as Rule
    from keras_robust_prune.network.rules import register_rule as register_rule
    from keras_robust_prune.network.summary import summary as summary
    from keras_robust_prune.surgery.plan import Plan as Plan
    from keras_robust_prune.surgery.plan import Removal as Removal
    from keras_robust_prune.training.callbacks import RobustPruning as RobustPruning
    from keras_robust_prune.training.pruner import Pruner as Pruner
    from keras_robust_prune.training.pruning import prune as prune
    from keras_robust_prune.training.result import PruningResult as PruningResult
    from keras_robust_prune.training.wrappers import load as load
    from keras_robust_prune.training.wrappers import strip as strip
    from keras_robust_prune.training.wrappers import wrap as wrap

__version__ = "0.1.0"

# Where each public name lives.
MENU = {
    "Attack": "evaluation.attacks",
    "Evaluation": "evaluation.results",
    "ModelError": "network.kerases",
    "Plan": "surgery.plan",
    "Pruner": "training.pruner",
    "PruningResult": "training.result",
    "Removal": "surgery.plan",
    "RobustPruning": "training.callbacks",
    "Rule": "network.rules",
    "certify": "analysis.certificate",
    "evaluate": "evaluation.evaluate",
    "export_tflite": "delivery.tflite",
    "inspect": "network.inspection",
    "load": "training.wrappers",
    "prune": "training.pruning",
    "register_rule": "network.rules",
    "strip": "training.wrappers",
    "summary": "network.summary",
    "wrap": "training.wrappers",
}


def __getattr__(name: str) -> Any:
    if name not in MENU:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"{__name__}.{MENU[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *MENU})
