"""The order of the rooms, the one door to TensorFlow, the size of files and functions, and the BUILD file."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras_robust_prune.graph.graph import INPUT
from keras_robust_prune.layers.base import KERAS
from keras_robust_prune.primitives.base import Primitive

ROOT = Path(__file__).parent.parent
NAME = "keras_robust_prune"
PACKAGE = ROOT / NAME
# A room imports only from rooms before it. The menu, the package itself, stands above all.
ORDER = ("backends", "memory", "inputs", "reporting", "primitives", "graph", "layers", "keras_io")
ORDER += (
    "surgery",
    "latency",
    "verify",
    "synthesis",
    "methods",
    "evaluation",
    "training",
    "pruning",
)
ORDER += ("exporting", "demo", "cli", NAME)
DOOR = f"{NAME}.backends"
BEHIND_THE_DOOR = {
    "tensorflow",
    "tf_keras",
    "keras",
    "tensorflow_model_optimization",
    "ai_edge_litert",
}
# Whoever reads and makes Keras's own models names what it makes, or refuses to run; a graph knows its inputs.
NAME_LAYERS = {
    "graph.graph": {INPUT},
    "keras_io.batch": {"Concatenate", "Reshape"},
    "keras_io.traversal": {"Identity"},
}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
LARGEST_ROOM = 1 / 5  # of the package's lines

SOURCES = sorted(PACKAGE.rglob("*.py"))
ALL_SOURCES = SOURCES + sorted((ROOT / "tests").rglob("*.py"))


def module_name(path: Path) -> str:
    """`keras_robust_prune/graph/graph.py` is `keras_robust_prune.graph.graph`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imports_in(tree: ast.AST) -> Iterator[str]:
    """Every module that a source names in an import, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def imports_of(path: Path) -> set[str]:
    return set(imports_in(ast.parse(path.read_text())))


def room_of(module: str) -> str:
    """The room of a module of the package; the package's own name for the menu."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else NAME


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_imports_run_one_way(path: Path) -> None:
    here = ORDER.index(room_of(module_name(path)))
    for imported in imports_of(path):
        if imported.split(".")[0] == NAME:
            there = ORDER.index(room_of(imported))
            assert there <= here, f"{module_name(path)} imports {imported}, a room to its right"
            assert imported != NAME, f"{module_name(path)} imports the menu"


def test_no_module_imports_itself_through_others() -> None:
    """What is imported for the type checker alone counts, too."""
    edges = {
        name: {found for found in imports_of(path) if found in MODULES} - {NAME}
        for name, path in MODULES.items()
    }
    graphlib.TopologicalSorter(edges).prepare()


def test_no_room_holds_more_than_a_fifth_of_the_lines() -> None:
    lines: dict[str, int] = {}
    for name, path in MODULES.items():
        lines[room_of(name)] = lines.get(room_of(name), 0) + path.read_text().count("\n")
    assert max(lines.values()) <= LARGEST_ROOM * sum(lines.values()), lines


def test_only_layers_and_primitives_ask_of_what_class_a_thing_is() -> None:
    """One layer, one place: elsewhere no class of Keras's layers is named, and none of a primitive is asked for."""
    kinds = {*KERAS, INPUT}
    primitives = {kind.__name__ for kind in (Primitive, *_below(Primitive))}
    found: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        if room_of(name) in ("layers", "primitives"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            named = node.value if isinstance(node, ast.Constant) else None
            if isinstance(named, str) and named in kinds:
                found.setdefault(name.removeprefix(f"{NAME}."), set()).add(named)
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "isinstance",
                "issubclass",
            ):
                asked = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
                assert not asked & primitives, f"{name}, line {node.lineno}: ask the primitive"
    assert found == NAME_LAYERS


def _below(kind: type) -> Iterator[type]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _below(inner)


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_tensorflow_comes_through_one_door(path: Path) -> None:
    if module_name(path) == DOOR:
        return
    families = {imported.split(".")[0] for imported in imports_of(path)}
    assert not families & BEHIND_THE_DOOR, f"only {DOOR} imports these"
    for node in ast.walk(ast.parse(path.read_text())):
        named = isinstance(node, ast.Attribute) and node.attr == "keras"
        assert not (named and ast.unparse(node) in {"tf.keras", "tensorflow.keras"}), node.lineno


@pytest.mark.parametrize("path", ALL_SOURCES, ids=ids)
def test_files_and_functions_stay_small(path: Path) -> None:
    """A function's docstring does not count towards its length."""
    source = path.read_text()
    assert source.count("\n") <= LONGEST_FILE, "can it be two things?"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            docstring = node.body[0] if ast.get_docstring(node) is not None else None
            if docstring is not None and docstring.end_lineno is not None:
                length -= docstring.end_lineno - docstring.lineno + 1
            assert length <= LONGEST_FUNCTION, (
                f"{node.name}, line {node.lineno}, has {length} lines"
            )


def build_targets() -> dict[str, set[str]]:
    """The `deps` of every `py_library` of the BUILD file, by target name."""
    targets = {}
    for node in ast.parse((ROOT / "BUILD").read_text()).body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "py_library":
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            deps = ast.literal_eval(given.get("deps", ast.List([])))
            targets[ast.literal_eval(given["name"])] = set(deps)
    return targets


def bazel_label(module: str) -> str | None:
    """The label that an imported module stands for; None for the standard library."""
    top = module.split(".")[0]
    if top == NAME:
        return f":{room_of(module)}"
    if top in sys.stdlib_module_names:
        return None
    return f"@pypi//{'absl_py' if top == 'absl' else 'scikit_learn' if top == 'sklearn' else top}"


def test_build_deps_equal_the_imports() -> None:
    expected: dict[str, set[str]] = {}
    for path in SOURCES:
        room = room_of(module_name(path))
        labels = {bazel_label(imported) for imported in imports_of(path)}
        expected.setdefault(room, set()).update(label for label in labels if label)
        if module_name(path) == DOOR:
            named = set(re.findall(r'"(\w+)', path.read_text())) & BEHIND_THE_DOOR
            expected[room].update(f"@pypi//{family}" for family in named)
    for room, labels in expected.items():
        labels.discard(f":{room}")
    assert build_targets() == expected
