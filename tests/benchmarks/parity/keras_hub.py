"""Backbones of KerasHub and networks by hand, small, random, cut by 30 % of the units: what opens, and how exact.

    python -m tests.benchmarks keras_hub [--backbones=ViT,Bert,swin,...]

Needs the package `keras-hub` (0.32.0 with `--no-deps`, and kagglehub, kagglesdk, tokenizers, regex, rich, tqdm,
pyyaml); nothing is downloaded. `lite` is the largest difference of the cut network's .tflite file from it. `closed`
counts composite layers that could not be opened, `cause` says why the first of them could not, what failed, or what
keeps most units where less than 30 % go. Such backbones are measured once more under a dense layer for each output
(`head_*`): what is an output is kept, and in a transformer that is the whole trunk.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networks_idioms
import numpy as np
from absl import flags
from networks import outputs_of

from keras_robust_prune import backends
from keras_robust_prune.exporting.tflite import export_tflite
from keras_robust_prune.keras_io.agreement import random_values
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.keras_io.symbolic import key_of, map_tensors
from keras_robust_prune.methods.problem import Problem
from keras_robust_prune.methods.reference.strategies import Norm
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from tests.benchmarks.benchmark import Benchmark, Row
from tests.benchmarks.parity import hub_composed
from tests.benchmarks.zoo import prunable_params

NAMES = flags.DEFINE_list(
    "backbones", [*networks_idioms.NETWORKS, *hub_composed.NAMES], "Which networks."
)

LITE = flags.DEFINE_list(
    "lite",
    [*networks_idioms.NETWORKS, *hub_composed.NAMES],
    "Of which the cut network's .tflite file is compared, too.",
)


def cases() -> Iterator[dict[str, str]]:
    """Every backbone by name."""
    for name in NAMES.value:
        yield {"name": name}


def measure(name: str) -> Iterator[dict[str, Any]]:
    """One backbone, from its Keras model to the cut one."""
    begin = time.perf_counter()
    try:
        by_hand = name in networks_idioms.NETWORKS
        model = (networks_idioms if by_hand else hub_composed).make(name)
        found = cut_by_norm(model)
        if name in LITE.value:
            found["lite"] = lite(found["model"], model)
        if not is_less(found):
            with contextlib.suppress(Exception):  # the row then stands as it is
                under = cut_by_norm(headed(model))
                found |= {f"head_{key}": under[key] for key in HEADED}
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        found = {"cause": " ".join(lines[:2])[:200]}
    row = {**dict.fromkeys(COLUMNS, ""), **found, "seconds": round(time.perf_counter() - begin, 1)}
    yield {key: value for key, value in row.items() if key != "model"}


# What 30 % less leaves, up to rounding.
LESS = 0.7 + 1e-9
HEADED = ("params", "params_after", "macs", "macs_after", "difference")
COLUMNS = ("closed", "groups", "prunable", "params", "params_after", "macs", "macs_after")
COLUMNS += ("difference", "lite", "cause", *(f"head_{key}" for key in HEADED))


def is_less(row: Row, prefix: str = "") -> bool:
    """Whether 30 % of the parameters or of the operations are gone."""
    left = [float(row[f"{prefix}{k}_after"]) / float(row[prefix + k]) for k in ("params", "macs")]
    return min(left) <= LESS


def headed(model: Any) -> Any:
    """A backbone under a dense layer for each of its outputs, as it is used: its trunk is no output then."""
    keras = backends.keras()
    outputs = keras.tree.flatten(model.output)
    heads = [
        keras.layers.Dense(10, name=f"head_{k}")(tensor)
        for k, tensor in enumerate(outputs)
        if "float" in str(tensor.dtype) and len(tensor.shape) > 1 and tensor.shape[-1]
    ]
    return keras.Model(model.input, heads, name=model.name)


def lite(model: Any, dense: Any) -> float | str:
    """The largest difference of a network's `.tflite` file from it; why there is none, and if the dense has any."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return float(export_tflite(model, Path(folder) / "cut.tflite").max_difference or 0.0)
        except Exception as error:
            reason = str(error).splitlines()[0][:80]
        try:
            export_tflite(dense, Path(folder) / "dense.tflite")
        except Exception:
            return f"nor the dense: {reason}"
        return reason


def cut_by_norm(model: Any, target: float = 0.3) -> dict[str, Any]:
    """What 30 % of the units less by norm make of a model."""
    graph = read(model)
    closed = [layer for layer in graph.layers.values() if layer.closed]
    causes = [f"{layer.kind} {layer.closed}" for layer in closed]
    groups = find_groups(graph)
    plan = list(Norm().steps(Problem(graph, groups, target=target, step=target)))[-1].plan
    smaller = cut(graph, groups, plan)
    if (
        not causes
        and min(num_macs(smaller) / num_macs(graph), smaller.num_params / graph.num_params) > LESS
    ):
        causes = [f"{max(groups.kept, key=lambda item: item.num_units).reason}"]
    values = random_values(model.inputs)
    inputs = map_tensors(lambda tensor: values[key_of(tensor)], model.input)
    wanted = outputs_of(build(mask(graph, groups, plan)), inputs)
    built = build(smaller)
    pairs = zip(outputs_of(built, inputs), wanted, strict=True)
    return {
        "model": built,
        "closed": len(closed),
        "groups": len(groups.groups),
        "prunable": round(prunable_params(graph, groups) / graph.num_params, 3),
        "params": graph.num_params,
        "params_after": smaller.num_params,
        "macs": num_macs(graph),
        "macs_after": num_macs(smaller),
        "difference": max(
            float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max()))
            for ours, theirs in ((np.asarray(a, float), np.asarray(b, float)) for a, b in pairs)
        ),
        "cause": causes[0][:200] if causes else "",
    }


def summary(rows: list[Row], _: Path) -> str:
    """How many backbones lose what is asked."""
    hub = [row for row in rows if row["name"] not in networks_idioms.NETWORKS]
    by_hand = [row for row in rows if row not in hub]
    return "\n".join([_summary(hub, "backbones"), _summary(by_hand, "networks by hand")])


def _summary(rows: list[Row], what: str) -> str:
    done = [row for row in rows if str(row["groups"])]
    exact = sum(float(row["difference"]) <= 1e-5 for row in done)
    less = sum(is_less(row) for row in done)
    more = sum(
        str(row["head_params"]) != "" and is_less(row, "head_") for row in done if not is_less(row)
    )
    return (
        f"{len(rows)} {what}: {len(done)} can be cut, cut equals mask in {exact}, {less} lose 30 % of parameters"
        f" or MACs, {more} more under a dense head ({(less + more) / max(1, len(rows)):.0%})."
    )


BENCHMARK = Benchmark(
    cases=cases, measure=measure, quick={"backbones": ["ViT"]}, afterwards=summary
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
