"""A convolution of one's own, described by one class: cut, repaired, bounded, certified, counted and exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest

import keras_robust_prune as krp
from keras_robust_prune import backends
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.graph.graph import Graph, Layer, Node
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.layers import Call, LinearView, base, lower, patches, split_activations
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.methods.repair import consumers
from keras_robust_prune.methods.repair.compensation import solve
from keras_robust_prune.methods.repair.least_squares import LeastSquares
from keras_robust_prune.methods.repair.moments import measure
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.primitives.convolution import Convolution
from keras_robust_prune.primitives.windows import Window
from keras_robust_prune.surgery.cutting import cut, mask
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.synthesis.gaussian import propagate
from keras_robust_prune.synthesis.kinds import Synthesis
from keras_robust_prune.verify.bounds import interval_bounds


@cache
def own_layer(keras: str) -> type:
    """A 3x3 convolution whose filters come first in its kernel, with a bias and an activation inside."""
    module, tf = backends.module(keras), backends.tensorflow()

    class FirstConv(module.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self, num_filters: int, nonlinearity: str = "relu", **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.num_filters, self.nonlinearity = num_filters, nonlinearity

        def build(self, input_shape: Any) -> None:
            shape = (self.num_filters, 3, 3, input_shape[-1])
            self.filters = self.add_weight(name="filters", shape=shape)
            self.offset = self.add_weight(name="offset", shape=(self.num_filters,))
            super().build(input_shape)

        def call(self, inputs: Any) -> Any:
            kernel = tf.transpose(self.filters, (1, 2, 3, 0))
            x = tf.nn.conv2d(inputs, kernel, 1, "SAME") + self.offset
            return module.activations.get(self.nonlinearity)(x)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return (*input_shape[:-1], self.num_filters)

        def get_config(self) -> dict[str, Any]:
            own = {"num_filters": self.num_filters, "nonlinearity": self.nonlinearity}
            return {**super().get_config(), **own}

    return FirstConv


class FirstConvType(krp.LayerType):
    """What the toolkit has to know of it."""

    kernels = ("filters",)
    activation = "nonlinearity"
    bias = "offset"

    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        (labels,) = inputs
        units = tracing.fresh(node.layer, len(graph.layer_of(node).weights["offset"]))
        tracing.use(node.layer, "filters", 0, "produces", units)
        tracing.use(node.layer, "offset", 0, "produces", units)
        tracing.use(node.layer, "filters", 3, "consumes", labels.ids)
        return (Labels(labels.axis, units),)

    def resize(self, layer: Layer, lengths: Mapping[tuple[str, int], int]) -> Mapping[str, Any]:
        return {"num_filters": lengths["filters", 0]}

    def positions(self, graph: Graph, node: Node) -> int:
        height, width, _ = node.shapes[0]
        return int(height or 1) * int(width or 1)

    def lower(self, call: Call) -> int:
        (x,) = call.inputs
        window = Window.of(call.shape(x)[:-1], (3, 3), (1, 1), "same")
        kernel = call.kernel("filters").transpose(1, 2, 3, 0)
        return call.emit(Convolution(window, kernel, call.weight("offset")), x)

    def linear(self, layer: Layer) -> LinearView:
        return LinearView(
            "filters", lambda x: patches(x, (3, 3), padding="same"), unit_axis=0, bias="offset"
        )


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(base._USERS)
    krp.register_layer("FirstConv", FirstConvType)
    yield
    base._USERS.clear()
    base._USERS.update(before)


def network(keras: str, width: int = 8, seed: int = 0) -> Any:
    """Three of the layers and a classifier, on 6 x 6 images."""
    module, own = backends.module(keras), own_layer(keras)
    inputs = module.Input((6, 6, 2))
    x = own(width, name="one")(inputs)
    x = own(width, name="two")(x)
    x = own(width, "linear", name="three")(x)
    x = module.layers.GlobalAveragePooling2D()(module.layers.ReLU(max_value=3.0)(x))
    model = module.Model(inputs, module.layers.Dense(4, "softmax", name="classes")(x))
    return networks.randomise(model, seed)


def images(count: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(count, 6, 6, 2)).astype("float32")


def logits(model: Any, x: np.ndarray) -> np.ndarray:
    program = lower(read(model))
    return program.values([x])[program.logits[0]]


@pytest.mark.parametrize("keras", backends.NAMES)
def test_it_is_cut_and_counted(keras: str) -> None:
    graph = read(network(keras))
    groups = find_groups(graph)
    assert groups.widths == {"one": 8, "two": 8, "three": 8}
    units = {"one": (0, 3, 7), "two": (1,), "three": (2, 4)}
    removals = tuple(Removal(name, unit) for name, gone in units.items() for unit in gone)
    plan = Plan(removals, dict(groups.widths))
    small = build(cut(graph, groups, plan))
    masked = build(mask(graph, groups, plan))
    np.testing.assert_allclose(
        np.asarray(small(images(5))), np.asarray(masked(images(5))), atol=1e-5
    )
    taps = 9 * (2 * 5 + 5 * 7 + 7 * 6)
    assert krp.summary(small).macs == 36 * taps + 6 * 4
    assert krp.summary(small).params == taps + (5 + 7 + 6) + 6 * 4 + 4


@pytest.mark.parametrize("keras", backends.NAMES)
def test_its_linear_view_computes_what_it_computes(keras: str) -> None:
    graph = split_activations(read(network(keras)))
    x = images(3).astype("float64")
    program = lower(graph)
    rows = np.asarray(consumers.rows_of(graph.layers["one"], backends.tensorflow().constant(x)))
    matrix = consumers.matrix(graph, "one")
    found = (rows @ matrix[:-1] + matrix[-1]).reshape(3, 6, 6, 8)
    np.testing.assert_allclose(found, program.values([x])[1], atol=1e-6)
    again = consumers.with_matrix(graph, "one", matrix)
    np.testing.assert_array_equal(again.layers["one"].weights["filters"].shape, (8, 3, 3, 2))
    np.testing.assert_array_equal(
        again.layers["one"].weights["filters"], graph.layers["one"].weights["filters"]
    )
    groups = find_groups(graph)
    assert consumers.solvable(graph, groups.groups) == ("two", "three", "classes")
    owned = consumers.unit_rows(groups.by_name["one"], graph.layers["two"])
    kernel = matrix_of_units = consumers.matrix(graph, "two")[owned[5]]
    assert kernel.shape == (9, 8)
    expected = graph.layers["two"].weights["filters"][..., 5].reshape(8, 9).T
    np.testing.assert_allclose(matrix_of_units, expected)


@pytest.mark.parametrize("keras", backends.NAMES)
def test_it_is_repaired_bounded_certified_and_exported(keras: str, tmp_path: Path) -> None:
    model = network(keras)
    result = krp.prune(model, 0.5, calibration="weights", verbose=0)
    assert result.plan.widths == {"one": 8, "two": 8, "three": 8}
    small, x = result.model, images(4)

    bounds = interval_bounds(read(small), 0.0, 1.0).logits
    assert bounds.contains(logits(small, images(200)))
    certificate = krp.certify(model, small, x, eps=1e-3)
    deviation = certificate.deviation
    apart = logits(small, x) - logits(model, x)
    assert deviation.contains(apart, 1e-6)
    assert deviation.width.max() < 0.2 * np.abs(apart).max()

    report = krp.export_tflite(small, tmp_path / "small.tflite")
    file = LiteFile(report.path)
    found = file(file.layout.pack(x), batch_size=4)[0]
    np.testing.assert_allclose(found, np.asarray(small(x)), atol=1e-5)


@pytest.mark.parametrize("calibration", [None, "weights"])
def test_robust_beats_norm(calibration: str | None) -> None:
    """By more than three quarters of the error, on synthetic inputs and, over three networks, with weights alone."""
    robust = Robust(repair=(LeastSquares(),), synthesis=Synthesis(num_inputs=256))
    methods = {"robust": robust, "norm": "norm"}
    errors: dict[str, list[float]] = {name: [] for name in methods}
    x = images(300)
    for seed in range(1 if calibration is None else 3):
        model = network("tf_keras", seed=seed)
        dense = logits(model, x)
        for name, method in methods.items():
            small = krp.prune(model, 0.5, method=method, calibration=calibration, verbose=0).model
            errors[name].append(float(np.square(logits(small, x) - dense).mean()))
    assert np.mean(errors["robust"]) < 0.25 * np.mean(errors["norm"]), errors


@pytest.mark.parametrize("keras", backends.NAMES)
def test_least_squares_on_what_it_reads_repairs_it(keras: str) -> None:
    """Without half of what `two` reads, its rows that stay explain its outputs better once they are solved anew."""
    graph = split_activations(read(network(keras)))
    kept = np.sort(
        consumers.unit_rows(find_groups(graph).by_name["one"], graph.layers["two"])[::2].ravel()
    )
    measured = measure(graph, graph, "two", [[images(64)]])
    before = consumers.matrix(graph, "two")
    blind = np.zeros_like(before)
    blind[[*kept, -1]] = before[[*kept, -1]]
    solved = solve(measured, before, kept, constant=True)
    assert measured.error(before) < 1e-9
    assert measured.error(solved) < 0.5 * measured.error(blind)
    repaired = consumers.with_matrix(graph, "two", solved)
    np.testing.assert_allclose(consumers.matrix(repaired, "two"), solved, rtol=1e-6)


def test_moments_pass_it_by_its_linear_view() -> None:
    graph = split_activations(read(network("tf_keras")))
    found = propagate(graph, input_specs(graph))
    assert [node.name for node in graph.nodes if found[node.ref] is None] == ["classes__activation"]
