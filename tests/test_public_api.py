"""The menu: what it offers, that it costs nothing to open, and that every dish is described."""

from __future__ import annotations

import ast
import doctest
import inspect
import subprocess
import sys

import pytest

import keras_robust_prune as krp

MENU = [
    "Attack",
    "Evaluation",
    "ExportReport",
    "FileDescription",
    "InputSpec",
    "LayerType",
    "Metadata",
    "ModelError",
    "Plan",
    "Pruner",
    "PruningResult",
    "Quantization",
    "Removal",
    "Robust",
    "RobustPruning",
    "TensorBoard",
    "certify",
    "compare_files",
    "describe_tflite",
    "evaluate",
    "export",
    "export_tflite",
    "inspect",
    "load",
    "prune",
    "register_attack",
    "register_layer",
    "register_quantization",
    "sensitivity",
    "strip",
    "summary",
    "wrap",
]
# Shown by the examples of the functions that return, raise or take them.
SHOWN_ELSEWHERE = {
    "ExportReport": "export",
    "FileDescription": "describe_tflite",
    "PruningResult": "prune",
    "Removal": "Plan",
    "LayerType": "register_layer",
}


def test_the_menu_is_as_written() -> None:
    assert sorted(krp.MENU) == MENU
    assert dir(krp) == sorted({"__version__", *MENU, *krp.ROOMS})


def test_the_type_checker_sees_the_same_menu() -> None:
    tree = ast.parse(inspect.getsource(krp))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert seen == {name: f"keras_robust_prune.{home}" for name, home in krp.MENU.items()}


@pytest.mark.parametrize("name", MENU)
def test_every_name_is_described(name: str) -> None:
    thing = getattr(krp, name)
    assert thing.__name__ == name
    documentation = inspect.getdoc(thing)
    assert documentation
    thing = getattr(krp, SHOWN_ELSEWHERE.get(name, name))
    found = doctest.DocTestFinder(recurse=False).find(thing, name, globs={})
    assert any(test.examples for test in found), "it needs a running example"


@pytest.mark.parametrize("name", krp.RENAMED)
def test_a_name_of_before_goes_on_working_and_names_the_new_one(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=krp.RENAMED[name][1]):
        assert getattr(krp, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prunes'"):
        krp.prunes  # noqa: B018


@pytest.mark.parametrize("module", ["keras_robust_prune", "keras_robust_prune.cli"])
def test_importing_costs_nothing(module: str) -> None:
    # The program watches for signals only once it is imported, so what takes long comes later.
    heavy = (
        "{'tensorflow', 'tf_keras', 'keras', 'tensorflow_model_optimization', 'numpy', 'absl.app'}"
    )
    code = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
