"""Every notebook runs from its first cell to its last, and says what it promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.run_notebooks import FOLDER, executed, text_of

pytestmark = pytest.mark.slow


def test_every_notebook_is_tested_here() -> None:
    source = Path(__file__).read_text()
    for path in FOLDER.glob("*.ipynb"):
        assert f'executed("{path.name}"' in source


def num_plots(outputs: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def accuracies(text: str) -> list[float]:
    return [float(share) for share in re.findall(r"accuracy ([\d.]+)", text)]


def test_quickstart(tmp_path: Path) -> None:
    outputs = executed("quickstart.ipynb", tmp_path)
    text = text_of(outputs)
    assert "can be pruned" in text
    assert "decided on T1" in text
    assert num_plots(outputs) == 1
    share = re.search(r"([\d.]+) of the test images", text)
    assert share is not None
    assert float(share[1]) >= 0.9
    assert (tmp_path / "history.csv").read_text().count("\n") == 1 + 12


def test_callbacks(tmp_path: Path) -> None:
    outputs = executed("callbacks.ipynb", tmp_path)
    text = text_of(outputs)
    assert num_plots(outputs) == 1
    found = accuracies(text)
    assert len(found) == 4  # in tf_keras and Keras 3, before and after
    assert min(found) > 0.75
    for keras in ("tf_keras", "keras"):
        assert f"{keras}: 37,738 parameters before, 2,530 after" in text
        assert f"{keras}: 32 of 64 units" in text
        assert (tmp_path / f"{keras}.csv").read_text().count("\n") == 1 + 12
        assert any((tmp_path / "logs" / keras).rglob("events.out.*"))
    assert re.search(r"agreement>=0.9: 0?1?\.\d+, 0.9000 needed", text)


def test_residual(tmp_path: Path) -> None:
    outputs = executed("residual.ipynb", tmp_path)
    text = text_of(outputs)
    assert num_plots(outputs) == 1
    assert re.search(r"^stem +stem, first_b, second_b +first_a, second_a, digit +16 ", text, re.M)
    found = accuracies(text)
    assert len(found) == 1 + 4
    assert found[0] > 0.85
    assert min(found) > 0.3
    macs = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) MACs,", text)]
    assert macs[0] == 152_144  # 8 of 16 units everywhere
    assert all(0.3 < one / 599_200 < 0.55 for one in macs[1:])


def test_robustness(tmp_path: Path) -> None:
    outputs = executed("robustness.ipynb", tmp_path)
    text = text_of(outputs)
    assert num_plots(outputs) == 1
    dense, pruned, by_norm = (
        float(share) for share in re.findall(r"^clean +(\d?\.\d+)", text, re.MULTILINE)[:3]
    )
    assert dense > 0.95
    assert pruned > 0.9
    assert by_norm < pruned
    assert "8 inputs, l-inf radius 0.002" in text
    assert "stopping criterion: pgd@0.05>=0.8*dense" in text


def test_with_tfmot(tmp_path: Path) -> None:
    text = text_of(executed("with_tfmot.ipynb", tmp_path))
    assert "50% of the weights are zero" in text
    assert "Prune before: small = krp.prune(model).model" in text
    row = re.search(r"^bytes +(.+)$", text, re.MULTILINE)
    assert row is not None
    dense, dense_int8, small, small_int8, sparse, aware = (
        int(number.replace(",", "")) for number in row[1].split()
    )
    assert dense > 3 * dense_int8 > 6 * small_int8
    assert dense > 3 * small
    assert small > 2 * sparse
    assert small > 2 * aware
    compressed = re.findall(r"(\w+)\.tflite +[\d,]+ bytes, +([\d,]+) compressed", text)
    sizes = {name: int(number.replace(",", "")) for name, number in compressed}
    assert sizes["sparse_int8"] < sizes["small_int8"]


def test_your_own(tmp_path: Path) -> None:
    text = text_of(executed("your_own.ipynb", tmp_path))
    assert "'sequential' has no unit that can be removed" in text
    assert re.search(r"^second +second +digit +16 ", text, re.MULTILINE)
    found = accuracies(text)
    assert len(found) == 4
    assert min(found) > 0.6
    assert "4 inputs, l-inf radius 0.001" in text
    assert (tmp_path / "own.tflite").exists()
