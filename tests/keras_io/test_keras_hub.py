"""A few backbones of KerasHub, opened and cut; the benchmark `keras_hub` has all of them."""

from __future__ import annotations

import importlib.util

import pytest

from tests.benchmarks.parity import hub_composed, keras_hub

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="keras-hub is not installed"
)


@pytest.mark.parametrize("name", ["ViT", "MiT", "GPT2", "Llama", "SwinTransformer"])
@pytest.mark.filterwarnings("ignore:.*computes something else in training")
def test_a_backbone_is_opened_and_cut(name: str) -> None:
    found = keras_hub.cut_by_norm(hub_composed.make(name), target=0.5)
    assert found["closed"] == 0, found["cause"]
    assert found["difference"] <= 1e-5
    assert found["macs_after"] <= 0.75 * found["macs"]
