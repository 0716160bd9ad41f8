"""What a file says of itself, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from keras_robust_prune import backends, cli
from keras_robust_prune.exporting.converting import convert
from keras_robust_prune.exporting.describing import describe, describe_tflite
from keras_robust_prune.exporting.quantization import quantization_for
from keras_robust_prune.exporting.runtimes import as_numbers, runtime_of


def content(name: str = "float32", groups: int = 1) -> bytes:
    layers = backends.tf_keras().layers
    model = backends.tf_keras().Sequential(
        [
            layers.Input((6, 6, 4), name="picture"),
            layers.Conv2D(4, 3, groups=groups, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, name="kinds"),
        ]
    )
    return convert(model, quantization_for(name))


def test_operators_types_and_runtime() -> None:
    described = describe(content(), "a.tflite")
    assert [(op.name, op.version, op.count) for op in described.operators] == [
        ("CONV_2D", 1, 1),
        ("FULLY_CONNECTED", 1, 1),
        ("RESHAPE", 1, 1),
    ]
    assert described.runtime == "1.5"
    (given,), (found,) = described.inputs, described.outputs
    assert (given.name, given.shape, given.dtype, given.scale) == (
        "picture",
        (1, 6, 6, 4),
        "float32",
        0,
    )
    assert (found.name, found.shape) == ("kinds", (1, 3))
    assert described.gpu == ()
    assert "picture [1, 6, 6, 4] float32" in str(described)


def test_the_runtime_of_a_dynamic_dense_kernel_is_not_what_an_old_reader_thinks() -> None:
    dynamic = describe(content("dynamic"), "a.tflite")
    (dense,) = (op for op in dynamic.operators if op.name == "FULLY_CONNECTED")
    # Small kernels stay float32; then nothing new is needed.
    assert (dense.version, dynamic.runtime) in ((12, "2.17"), (1, "1.5"))


def test_what_a_gpu_refuses_is_told() -> None:
    grouped = describe(content(groups=2), "a.tflite")
    assert grouped.runtime == "2.9"
    assert "grouped convolution" in grouped.gpu


def test_versions_compare_as_numbers() -> None:
    assert runtime_of("CONV_2D", 5) == "2.4"
    assert runtime_of("CONV_2D", 9) is None
    assert runtime_of("NO_SUCH_OPERATOR", 1) is None
    assert as_numbers("2.9.1") < as_numbers("2.16")


@pytest.mark.parametrize(
    "damage", [b"", b"not a file at all", b"\xff\xff\xff\x7fTFL3" + b"\xff" * 60]
)
def test_what_is_no_file_is_refused(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"no \.tflite file|is damaged"):
        describe_tflite(path)


def test_inspect_takes_any_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(content())
    assert cli.run(["inspect", str(path)]) == 0
    assert "runtime  TensorFlow Lite 1.5 or newer" in capsys.readouterr().out
    assert cli.run(["inspect", str(tmp_path / "b.tflite")]) == 1
    assert "is no file" in capsys.readouterr().err
