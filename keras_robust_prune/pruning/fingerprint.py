"""A hash of everything that decides how a run ends: the same in every process, different where anything differs.

Values are hashed by what they hold, never by how they print: arrays by type, shape and bytes, objects by class and
configuration (`get_config` where there is one, else their fields), functions by their code.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph

# Numbers that Keras gives objects while it writes them; they mean nothing.
UNIMPORTANT = frozenset({"shared_object_id"})


def fingerprint(value: Any) -> str:
    """SHA-256 over what a value holds, as text.

    Args:
        value: numbers, text, arrays, mappings, sequences, and objects made of them.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> fingerprint({"a": 1, "b": (2, 3)}) == fingerprint({"b": [2, 3], "a": 1})
        True
        >>> fingerprint(np.arange(3)) == fingerprint(np.arange(3)[::-1])
        False
        >>> fingerprint(1) == fingerprint(1.0)
        False
    """
    digest = hashlib.sha256()
    for part in _parts(value, ()):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def of_graph(graph: Graph) -> str:
    """The fingerprint of a network: architecture, weights and the Keras that it belongs to."""
    layers = [
        (layer.name, layer.kind, layer.config, layer.weights, layer.trainable)
        for layer in graph.layers.values()
    ]
    nodes = [(node.name, node.layer, node.args, node.kwargs) for node in graph.nodes]
    return fingerprint((graph.keras, layers, nodes, graph.inputs, graph.outputs))


def _parts(value: Any, above: tuple[int, ...]) -> Iterator[bytes]:
    """A value as byte strings, each kind of value marked by its own first one."""
    if value is None or isinstance(value, (bool, int, str, bytes)):
        yield type(value).__name__.encode()
        yield value if isinstance(value, bytes) else str(value).encode()
    elif isinstance(value, float):
        yield from (b"float", value.hex().encode())
    elif isinstance(value, (np.ndarray, np.generic)) and not np.asarray(value).dtype.hasobject:
        array = np.ascontiguousarray(value)
        yield from (b"array", str((array.dtype.str, np.shape(value))).encode(), array.tobytes())
    elif id(value) in above:
        yield from (b"above", str(len(above) - above.index(id(value))).encode())
    else:
        for part in _inside(value):
            if isinstance(part, bytes):
                yield part
            else:
                yield from _parts(part[0], (*above, id(value)))


def _inside(value: Any) -> Iterator[bytes | tuple[Any]]:
    """What a value is made of: marks, and further values in tuples of one."""
    if isinstance(value, Mapping):
        kept = sorted((k for k in value if k not in UNIMPORTANT), key=str)
        yield from (b"mapping", str(len(kept)).encode())
        for key in kept:
            yield (str(key),)
            yield (value[key],)
    elif isinstance(value, (list, tuple, np.ndarray)):
        yield from (b"sequence", str(len(value)).encode())
        yield from ((item,) for item in value)
    elif isinstance(value, (slice, range)):
        yield from (b"places", type(value).__name__.encode())
        yield ((value.start, value.stop, value.step),)
    elif isinstance(value, (complex, type(...))):
        yield from (b"text", repr(value).encode())
    elif isinstance(value, (set, frozenset)):
        yield b"set"
        yield (sorted(fingerprint(item) for item in value),)
    elif isinstance(value, (type, types.BuiltinFunctionType, np.dtype)):
        yield from (b"name", f"{type(value).__name__} {getattr(value, '__name__', value)}".encode())
    elif isinstance(value, types.FunctionType):
        yield from (b"function", value.__code__.co_code)
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        code = value.__code__
        constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
        yield ((code.co_names, constants, value.__defaults__, cells),)
    elif isinstance(value, types.MethodType):
        yield b"method"
        yield (value.__func__,)
        yield (value.__self__,)
    elif hasattr(value, "get_config"):
        yield from (b"object", type(value).__qualname__.encode())
        yield (value.get_config(),)
    elif hasattr(value, "__array__"):
        yield (np.asarray(value),)
    elif hasattr(value, "__dict__") or hasattr(value, "__slots__"):
        yield from (b"object", type(value).__qualname__.encode())
        slots = [n for kind in type(value).__mro__ for n in getattr(kind, "__slots__", ())]
        fields = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        yield ({**fields, **getattr(value, "__dict__", {})},)
    else:
        raise ValueError(
            f"A checkpoint needs to tell {type(value).__qualname__} objects apart, and this one shows nothing of"
            " itself. Give it a get_config(), or prune without a checkpoint."
        )
