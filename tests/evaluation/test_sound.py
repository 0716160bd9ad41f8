"""A damaged `.tflite` file is told, where the interpreter would crash the process or not come to an end."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import network

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.evaluation.sound import sound


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lite") / "m.tflite"
    krp.export_tflite(network("conv_bn"), path)
    return path


def packed(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    """A file with its objects changed."""

    def changed(content: bytes) -> bytes:
        model = backends.file_schema().ModelT.InitFromPackedBuf(content, 0)
        change(model)
        return backends.pack_file(model)

    return changed


def of_network(**values: Any) -> Callable[[bytes], bytes]:
    return packed(lambda model: [setattr(model.subgraphs[0], *item) for item in values.items()])


def of_operator(**values: Any) -> Callable[[bytes], bytes]:
    return packed(
        lambda model: [setattr(model.subgraphs[0].operators[1], *item) for item in values.items()]
    )


def of_tensor(**values: Any) -> Callable[[bytes], bytes]:
    return packed(
        lambda model: [setattr(model.subgraphs[0].tensors[0], *item) for item in values.items()]
    )


def of_signature(**values: Any) -> Callable[[bytes], bytes]:
    return packed(lambda model: [setattr(model.signatureDefs[0], *item) for item in values.items()])


def _names_what_is_not_there(model: Any) -> None:
    model.signatureDefs[0].outputs[0].tensorIndex = 255


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half of it": lambda content: content[: len(content) // 2],
    "begins outside": lambda content: struct.pack("<I", 1 << 30) + content[4:],
    "inputs that are not there": of_network(inputs=[4000]),
    "no network": packed(lambda model: setattr(model, "subgraphs", [])),
    "an operator reads what is not there": of_operator(inputs=[0, 4000, 1]),
    "an operator writes what is not there": of_operator(outputs=[-1]),
    "an operator of no kind": of_operator(opcodeIndex=99),
    "a buffer that is not there": of_tensor(buffer=4000),
    "a negative length": of_tensor(shape=[1, -8, 8, 3]),
    "terabytes": of_tensor(shape=[1 << 20, 1 << 20, 1, 1]),
    "a signature of no network": of_signature(subgraphIndex=3),
    "a signature's tensor that is not there": packed(_names_what_is_not_there),
    "a name that is no text": of_tensor(name=b"\xff"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_told(damage: Callable[[bytes], bytes], file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="damaged"):
        krp.evaluate(path, np.zeros((1, 8, 8, 3), np.float32), [0])


def test_what_is_written_anew_computes_the_same(file: Path) -> None:
    rows = np.random.default_rng(0).random((4, 8 * 8 * 3), np.float32)
    (one,), (two,) = LiteFile(file.read_bytes())(rows), LiteFile(sound(file))(rows)
    np.testing.assert_array_equal(one, two)
