"""Composites are opened by tracing, or stay closed with the reason; the user's model is not touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import outputs_of, randomise

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.keras_io.reading import build, load, read
from keras_robust_prune.layers import base
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal

BOTH = pytest.mark.parametrize("keras", backends.NAMES)


@pytest.fixture(autouse=True)
def only_here() -> Any:
    before = dict(base._USERS)
    yield
    base._USERS.clear()
    base._USERS.update(before)


def layer(keras: Any, call: Callable[..., Any], name: str = "own", **parts: Any) -> Any:
    """A layer of a class of its own that holds some parts."""

    class Own(keras.layers.Layer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            for key, part in parts.items():
                setattr(self, key, part)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    Own.call = call
    return Own(name=name)


def around(keras: Any, own: Any, shape: tuple[int, ...] = (6,), width: int = 4) -> Any:
    """A dense layer before a layer, and one behind it."""
    inputs = keras.Input(shape)
    x = keras.layers.Dense(width, name="before")(inputs)
    return randomise(keras.Model(inputs, keras.layers.Dense(3, name="behind")(own(x))))


def example(model: Any) -> np.ndarray:
    shape = (5, *(length or 7 for length in model.inputs[0].shape[1:]))
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def agree_once_cut(model: Any, x: Any, path: Path | None = None) -> dict[str, int]:
    """Read and built the same; cut equals mask; saved and loaded equal. Gives the widths of the groups."""
    dense = outputs_of(model, x)
    graph = read(model)
    for ours, theirs in zip(outputs_of(build(graph), x), dense, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * max(1, np.abs(theirs).max()))
    groups = find_groups(graph)
    widths = dict(groups.widths)
    removals = [Removal(name, unit) for name, width in widths.items() for unit in range(width // 2)]
    plan = Plan(tuple(removals), widths)
    small = build(cut(graph, groups, plan))
    found = outputs_of(small, x)
    for ours, theirs in zip(found, outputs_of(build(mask(graph, groups, plan)), x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * max(1, np.abs(theirs).max()))
    if path is not None:
        small.save(path / "small.keras")
        again = load(path / "small.keras")
        for ours, theirs in zip(outputs_of(again, x), found, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    return widths


def residual_net(keras: Any, build_parts: bool) -> Any:
    """A subclassed model of two composite residual blocks with a gain of their own."""

    class Block(keras.layers.Layer):
        def __init__(self, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.first = keras.layers.Conv2D(width, 3, padding="same", name="first")
            self.norm = keras.layers.BatchNormalization(name="norm")
            self.second = keras.layers.Conv2D(width, 3, padding="same", name="second")
            self.dropout = keras.layers.Dropout(0.2, name="dropout")

        def build(self, input_shape: Any) -> None:
            for part in (self.first, self.norm, self.second) if build_parts else ():
                part.build(input_shape)
            self.gain = self.add_weight(name="gain", shape=(input_shape[-1],), initializer="ones")
            super().build(input_shape)

        def call(self, x: Any, training: Any = None) -> Any:
            y = keras.layers.ReLU()(self.norm(self.first(x), training=training))
            return x + self.second(self.dropout(y, training=training)) * self.gain

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="net")
            self.stem = keras.layers.Conv2D(8, 3, name="stem")
            self.blocks = [Block(8, name="one"), Block(8, name="two")]
            self.pool = keras.layers.GlobalAveragePooling2D(name="pool")
            self.head = keras.layers.Dense(3, name="head")

        def call(self, x: Any, training: Any = None) -> Any:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x, training=training)
            return self.head(self.pool(x))

    return Net()


@BOTH
def test_a_subclassed_model_of_composites(keras: str, tmp_path: Path) -> None:
    module = backends.module(keras)
    model = residual_net(module, keras == "keras")
    x = np.random.default_rng(0).normal(size=(5, 10, 10, 3)).astype("float32")
    model(x)
    before = [np.array(w) for w in model.get_weights()]
    calls = [len(part._inbound_nodes) for part in model._flatten_layers()]

    assert agree_once_cut(model, x, tmp_path) == {"stem": 8, "one.first": 8, "two.first": 8}

    graph = read(model)
    for name in ("one.first", "one.norm", "one.dropout", "two.dropout", "two.second"):
        assert name in graph.layers
    assert [len(part._inbound_nodes) for part in model._flatten_layers()] == calls
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@BOTH
def test_dropout_inside_still_acts_in_training(keras: str) -> None:
    module = backends.module(keras)
    dropout = module.layers.Dropout(0.5, name="dropout")
    own = layer(
        module, lambda self, x, training=None: self.part(x, training=training), part=dropout
    )
    model = around(module, own)
    again, x = build(read(model)), example(model)
    assert np.abs(np.array(again(x, training=True)) - np.array(again(x))).max() > 1e-3


@BOTH
def test_a_layer_that_acts_in_training_only_keeps_its_place(keras: str) -> None:
    """Stochastic depth by hand: units pass, and the layer is still there."""
    module = backends.module(keras)

    def call(self: Any, x: Any, training: Any = None) -> Any:
        return x * 0.5 if training else x

    model = around(module, layer(module, call))
    graph = read(model)
    assert find_groups(graph).widths == {"before": 4}
    x = example(model)
    again = build(graph)
    np.testing.assert_array_equal(np.array(again(x)), np.array(model(x)))
    np.testing.assert_array_equal(
        np.array(again(x, training=True)), np.array(model(x, training=True))
    )


@BOTH
def test_what_training_loses_is_said(keras: str) -> None:
    """One with a Python `if` on `training`: opened as it is in inference."""
    module = backends.module(keras)

    def call(self: Any, x: Any, training: Any = None) -> Any:
        return self.part(x * 2.0 if training else x)

    model = around(module, layer(module, call, part=module.layers.Dense(4, name="inner")))
    with pytest.warns(UserWarning, match=r"'own' \(Own\) computes something else in training"):
        graph = read(model)
    assert find_groups(graph).widths == {"before": 4, "own.inner": 4}


@BOTH
def test_a_composite_that_returns_a_dictionary(keras: str) -> None:
    module = backends.module(keras)
    dense = module.layers.Dense(4, name="inner")
    own = layer(module, lambda self, x: {"b": self.part(x), "a": x}, part=dense)
    if keras == "keras":
        type(own).compute_output_shape = lambda self, shape: {"b": shape, "a": shape}
    inputs = module.Input((6,))
    found = own(module.layers.Dense(4, name="before")(inputs))
    x = module.layers.Dense(3, name="behind")(found["b"])
    model = randomise(module.Model(inputs, [x, module.layers.Dense(2, name="side")(found["a"])]))
    assert agree_once_cut(model, example(model)) == {"before": 4, "own.inner": 4}


@BOTH
def test_a_composite_that_is_called_twice_is_shared(keras: str) -> None:
    module = backends.module(keras)
    own = layer(module, lambda self, x: self.part(x), part=module.layers.Dense(4, name="inner"))
    inputs = module.Input((4,))
    model = randomise(module.Model(inputs, module.layers.Dense(3)(own(own(inputs)))))
    graph = read(model)
    assert len(graph.calls["own.inner"]) == 2
    assert graph.num_params == model.count_params()
    np.testing.assert_array_equal(
        outputs_of(build(graph), example(model))[0], outputs_of(model, example(model))[0]
    )


@BOTH
def test_a_composite_that_prints(keras: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = backends.module(keras)

    def call(self: Any, x: Any) -> Any:
        print("called")
        return self.part(x)

    model = around(module, layer(module, call, part=module.layers.Dense(4, name="inner")))
    assert agree_once_cut(model, example(model)) == {"before": 4, "own.inner": 4}


def reason(model: Any) -> str:
    kept = {item.layer: item.reason for item in find_groups(read(model), ()).kept}
    return kept["own"]


def beside(keras: Any, own: Any) -> Any:
    """A layer behind one that can be cut."""
    inputs = keras.Input((6,))
    x = keras.layers.Dense(4, name="first")(inputs)
    x = own(keras.layers.Dense(4, name="before")(x))
    return randomise(keras.Model(inputs, keras.layers.Dense(3, name="behind")(x)))


@BOTH
def test_a_composite_that_raises_stays_closed(keras: str) -> None:
    module = backends.module(keras)

    def call(self: Any, x: Any) -> Any:
        if hasattr(x, "_keras_history"):
            raise RuntimeError("not on symbols")
        return x + 1.0

    model = beside(module, layer(module, call))
    assert "it stays closed, because it cannot be traced: not on symbols" in reason(model)
    assert agree_once_cut(model, example(model)) == {"first": 4}


@BOTH
def test_a_composite_whose_path_depends_on_values_stays_closed(keras: str) -> None:
    module = backends.module(keras)
    model = beside(module, layer(module, depends_on_values))
    assert "cannot be traced" in reason(model)
    assert agree_once_cut(model, example(model)) == {"first": 4}


def depends_on_values(self: Any, x: Any) -> Any:
    """A Python `if` on a tensor, where tracing has none."""
    total = x[0, 0] > 0 if hasattr(x, "_keras_history") else True
    if total:
        return x + 1.0
    return x


@BOTH
def test_a_composite_that_makes_layers_in_its_call_stays_closed(keras: str) -> None:
    module = backends.module(keras)
    made: list[Any] = []

    def call(self: Any, x: Any) -> Any:
        if not made or hasattr(x, "_keras_history"):
            made.append(module.layers.Dense(4, name="anew"))
            return made[-1](x)
        return made[0](x)

    model = beside(module, layer(module, call))
    assert "calls a layer with weights that it does not hold, 'anew'" in reason(model)


@BOTH
def test_what_gives_other_outputs_when_traced_stays_closed(keras: str) -> None:
    """Verified on random inputs before anything else."""
    module = backends.module(keras)

    def call(self: Any, x: Any) -> Any:
        return x * (3.0 if hasattr(x, "_keras_history") else 2.0)

    model = beside(module, layer(module, call))
    assert "it gives other outputs once opened" in reason(model)
    assert agree_once_cut(model, example(model)) == {"first": 4}


@BOTH
def test_a_composite_with_a_rule_stays_closed_and_uses_it(keras: str) -> None:
    module = backends.module(keras)
    own = layer(module, lambda self, x: x * 2.0)
    krp.register_layer("Own", krp.LayerType)
    graph = read(beside(module, own))
    assert graph.layers["own"].kind == "Own"
    assert graph.layers["own"].closed == ""
    assert find_groups(graph).widths == {"first": 4}


@BOTH
def test_a_closed_layer_whose_config_does_not_invert_is_copied(keras: str) -> None:
    module = backends.module(keras)

    class Odd(module.layers.Layer):
        def __init__(self, width: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.inner = module.layers.Dense(width, name="inner")

        def build(self, input_shape: Any) -> None:
            self.inner.build(input_shape)
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            if hasattr(x, "_keras_history"):
                raise TypeError("not on symbols")
            return self.inner(x)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "breadth": 4}

    model = beside(module, Odd(4, name="own"))
    assert agree_once_cut(model, example(model)) == {"first": 4}
    built = build(read(model))
    theirs, ours = model.get_layer("own"), built.get_layer("own")
    assert ours is not theirs
    before = np.array(theirs.inner.kernel)
    ours.inner.kernel.assign(np.zeros((4, 4)))
    np.testing.assert_array_equal(np.array(theirs.inner.kernel), before)


@BOTH
def test_own_weights_become_constants_that_are_cut(keras: str, tmp_path: Path) -> None:
    """Position embeddings and a gain per channel; a class token where Keras 3 cannot know the batch."""
    module = backends.module(keras)

    class Embed(module.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.token = self.add_weight(name="token", shape=(1, 1, input_shape[-1]))
            self.places = self.add_weight(name="places", shape=(1, 6, input_shape[-1]))
            self.gain = self.add_weight(name="gain", shape=(input_shape[-1],), initializer="ones")
            super().build(input_shape)

        def call(self, x: Any) -> Any:
            if keras == "keras":
                ops = module.ops
                token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, ops.shape(x)[-1]))
                x = ops.concatenate([token, x], axis=1)
            return (x + self.places[:, : x.shape[1]]) * self.gain

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (input_shape[0], 5 + (keras == "keras"), input_shape[-1])

    model = around(module, Embed(name="own"), (5, 6), 8)
    assert agree_once_cut(model, example(model), tmp_path) == {"before": 8}


@BOTH
def test_names_tell_the_path_at_any_depth(keras: str) -> None:
    module = backends.module(keras)
    dense = module.layers.Dense(4, name="dense")
    inner = layer(module, lambda self, x: self.part(x) + x, "mlp", part=dense)
    outer = layer(module, lambda self, x: self.part(x), "block", part=inner)
    layers = list(read(around(module, outer)).layers)
    add = "add" if keras == "keras" else "tf.__operators__.add"
    assert layers[1:] == ["before", "block.mlp.dense", f"block.mlp.{add}", "behind"]
    assert list(read(around(module, outer)).layers)[1:] == layers[1:]
