"""A checkpoint belongs to one run: everything that decides enters its fingerprint, and damage is told, not met."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import network

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.methods.registry import METHODS
from keras_robust_prune.methods.repair.distillation import Distillation
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.pruning import checkpoint
from keras_robust_prune.pruning.fingerprint import fingerprint
from keras_robust_prune.pruning.pruner import Pruner
from keras_robust_prune.synthesis.kinds import Synthesis

MAGIC = b"keras_robust_prune checkpoint 3\n"


class Stops(backends.tf_keras().callbacks.Callback):
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        raise KeyboardInterrupt


def stopped(
    path: Path, model: Any = None, method: Any = "norm", target: float = 0.5, **given: Any
) -> None:
    """A run that noted its first step."""
    with pytest.raises(KeyboardInterrupt):
        run(path, model, method, target, callbacks=[Stops()], **given)


def run(
    path: Path, model: Any = None, method: Any = "norm", target: float = 0.5, **given: Any
) -> krp.PruningResult:
    settings = {"step": 0.25, "verbose": 0, **given}
    return krp.prune(
        model or with_activation("relu"), target, method=method, checkpoint=path, **settings
    )


def with_activation(kind: str, keras: str = "tf_keras") -> Any:
    """Two dense layers with the same weights whatever the activation and the Keras."""
    module = backends.module(keras)
    layers = [module.layers.Dense(8, activation=kind, name="a"), module.layers.Dense(3, name="b")]
    model = module.Sequential([module.Input((12,), name="in"), *layers], name="m")
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape).astype("f4") for w in model.get_weights()])
    return model


X = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 12)
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "keep": ({}, {"keep": ["b"]}, "keep"),
    "activation": ({"model": ("relu",)}, {"model": ("tanh",)}, "the network"),
    "backend": ({"model": ("relu",)}, {"model": ("relu", "keras")}, "the network"),
    "mirrored calibration": ({"calibration": X}, {"calibration": X[:, ::-1]}, "input_range"),
    "order of calibration": ({"calibration": X}, {"calibration": X[::-1]}, "input_range"),
    "a bound deep in an array": (
        {"input_range": (np.zeros(12), np.ones(12))},
        {"input_range": (np.zeros(12), 1 + np.eye(12)[6])},
        "input_range",
    ),
    "method": ({}, {"method": "random"}, "method"),
    "seed": ({}, {"seed": 1}, "seed"),
    "measure": ({}, {"measure": "params"}, "measure"),
    "round_to": ({}, {"round_to": 2}, "round_to"),
    "memory": ({}, {"memory": 2.0}, "memory"),
    "target": ({}, {"target": 0.75}, "target"),
    "stop": ({}, {"stop": "agreement>=0.1"}, "stop"),
}


@pytest.mark.parametrize(("first", "then", "named"), OTHERS.values(), ids=OTHERS)
def test_another_run_is_refused_and_what_differs_is_named(
    first: dict[str, Any], then: dict[str, Any], named: str, tmp_path: Path
) -> None:
    made = [
        {**given, "model": with_activation(*given["model"])} if "model" in given else given
        for given in (first, then)
    ]
    stopped(tmp_path / "run", **made[0])
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(ValueError, match=rf"another run: {named} differs"):
        run(tmp_path / "run", **made[1])
    assert (tmp_path / "run").read_bytes() == before


def test_every_field_of_a_method_counts(tmp_path: Path) -> None:
    method, few = METHODS["robust"], Synthesis(num_inputs=99)
    prints = {fingerprint(method), fingerprint(dataclasses.replace(method))}
    assert len(prints) == 1
    assert fingerprint(dataclasses.replace(method, synthesis=few)) not in prints


def test_schedules_of_tfmot_are_told_apart_by_what_they_say() -> None:
    sparsity = backends.tfmot().sparsity.keras
    one, same = (sparsity.PolynomialDecay(0.0, 0.5, 0, 4, frequency=1) for _ in range(2))
    other = sparsity.PolynomialDecay(0.0, 0.5, 0, 4, power=2, frequency=1)
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def test_functions_are_told_apart_by_their_code() -> None:
    def of(limit: float) -> Any:
        return lambda step: (True, min(limit, step / 8))

    assert fingerprint(of(0.5)) == fingerprint(of(0.5)) != fingerprint(of(0.25))


@pytest.mark.slow
def test_a_run_with_a_schedule_goes_on_in_a_new_process(tmp_path: Path) -> None:
    """`repr` of a schedule names its address, so it never did."""
    program = """
