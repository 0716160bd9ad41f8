"""What a model file would run when it is loaded, read off its configuration before anything is.

A configuration names classes and functions, and a Keras that builds from it calls them. What may be named is what a
network is made of: layers, operations, initializers, regularizers, constraints, activations and the like of the Keras
that wrote the file, and what the user has registered or handed over in this process. Everything else is told by name:
Python functions that the file brings along, layers that load further files, names from other modules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from keras_robust_prune import backends

# Layers of either Keras that run what their configuration says, or what further files hold.
RUNS_CODE = {
    "Lambda": "calls a Python function",
    "ClassMethod": "calls any method of TensorFlow's classes",
    "InstanceMethod": "calls any method of a tensor",
    "TensorFlowOpLayer": "runs any operation of TensorFlow",
    "TFSMLayer": "runs another SavedModel",
    "TorchModuleWrapper": "unpickles a PyTorch module",
    "JaxLayer": "calls a Python function",
    "FlaxLayer": "calls a Python function",
}
# Values that are written like objects, and hold none.
PLAIN = frozenset(
    ("__tuple__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__")
    + ("__keras_tensor__", "TensorShape", "TypeSpec", "InputSpec")
)
# What a function may be one of, as each Keras calls the modules.
FUNCTIONS = (
    "activations",
    "initializers",
    "regularizers",
    "constraints",
    "losses",
    "metrics",
    "ops",
)
CLASSES = ("layers", "models", *FUNCTIONS, "optimizers", "mixed_precision", "dtype_policies")
# Modules of TensorFlow whose functions compute tensors from tensors, and do nothing else.
_FAMILIES = ("array", "bitwise", "image", "linalg", "manip", "math", "nn")
PURE = frozenset(
    f"tensorflow.python.ops.{name}"
    for name in (*(f"{family}_ops" for family in _FAMILIES), *(f"gen_{f}_ops" for f in _FAMILIES))
    + ("array_ops_stack", "clip_ops", "embedding_ops", "image_ops_impl", "linalg.linalg_impl")
    + ("nn", "nn_impl", "numerics", "random_ops", "sort_ops", "special_math_ops")
    + ("stateless_random_ops", "tensor_getitem_override")
)


class Item(NamedTuple):
    """An object in a configuration.

    Attributes:
        kind: its class's name.
        said: everything said of it.
        config: what its class is built from, where that is a mapping; empty otherwise.
        owner: the layer that it is or belongs to, as messages call it.
    """

    kind: str
    said: Mapping[str, Any]
    config: Mapping[str, Any]
    owner: str


def items(config: Any) -> Iterator[Item]:
    """Every object in a configuration, however deep, in order."""
    waiting: list[tuple[Any, str]] = [(config, "it")]
    while waiting:
        value, owner = waiting.pop()
        if isinstance(value, Mapping):
            if "class_name" in value:
                kind, inner = str(value["class_name"]), value.get("config")
                inner = inner if isinstance(inner, Mapping) else {}
                name = inner.get("name", value.get("name"))
                owner = f"layer '{name}' ({kind})" if isinstance(name, str) else owner
                yield Item(kind, value, inner, owner)
            waiting += [(part, owner) for part in reversed(list(value.values()))]
        elif isinstance(value, (list, tuple)):
            waiting += [(part, owner) for part in reversed(value)]


class Vetting:
    """Whether a configuration keeps to a Keras's own parts and to those that the user knows.

    Args:
        keras: which Keras will build from it, `"tf_keras"` or `"keras"`.
        custom_objects: the user's own classes and functions by name.
        opaque: whether a class that is not known is harmless: a SavedModel brings its computation along, and nothing is
            looked up by its name.
    """

    def __init__(
        self, keras: str, custom_objects: Mapping[str, Any] | None = None, opaque: bool = False
    ) -> None:
        self._keras = backends.module(keras)
        self._name = keras
        self._custom = dict(custom_objects or {})
        self._opaque = opaque

    def problems(self, config: Any) -> list[str]:
        """What in a configuration would run code: one sentence for each layer."""
        found: dict[str, str] = {}
        for item in items(config):
            why = self._why(item)
            if why and item.owner not in found:
                found[item.owner] = f"{item.owner} {why}."
        return list(found.values())

    def _why(self, item: Item) -> str:
        """Why an object is refused; empty if it is not."""
        if item.kind == "__lambda__" or any(
            key.endswith("_type") and value == "lambda" for key, value in item.config.items()
        ):
            return "brings a Python function of its own"
        if isinstance(item.config.get("vocabulary"), str):
            return "reads its vocabulary from a file of this machine"
        if item.kind == "function":
            name, module = item.said.get("config"), item.said.get("module")
            return (
                ""
                if self._is_function(name, module)
                else f"calls {name!r} of the module {module!r}"
            )
        if item.kind in PLAIN or self._is_known(item):
            return ""
        return self._foreign(item)

    def _is_known(self, item: Item) -> bool:
        """Whether the user has registered the class, in the way that Keras will look it up."""
        registered = item.said.get("registered_name", item.kind)
        return self._registered(registered if item.said.get("module") else item.kind)

    def _registered(self, name: Any) -> bool:
        if not isinstance(name, str):
            return False
        return (
            name in self._custom
            or self._keras.saving.get_registered_object(name, self._custom) is not None
        )

    def _foreign(self, item: Item) -> str:
        """Why an object of a class that the user has not registered is refused; empty if it is not."""
        module, function = item.said.get("module"), item.config.get("function")
        found = self._own_class(item.kind, module)
        if found is None:
            if self._opaque and not module:
                return ""
            where = f" of the module {module!r}" if module else ""
            return f"needs a class '{item.kind}'{where}, which is not registered here"
        names = {base.__name__ for base in found.__mro__}
        if "Lambda" in names and self._registered(_named(function)):
            return ""
        if names & set(RUNS_CODE):
            return RUNS_CODE[min(names & set(RUNS_CODE))]
        if "TFOpLambda" in names and not _is_pure(function):
            return f"calls TensorFlow's {function!r}, which does more than compute"
        return ""

    def _own_class(self, kind: str, module: Any) -> type | None:
        """The class of this Keras that a configuration names, if it is one a network is made of."""
        found = None
        for space in self._spaces(module, CLASSES):
            found = getattr(space, kind, None)
            if isinstance(found, type):
                break
        else:
            found = None if module else self._by_name().get(kind)
        return found if found is not None and issubclass(found, self._bases()) else None

    def _is_function(self, name: Any, module: Any) -> bool:
        """Whether it is the user's, or an activation, initializer, ... of this Keras."""
        if self._registered(name):
            return True
        if not isinstance(name, str) or not isinstance(module, str):
            return False
        spaces = [getattr(self._keras, space, None) for space in FUNCTIONS]
        root, _, rest = module.partition(".")
        fits = module == "builtins" or (
            root in backends.NAMES and rest.removeprefix("src.").partition(".")[0] in FUNCTIONS
        )
        return fits and any(callable(getattr(space, name, None)) for space in spaces)

    def _spaces(self, module: Any, default: tuple[str, ...]) -> Iterator[Any]:
        """Where a class may be found: the module that is named, of this Keras, or the public ones."""
        if not module:
            yield from (getattr(self._keras, name, None) for name in default)
            return
        root, _, rest = str(module).partition(".")
        if root not in backends.NAMES:
            return
        # What Keras has not imported itself is not imported for the sake of a file.
        yield sys.modules.get(f"{self._name}.{rest}" if rest else self._name)
        space = self._keras
        for part in rest.split(".") if rest else ():
            space = getattr(space, part, None)
        yield space

    def _bases(self) -> tuple[type, ...]:
        keras = self._keras
        found = [keras.layers.Layer, keras.initializers.Initializer, keras.regularizers.Regularizer]
        found += [keras.constraints.Constraint, keras.losses.Loss, keras.metrics.Metric]
        found += [keras.optimizers.Optimizer, keras.optimizers.schedules.LearningRateSchedule]
        if self._name == "tf_keras":
            return (*found, keras.mixed_precision.Policy, keras.optimizers.legacy.Optimizer)
        policies = keras.dtype_policies
        return (*found, keras.Operation, policies.DTypePolicy, policies.DTypePolicyMap)

    def _by_name(self) -> Mapping[str, type]:
        """Every class of this Keras that a network is made of, by name: what has no public place among them."""
        found: dict[str, type] = {}
        waiting = list(self._bases())
        while waiting:
            base = waiting.pop()
            if base.__module__.partition(".")[0] == self._name:
                found.setdefault(base.__name__, base)
            waiting += base.__subclasses__()
        return found


def _named(function: Any) -> Any:
    """The name of a function that a Lambda layer calls."""
    return function.get("config") if isinstance(function, Mapping) else function


def _is_pure(symbol: Any) -> bool:
    """Whether a public name of TensorFlow is a function from tensors to tensors.

    Example:
        >>> _is_pure("math.add"), _is_pure("io.write_file"), _is_pure("load_op_library")
        (True, False, False)
    """
    found: Any = backends.tensorflow()
    if not isinstance(symbol, str):
        return False
    if symbol.startswith("__operators__."):
        return True
    for part in symbol.split("."):
        found = getattr(found, part, None)
    # Decorators of TensorFlow keep the function beneath.
    module = getattr(getattr(found, "__wrapped__", found), "__module__", None)
    return module in PURE
