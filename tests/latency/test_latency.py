"""Latency tables: what is timed, how it is looked up, and what a network is said to take."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_robust_prune import backends
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.latency import files
from keras_robust_prune.latency.kernels import Kernel, kernels_of
from keras_robust_prune.latency.prediction import Latency, predict
from keras_robust_prune.latency.table import LatencyTable
from keras_robust_prune.latency.tiles import tile, widest_tile
from keras_robust_prune.latency.writing import copies_of, probe
from keras_robust_prune.surgery.groups import find_groups

CONV = Kernel("CONV_2D", 3, 3, 2, 6, 6, 4, 8)
DEPTHWISE = Kernel("DEPTHWISE_CONV_2D", 3, 3, 1, 6, 6, 8, 8)
POINTWISE = Kernel("CONV_2D", 1, 1, 1, 6, 6, 8, 16)
DENSE = Kernel("FULLY_CONNECTED", 1, 1, 1, 1, 1, 16, 5)


def small(keras: str = "tf_keras") -> Any:
    module = backends.module(keras)
    module.utils.set_random_seed(0)
    layers = module.layers
    return module.Sequential(
        [
            layers.Input((12, 12, 4)),
            layers.Conv2D(8, 3, strides=2, padding="same", name="first"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", name="each"),
            layers.Conv2D(16, 1, activation="relu", name="mix"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, "softmax", name="last"),
        ]
    )


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_kernels_are_found(keras: str) -> None:
    uses = kernels_of(read(small(keras)))
    assert [use.kernel for use in uses] == [CONV, DEPTHWISE, POINTWISE, DENSE]
    assert [use.axes for use in uses] == [(2, 3), (2, 2), (2, 3), (0, 1)]


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_a_depthwise_layer_of_one_channel_is_none_that_mixes(keras: str) -> None:
    layers = backends.module(keras).layers
    chain = [
        layers.Input((6, 6, 1)),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.Conv2D(1, 1),
    ]
    uses = kernels_of(read(backends.module(keras).Sequential(chain)))
    assert [use.kernel for use in uses] == [
        Kernel("DEPTHWISE_CONV_2D", 3, 3, 1, 6, 6, 1, 1),
        Kernel("CONV_2D", 1, 1, 1, 6, 6, 1, 1),
    ]


def test_a_separable_layer_has_two_and_a_transposed_one_has_none() -> None:
    layers = backends.tf_keras().layers
    model = backends.tf_keras().Sequential(
        [layers.Input((8, 8, 4)), layers.SeparableConv2D(6, 3, strides=2, padding="same")]
    )
    assert [use.kernel for use in kernels_of(read(model))] == [
        Kernel("DEPTHWISE_CONV_2D", 3, 3, 2, 4, 4, 4, 4),
        Kernel("CONV_2D", 1, 1, 1, 4, 4, 4, 6),
    ]
    up = backends.tf_keras().Sequential(
        [layers.Input((8, 8, 4)), layers.Conv2DTranspose(4, 3, 2, name="up")]
    )
    with pytest.raises(ValueError, match=r"'up' \(Conv2DTranspose\).*measure='macs'"):
        kernels_of(read(up))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("kernel", [CONV, DEPTHWISE, POINTWISE, DENSE], ids=str)
def test_probes_run_in_the_type_and_shape_they_are_named_after(kernel: Kernel, dtype: str) -> None:
    interpreter = backends.interpreter(probe(kernel, dtype, copies=2))
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    outputs = interpreter.get_output_details()
    assert len(outputs) == 2
    shape = [1, 5] if kernel.operator == "FULLY_CONNECTED" else [1, 6, 6, kernel.channels_out]
    assert outputs[0]["shape"].tolist() == shape
    assert given["dtype"] == np.dtype(dtype)
    interpreter.set_tensor(given["index"], np.ones(given["shape"], dtype))
    interpreter.invoke()
    found = [interpreter.get_tensor(detail["index"]) for detail in outputs]
    assert all((value >= 0).all() for value in found)  # ReLU
    assert not np.array_equal(*found)  # weights of their own


@pytest.mark.parametrize(
    ("width", "dtype", "copies"),
    # 64 x 64 places write 16 KiB of float32 per channel, 4 KiB of int8; all copies together 1 MiB at most.
    [(256, "float32", 1), (32, "float32", 2), (8, "float32", 6), (256, "int8", 1), (64, "int8", 4)],
)
def test_copies_that_write_much_are_fewer(width: int, dtype: str, copies: int) -> None:
    assert copies_of(Kernel("CONV_2D", 1, 1, 1, 64, 64, 4, width), dtype) == copies


def test_the_list_of_probes_says_how_many_copies_each_file_holds(tmp_path: Path) -> None:
    layers = backends.tf_keras().layers
    model = backends.tf_keras().Sequential(
        [
            layers.Input((64, 64, 4)),
            layers.Conv2D(64, 1),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    files.probes(model, tmp_path / "probes", steps=4)
    with open(tmp_path / "probes" / "probes.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["operator"] == "CONV_2D"]
    held = [
        len(backends.interpreter(tmp_path / "probes" / row["file"]).get_output_details())
        for row in rows
    ]
    assert [int(row["channels_out"]) for row in rows] == [16, 32, 48, 64]
    assert held == [int(row["copies"]) for row in rows] == [4, 2, 1, 1]


def test_between_entries_it_goes_up_and_beyond_them_it_refuses() -> None:
    times = {CONV.of_widths(a, b): t for a, b, t in [(4, 8, 3), (4, 4, 1), (2, 8, 2)]}
    table = LatencyTable(times, about={"device": "toy"}, tile=1)
    assert [table(CONV.of_widths(*pair)) for pair in [(4, 8), (3, 4), (2, 5), (1, 1)]] == [
        3,
        1,
        2,
        1,
    ]
    # What was timed counts, though a wider one happened to be faster.
    assert LatencyTable({CONV: 1.0, CONV.of_widths(4, 4): 2.0})(CONV.of_widths(4, 4)) == 2.0
    with pytest.raises(ValueError, match=r"of toy ends before CONV_2D 3x3/2 6x6 4-9.*probes"):
        table(CONV.of_widths(4, 9))
    with pytest.raises(ValueError, match="ends before"):
        table(POINTWISE)


def test_inside_the_grid_it_goes_up_to_a_tile_and_in_proportion() -> None:
    """It went up to the next entry: of 64 for 33 where 48 are computed, and predictions were a third too high."""
    wide = CONV.of_widths(64, 64)
    times = {wide.of_widths(a, b): a * b / 1000 + 1 for a in (32, 64) for b in (32, 64)}
    table = LatencyTable(times, tile=16)
    assert table(wide) == pytest.approx(5.096)
    assert table(wide.of_widths(64, 33)) == pytest.approx(64 * 48 / 1000 + 1)
    assert table(wide.of_widths(48, 48)) == pytest.approx(48 * 48 / 1000 + 1)
    assert table(wide.of_widths(3, 5)) == pytest.approx(32 * 32 / 1000 + 1)
    with pytest.raises(ValueError, match="ends before"):
        table(wide.of_widths(64, 65))
    each = DEPTHWISE.of_widths(64, 64)
    diagonal = LatencyTable({each.of_widths(a, a): a / 10 for a in (16, 64)}, tile=16)
    assert diagonal(each.of_widths(20, 20)) == pytest.approx(3.2)
    assert diagonal(each.of_widths(64, 64)) == pytest.approx(6.4)


def test_an_entry_below_a_tile_counts() -> None:
    """Eight channels were said to take what sixteen take, though both had been timed: narrow layers saved nothing."""
    times = {CONV.of_widths(4, b): b / 10 for b in (4, 8, 16, 32, 64)}
    table = LatencyTable(times, tile=16)
    found = [table(CONV.of_widths(4, b)) for b in (4, 5, 8, 9, 16, 17, 32, 33)]
    assert found == pytest.approx([0.4, 0.8, 0.8, 1.6, 1.6, 3.2, 3.2, 4.8])


def test_tiles_of_devices() -> None:
    found = [tile("cpu", dtype) for dtype in ("float32", "float16", "dynamic", "int8_uint8")]
    assert found == [8, 16, 16, 16]
    assert (tile("gpu", "int8"), tile("hexagon")) == (4, 32)
    with pytest.raises(ValueError, match="'tpu', but it is one of"):
        tile("tpu")
    assert tile("host", "int8") in (4, 8, 16, 32)
    # One stair of 16, of which two widths are noise; then none at all.
    stairs = {width: -(-width // 16) * 1.0 for width in range(4, 65, 4)}
    assert widest_tile(stairs) == 16
    assert widest_tile({**stairs, 20: 2.1, 52: 3.9}) == 16
    assert widest_tile({width: float(width) for width in range(4, 65, 4)}) == 4


def test_tables_survive_a_file(tmp_path: Path) -> None:
    about = {"device": "a, b", "soc": "c", "runtime": "d 1", "threads": "1", "dtype": "int8"}
    table = LatencyTable({CONV: 0.25, DENSE: 0.125}, 0.5, 100, about)
    table.save(tmp_path / "t.csv")
    found = LatencyTable.load(tmp_path / "t.csv")
    assert (found.times, found.rest, found.values, found.about) == (table.times, 0.5, 100, about)
    assert found.rest_of(50) == 0.25
    (tmp_path / "u.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no latency table"):
        LatencyTable.load(tmp_path / "u.csv")


def counting(graph: Graph) -> LatencyTable:
    """A table in which every product of widths takes a microsecond."""
    times = {}
    for use in kernels_of(graph):
        for a in range(1, use.kernel.channels_in + 1):
            for b in range(1, use.kernel.channels_out + 1):
                times[use.kernel.of_widths(a, b)] = a * b / 1000
    return LatencyTable(times, tile=1)


def test_a_network_takes_what_its_kernels_take() -> None:
    graph = read(small())
    table = counting(graph)
    # first 4 x 8, each 8 x 8, mix 8 x 16, last 16 x 5
    assert predict(graph, table) == pytest.approx((32 + 64 + 128 + 80) / 1000)
    groups = find_groups(graph).groups
    remaining = Latency(table).remaining(graph, groups)
    assert remaining.total == pytest.approx(0.304)
    by_first = {"first": 2, "mix": 6}
    # first 4 x 6, each 6 x 6, mix 6 x 10, last 10 x 5
    assert remaining(by_first) == pytest.approx((24 + 36 + 60 + 50) / 1000)


def test_what_is_beside_kernels_shrinks_with_what_they_write() -> None:
    graph = read(small())
    table = LatencyTable(counting(graph).times, rest=1.0, values=10, tile=1)
    groups = find_groups(graph).groups
    remaining = Latency(table).remaining(graph, groups)
    kernels = Latency(counting(graph)).remaining(graph, groups)
    rest = remaining.total - kernels.total
    # Written: 36 x 8, 36 x 8, 36 x 16 and 5; half of "mix" gone leaves 288 of the 576.
    after = remaining({"mix": 8}) - kernels({"mix": 8})
    assert after / rest == pytest.approx((288 + 288 + 288 + 5) / (288 + 288 + 576 + 5))


def test_probes_are_written_timed_and_read_back(tmp_path: Path) -> None:
    model = small()
    folder = tmp_path / "probes"
    grid = files.probes(model, folder, "float32", steps=2)
    # first: 4-4, 4-8; each: 4-4, 8-8; mix: 4 and 8 by 8 and 16; last: 8-5, 16-5. The input's 4 channels stay.
    assert len(grid) == 2 + 2 + 4 + 2
    assert {path.name for path in folder.iterdir()} == {
        *(f"probe_{k:04d}.tflite" for k in range(10)), "probes.csv", "run.sh", "whole_network.tflite"
    }  # fmt: skip
    with pytest.raises(FileExistsError, match="empty it"):
        files.probes(model, folder)
    table = files.measure(folder, rounds=2, seconds=0.001)
    assert set(table.times) == set(grid)
    # The dense network comes out as it was timed: parts and rest sum to the whole.
    assert predict(model, table) == pytest.approx(
        sum(table.times[k] for k in (CONV, DEPTHWISE, POINTWISE, DENSE)) + table.rest
    )
    assert table.about["dtype"] == "float32"
    assert table.about["runtime"].startswith(("ai-edge-litert", "tensorflow"))


def test_the_script_for_a_phone_is_a_script_and_its_logs_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "probes"
    files.probes(small(), folder, steps=1)
    subprocess.run(["sh", "-n", str(folder / "run.sh")], check=True)
    with pytest.raises(ValueError, match=r"5 of 5 probes have no result.*run\.sh"):
        files.read_phone(folder)
    results = folder / "results"
    results.mkdir()
    (results / "device.txt").write_text("Pixel 9\nTensor G4\n")
    with open(folder / "probes.csv", newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    for number, name in enumerate(names, 1):
        lines = [
            f"Inference timings in us: Init: 9, First inference: 8, Warmup (avg): 7, Inference (avg): {t}\n"
            for t in (1000 * number, 600 * number)
        ]
        (results / f"{name}.log").write_text("".join(lines))
    table = files.read_phone(folder)
    assert table.about["device"] == "Pixel 9"
    # 600 microseconds are six copies of the first kernel; parts sum to (1 + 2 + 3 + 4) / 10 ms, the whole is 3 ms.
    assert table.times[CONV] == pytest.approx(0.1)
    assert table.rest == pytest.approx(3 - 1)
