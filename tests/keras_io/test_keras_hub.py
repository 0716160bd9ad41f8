"""The third of KerasHub's backbones that is made fastest, opened and cut; the benchmark `keras_hub` has all of them."""

from __future__ import annotations

import importlib.util

import pytest

from tests.benchmarks.parity import hub_composed, keras_hub

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("keras_hub") is None, reason="keras-hub is not installed"
    ),
    pytest.mark.filterwarnings("ignore:.*computes something else in training"),
    pytest.mark.filterwarnings("ignore:The range of"),  # random weights fit none
]
FEW = ("ViT", "MiT", "GPT2", "Llama", "SwinTransformer")
FASTEST = (
    *("Albert", "Bert", "Bloom", "CSPNet", "DeiT", "DenseNet", "DistilBert", "EfficientNet"),
    *("Electra", "Falcon", "GPTNeoX", "Gemma", "HGNetV2", "Mistral", "OPT", "Phi3", "ResNet"),
    *("VGG", "ViTDet", "Xception"),
)


@pytest.mark.parametrize(
    "name", [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in FASTEST)]
)
def test_a_backbone_under_a_head_is_opened_and_loses_a_third(name: str) -> None:
    found = keras_hub.cut_by_norm(keras_hub.headed(hub_composed.make(name)))
    assert found["closed"] == 0, found["cause"]
    assert found["difference"] <= 1e-5
    assert keras_hub.is_less(found)
