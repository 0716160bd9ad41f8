"""Backbones of KerasHub, networks by hand and subclassed models, small, random, cut by 30 % of the units.

What opens, what is left, how exact it is.

    python -m tests.benchmarks keras_hub [--backbones=ViT,Bert,swin,...]

Needs the package `keras-hub` (0.32.0 with `--no-deps`, and kagglehub, kagglesdk, tokenizers, regex, rich, tqdm,
pyyaml); nothing is downloaded. `lite` is the largest difference of the cut network's .tflite file from it. `closed`
counts composite layers that could not be opened, `cause` says why the first of them could not, what failed, or what
keeps most units where less than 30 % go. Every backbone is measured as it stands and, as people use it, under a dense
layer for each output (`head_*`): what is an output is kept, and in a transformer that is the whole trunk.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networks_idioms
import networks_subclassed
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

SUBCLASSED = {
    f"{keras}.{name}": (name, keras)
    for name in networks_subclassed.NETWORKS
    for keras in backends.NAMES
}
BY_HAND = (*networks_idioms.NETWORKS, *SUBCLASSED)
NAMES = flags.DEFINE_list("backbones", [*BY_HAND, *hub_composed.NAMES], "Which networks.")
LITE = flags.DEFINE_bool("lite", True, "Whether the cut network's .tflite file is compared, too.")


def cases() -> Iterator[dict[str, str]]:
    """Every backbone by name."""
    for name in NAMES.value:
        yield {"name": name}


def measure(name: str) -> Iterator[dict[str, Any]]:
    """One backbone, from its Keras model to the cut one."""
    begin = time.perf_counter()
    try:
        model, x = made(name)
        found = cut_by_norm(model, x)
        if LITE.value:
            found["lite"] = lite(found["model"], model)
        if name not in BY_HAND:
            with contextlib.suppress(Exception):  # the row then stands as it is
                under = cut_by_norm(headed(model))
                found |= {f"head_{key}": under[key] for key in HEADED}
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        found = {"cause": " ".join(lines[:2])[:200]}
    row = {**dict.fromkeys(COLUMNS, ""), **found, "seconds": round(time.perf_counter() - begin, 1)}
    yield {key: value for key, value in row.items() if key != "model"}


def made(name: str) -> tuple[Any, Any]:
    """A network and inputs for it, None where it has inputs of its own to make them from."""
    if name in SUBCLASSED:
        return networks_subclassed.make(*SUBCLASSED[name])
    return (networks_idioms if name in networks_idioms.NETWORKS else hub_composed).make(name), None


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
    """A backbone under a dense layer for each of its outputs, as it is used: its trunk is no output then.

    Outputs that compare the inputs of a batch, as those of two towers, stand behind a head as it is.
    """
    keras = backends.keras()
    outputs = keras.tree.flatten(model.output)
    heads = [
        keras.layers.Dense(10, name=f"head_{k}")(tensor) if tensor.shape[-1] else tensor
        for k, tensor in enumerate(outputs)
        if "float" in str(tensor.dtype) and len(tensor.shape) > 1
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


def cut_by_norm(model: Any, x: Any = None, target: float = 0.3) -> dict[str, Any]:
    """What 30 % of the units less by norm make of a model, compared on inputs that are given or made."""
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
    if x is None:
        values = random_values(model.inputs)
        x = map_tensors(lambda tensor: values[key_of(tensor)], model.input)
    built, wanted = build(smaller), outputs_of(build(mask(graph, groups, plan)), x)
    pairs = zip(outputs_of(built, x), wanted, strict=True)
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
    hub = [row for row in rows if row["name"] not in BY_HAND]
    by_hand = [row for row in rows if row["name"] in BY_HAND]
    return "\n".join([_summary(hub, "backbones"), _summary(by_hand, "networks by hand")])


def _summary(rows: list[Row], what: str) -> str:
    done = [row for row in rows if str(row["groups"])]
    exact = sum(float(row["difference"]) <= 1e-5 for row in done)
    less = sum(is_less(row) for row in done)
    said = (
        f"{len(rows)} {what}: {len(done)} can be cut, cut equals mask in {exact}, {less} lose 30 % of parameters"
        f" or MACs as they stand"
    )
    headed = [row for row in done if str(row["head_params"])]
    if headed:
        less = sum(is_less(row, "head_") for row in headed)
        said += f", {less} of all under a dense head ({less / len(rows):.1%})"
    return said + "."


BENCHMARK = Benchmark(
    cases=cases, measure=measure, quick={"backbones": ["ViT"]}, afterwards=summary
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