import sys
import numpy as np
import keras_robust_prune as krp
from keras_robust_prune import backends, demo
sparsity = backends.tfmot().sparsity.keras
schedule = sparsity.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=4, frequency=1)
class Stops(backends.tf_keras().callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if sys.argv[1] == "first":
            sys.exit(3)
found = krp.prune(str(demo.FOLDER / "digits.h5"), schedule=schedule, method="norm", checkpoint="run",
                  callbacks=[Stops()], verbose=0)
print("steps", len(found.history["params"]))
"""
    env = {**os.environ, "PYTHONPATH": str(Path(krp.__file__).parents[1])}
    for word, status in (("first", 3), ("then", 0)):
        found = subprocess.run(
            [sys.executable, "-c", program, word],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == status, found.stderr
    assert "steps 3" in found.stdout


def test_every_damage_is_told(tmp_path: Path) -> None:
    """Truncated at every tenth, and a bit flipped in every region."""
    path = tmp_path / "run"
    model = network("mlp")
    stopped(path, model)
    whole = path.read_bytes()
    damaged = [whole[: len(whole) * part // 10] for part in range(1, 10)]
    for place in range(40, len(whole), len(whole) // 10):
        damaged.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged.*Delete it"):
            run(path, model)
        assert path.read_bytes() == content
    path.write_bytes(whole)
    assert len(run(path, model).history["params"]) == 1


def rewritten(whole: bytes, change: Any) -> bytes:
    """A checkpoint with other content and the checksum that belongs to it."""
    body = whole.split(b"\n", 2)[2]
    with np.load(io.BytesIO(body)) as stored:
        arrays = {key: stored[key] for key in stored.files}
    meta = json.loads(str(arrays["__meta__"]))
    change(meta["stages"][""], arrays)
    written = io.BytesIO()
    np.savez(written, **{**arrays, "__meta__": np.array(json.dumps(meta))})
    return (
        MAGIC + hashlib.sha256(written.getvalue()).hexdigest().encode() + b"\n" + written.getvalue()
    )


def nan(state: Any, arrays: Any) -> None:
    key = next(key for key in arrays if key != "__meta__")
    arrays[key] = np.full_like(arrays[key], np.nan)


def shape(state: Any, arrays: Any) -> None:
    key = next(key for key in arrays if key != "__meta__")
    arrays[key] = arrays[key][..., :1]


CRAFTED = {
    "NaN weights": nan,
    "another shape": shape,
    "an unknown weight": lambda state, arrays: state["arrays"].update({'["x", "y"]': "0"}),
    "a negative step": lambda state, arrays: state["said"].update(step=-1),
    "a step that is none": lambda state, arrays: state["said"].update(step="1"),
    "no plan": lambda state, arrays: state["said"].pop("plan"),
    "a plan of another network": lambda state, arrays: state["said"].update(
        plan='{"format": 1, "widths": {"x": 3}, "removals": []}'
    ),
}


@pytest.mark.parametrize("change", CRAFTED.values(), ids=CRAFTED)
def test_what_does_not_fit_the_network_is_told(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "run"
    model = network("mlp")
    stopped(path, model)
    path.write_bytes(rewritten(path.read_bytes(), change))
    with pytest.raises(ValueError, match="does not hold together"):
        run(path, model)


def test_other_formats_are_told(tmp_path: Path) -> None:
    path = tmp_path / "run"
    model = network("mlp")
    path.write_bytes(MAGIC.replace(b"3", b"9") + b"rest")
    with pytest.raises(ValueError, match="format 9"):
        run(path, model)
    np.savez(tmp_path / "old.npz", np.zeros(2))
    with pytest.raises(FileExistsError, match="is no checkpoint"):
        run(tmp_path / "old.npz", model)


def test_a_second_fit_notes_its_steps_too(tmp_path: Path) -> None:
    pruner = Pruner(network("mlp"))
    for target in (0.25, 0.5):
        pruner.compile("norm", target, step=0.25, checkpoint=tmp_path / str(target))
        pruner.fit(verbose=0)
    assert {path.name for path in tmp_path.iterdir()} == {"0.25", "0.5"}


@pytest.mark.parametrize("keras", backends.NAMES)
def test_the_one_step_of_robust_goes_on_from_every_part_of_it(
    keras: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at the first write of every kind, one after the other, and ends in the bits of a run left alone."""
    method = Robust(
        repair=(LeastSquares(), Distillation(num_steps=4)), synthesis=Synthesis(num_inputs=64)
    )
    model = network("conv_bn", keras)
    given = {"method": method, "measure": "macs", "verbose": 0}
    whole = krp.prune(model, 0.5, **given)
    monkeypatch.setattr(checkpoint, "BETWEEN", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 0.0)
    put, written = checkpoint.Checkpoint.put, [""]

    def stops(self: Any, name: str, stage: Any) -> None:
        put(self, name, stage)
        written.append(name.partition(" ")[0])
        if written[-1] != written[-2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoint, "put", stops)
    kinds = ["inputs", "costs", "repair", "distillation"]
    for kind in kinds:
        with pytest.raises(KeyboardInterrupt):
            krp.prune(model, 0.5, checkpoint=tmp_path / "run", **given)
        assert written[-1] == kind
    found = krp.prune(model, 0.5, checkpoint=tmp_path / "run", **given)
    # Nothing was done twice.
    assert list(dict.fromkeys(written[1:])) == kinds
    assert written.count("inputs") == 1
    assert written.count("distillation") == 4
    assert found.plan.to_json() == whole.plan.to_json()
    assert found.history == whole.history
    for one, two in zip(found.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (tmp_path / "run").stat().st_size < 50_000  # the inputs are gone from it
