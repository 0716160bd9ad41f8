"""Backbones of KerasHub with small random weights, cut by 30 % of the units: what opens, what stays closed, how exact.

    python -m tests.benchmarks keras_hub [--backbones=ViT,Bert,...]

Needs the package `keras-hub` (0.32.0 with `--no-deps`, and kagglehub, kagglesdk, tokenizers, regex, rich, tqdm,
pyyaml); nothing is downloaded. `closed` counts composite layers that could not be opened, `cause` says why the first of
them could not, or what failed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from networks import outputs_of

from keras_robust_prune.keras_io.agreement import random_values
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.keras_io.symbolic import key_of, map_tensors
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import Norm
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks.benchmark import Benchmark, Row
from tests.benchmarks.zoo import prunable_params

TEXT: dict[str, Any] = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16}
TEXT |= {"intermediate_dim": 32}
ENCODER = {**TEXT, "num_heads": 4, "max_sequence_length": 40}
DECODER = {**TEXT, "num_query_heads": 4, "num_key_value_heads": 2}
IMAGE: dict[str, Any] = {"image_shape": (32, 32, 3)}
VIT = {**IMAGE, "patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 16}
SMOL = {**TEXT, "num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": False}
MIT = {"layerwise_depths": (1, 1), "num_layers": 2, "layerwise_num_heads": (1, 2)}
MIT |= {"layerwise_sr_ratios": (2, 1), "max_drop_path_rate": 0.1, "layerwise_patch_sizes": (7, 3)}
MIT |= {"layerwise_strides": (4, 2), "hidden_dims": (8, 16)}
RESNET = {"input_conv_filters": [64], "input_conv_kernel_sizes": [3]}
RESNET |= {"stackwise_num_filters": [64, 128], "stackwise_num_blocks": [1, 1]}
RESNET |= {"stackwise_num_strides": [1, 2], "block_type": "basic_block"}
CSP = {"stem_filters": 8, "stem_kernel_size": 3, "stem_strides": 1, "stackwise_depth": [1, 1]}
CSP |= {
    "stackwise_strides": [1, 2],
    "stackwise_num_filters": [8, 16],
    "block_type": "bottleneck_block",
    "stage_type": "csp",
}

# The arguments of each small backbone.
BACKBONES: dict[str, dict[str, Any]] = {
    "Bert": ENCODER,
    "Roberta": ENCODER,
    "XLMRoberta": ENCODER,
    "DistilBert": ENCODER,
    "Albert": {**ENCODER, "embedding_dim": 8},
    "Bart": ENCODER,
    "Bloom": {**TEXT, "num_heads": 4},
    "DebertaV3": ENCODER,
    "ESM2": {**TEXT, "num_heads": 4},
    "Electra": {**{k: v for k, v in ENCODER.items() if k != "vocabulary_size"}}
    | {"vocab_size": 50, "embedding_dim": 8},
    "FNet": {**TEXT, "max_sequence_length": 40},
    "Falcon": {**TEXT, "num_attention_heads": 4},
    "GPT2": ENCODER,
    "GPTNeoX": {**TEXT, "num_heads": 4, "max_sequence_length": 40},
    "Gemma": {**DECODER, "head_dim": 4},
    "Llama": DECODER,
    "Mistral": DECODER,
    "OPT": ENCODER,
    "Phi3": DECODER,
    "Qwen2": DECODER,
    "Qwen3": {**DECODER, "head_dim": 4},
    "T5": {**TEXT, "num_heads": 4},
    "ViT": {**VIT, "mlp_dim": 32},
    "DeiT": {**VIT, "intermediate_dim": 32},
    "DINOV2": {**VIT, "intermediate_dim": 32},
    "MiT": {**MIT, **IMAGE},
    "ResNet": {**RESNET, **IMAGE},
    "CSPNet": {**CSP, **IMAGE},
    "VGG": {"stackwise_num_repeats": [1, 1], "stackwise_num_filters": [8, 16], **IMAGE},
    "DenseNet": {"stackwise_num_repeats": [2, 2], "growth_rate": 8, **IMAGE},
    "SwinTransformer": {"image_shape": (32, 32, 3), "embed_dim": 8, "depths": (1, 1)}
    | {"num_heads": (2, 2), "window_size": 4},
}

NAMES = flags.DEFINE_list("backbones", list(BACKBONES), "Which backbones.")


def cases() -> Iterator[dict[str, str]]:
    """Every backbone by name."""
    for name in NAMES.value:
        yield {"name": name}


def make(name: str) -> Any:
    """A small backbone with random weights."""
    import keras_hub  # an optional package

    return getattr(keras_hub.models, f"{name}Backbone")(**BACKBONES[name])


def measure(name: str) -> Iterator[dict[str, Any]]:
    """One backbone, from its Keras model to the cut one."""
    begin = time.perf_counter()
    try:
        found = cut_by_norm(make(name))
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        found = {"cause": " ".join(lines[:2])[:200]}
    yield {**dict.fromkeys(COLUMNS, ""), **found, "seconds": round(time.perf_counter() - begin, 1)}


COLUMNS = ("closed", "groups", "prunable", "params", "params_after", "macs", "macs_after")
COLUMNS += ("difference", "cause")


def cut_by_norm(model: Any, target: float = 0.3) -> dict[str, Any]:
    """What 30 % of the units less by norm make of a model."""
    graph = read(model)
    closed = [layer for layer in graph.layers.values() if layer.closed]
    causes = [f"{layer.kind} {layer.closed}"[:160] for layer in closed]
    groups = find_groups(graph)
    plan = list(Norm().steps(Problem(graph, groups, target=target, step=target)))[-1].plan
    smaller = cut(graph, groups, plan)
    values = random_values(model.inputs)
    inputs = map_tensors(lambda tensor: values[key_of(tensor)], model.input)
    wanted = outputs_of(build(mask(graph, groups, plan)), inputs)
    pairs = zip(outputs_of(build(smaller), inputs), wanted, strict=True)
    return {
        "closed": len(closed),
        "groups": len(groups.groups),
        "prunable": round(prunable_params(graph, groups) / graph.num_params, 3),
        "params": graph.num_params,
        "params_after": smaller.num_params,
        "macs": num_macs(graph),
        "macs_after": num_macs(smaller),
        "difference": max(
            float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max()))
            for ours, theirs in pairs
        ),
        "cause": causes[0] if causes else "",
    }


def summary(rows: list[Row], _: Path) -> str:
    """How many backbones lose what is asked."""
    done = [row for row in rows if row["groups"] != ""]
    exact = sum(float(row["difference"]) <= 1e-5 for row in done)
    less = sum(
        min(float(row[f"{what}_after"]) / float(row[what]) for what in ("params", "macs")) <= 0.7
        for row in done
    )
    return (
        f"{len(rows)} backbones: {len(done)} can be cut, cut equals mask in {exact}, {less} lose 30 % of"
        " parameters or MACs"
    )


BENCHMARK = Benchmark(
    cases=cases, measure=measure, quick={"backbones": ["ViT"]}, afterwards=summary
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
