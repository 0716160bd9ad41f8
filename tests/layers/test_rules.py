"""Every rule: which units lie where behind a layer, and which entries of its weights are theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hand_made import behind, call, dense, graph_of, source, told

from keras_robust_prune.graph.graph import MASK, Graph, Layer, Node, Ref
from keras_robust_prune.graph.tracing import Labels, Tracing
from keras_robust_prune.layers.base import KERAS, LayerType, Unsupported, layer_type, register_layer
from keras_robust_prune.surgery.groups import trace


def test_dense_consumes_and_produces() -> None:
    axis, units, uses = behind("Dense", (4, 3), (4, 2), {}, {"kernel": (3, 2), "bias": (2,)})
    assert (axis, units) == (1, [100, 101])
    assert uses["kernel", 0] == ("consumes", [0, 1, 2])
    assert uses["kernel", 1] == ("produces", [100, 101])
    assert uses["bias", 0] == ("produces", [100, 101])


@pytest.mark.parametrize("activation", ["softmax", "log_softmax", lambda x: x - x[..., :1]])
def test_an_activation_that_may_mix_keeps_the_units_that_it_mixes(activation: Any) -> None:
    _, units, uses = behind("Dense", (3,), (2,), {"activation": activation}, {"kernel": (3, 2)})
    assert units == [1100, 1101]
    assert uses["kernel", 0] == ("consumes", [0, 1, 2])


def test_an_own_activation_that_goes_number_by_number_lets_units_pass() -> None:
    config = {"activation": lambda x: x * x}
    _, units, _ = behind("Dense", (3,), (2,), config, {"kernel": (3, 2)})
    assert units == [100, 101]


def test_unknown_weights_are_a_barrier() -> None:
    _, units, _ = behind("Dense", (3,), (2,), {}, {"kernel": (3, 2), "lora_kernel_a": (3, 1)})
    assert units == [1100, 1101]


def test_einsum_dense() -> None:
    config = {"equation": "abc,cd->abd", "output_shape": (None, 2), "bias_axes": "d"}
    axis, units, uses = behind(
        "EinsumDense", (4, 3), (4, 2), config, {"kernel": (3, 2), "bias": (2,)}
    )
    assert (axis, units) == (1, [100, 101])
    assert uses["kernel", 0] == ("consumes", [0, 1, 2])
    assert uses["bias", 0] == ("produces", [100, 101])
    layer = Layer("layer", "EinsumDense", config, {"kernel": np.zeros((3, 2))})
    assert layer_type(layer).resize(layer, {("kernel", 1): 1, ("kernel", 0): 3}) == {
        "output_shape": (None, 1)
    }


def test_einsum_dense_over_another_axis_is_a_barrier() -> None:
    config = {"equation": "abc,bd->adc", "output_shape": (2, 3), "bias_axes": None}
    _, units, _ = behind("EinsumDense", (4, 3), (2, 3), config, {"kernel": (4, 2)})
    assert min(units) >= 1000


def test_embedding_produces_its_columns() -> None:
    graph = graph_of(
        [
            call("ids", "InputLayer", (), (5,)),
            call("source", "Embedding", ["ids"], (5, 3), {}, {"embeddings": (10, 3)}),
            call("layer", "Dense", ["source"], (5, 2), {}, {"kernel": (3, 2)}),
        ]
    )
    tracing, labels = trace(graph)
    assert tracing.uses["source", "embeddings", 1].role == "produces"
    assert told(tracing, labels)[2]["kernel", 0] == ("consumes", [0, 1, 2])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution(rank: int) -> None:
    kernel = (*[3] * rank, 4, 2)
    space = (5,) * rank
    axis, units, uses = behind(
        f"Conv{rank}D", (*space, 4), (*space, 2), {}, {"kernel": kernel, "bias": (2,)}
    )
    assert (axis, units) == (rank, [100, 101])
    assert uses["kernel", rank] == ("consumes", [0, 1, 2, 3])
    assert uses["kernel", rank + 1] == ("produces", [100, 101])


def test_grouped_convolution_ties_what_meets_in_a_group() -> None:
    node = call("layer", "Conv2D", ["source"], (5, 5, 2), {"groups": 2}, {"kernel": (1, 1, 2, 2)})
    tracing, labels = trace(graph_of([*source((5, 5, 4)), node], ["source_input"]))
    classes = tracing.classes()
    members = [*labels[Ref("source")].ids, *labels[Ref("layer")].ids]
    assert [int(c) for c in classes[members] - classes[members[0]]] == [0, 0, 2, 2, 0, 2]
    rule = layer_type(node[0])
    assert rule.resize(node[0], {("kernel", 3): 1}) == {"filters": 1, "groups": 1}


def test_depthwise_convolution_carries_each_channel_as_often_as_it_multiplies() -> None:
    weights = {"depthwise_kernel": (3, 3, 2, 3), "bias": (6,)}
    _, units, uses = behind("DepthwiseConv2D", (5, 5, 2), (3, 3, 6), {}, weights)
    assert units == [0, 0, 0, 1, 1, 1]
    assert uses["depthwise_kernel", 2] == ("carries", [0, 1])
    assert uses["bias", 0] == ("carries", [0, 0, 0, 1, 1, 1])


def test_separable_convolution() -> None:
    weights = {"depthwise_kernel": (3, 3, 2, 2), "pointwise_kernel": (1, 1, 4, 5)}
    _, units, uses = behind("SeparableConv2D", (5, 5, 2), (3, 3, 5), {}, weights)
    assert units == [100, 101, 102, 103, 104]
    assert uses["depthwise_kernel", 2] == ("carries", [0, 1])
    assert uses["pointwise_kernel", 2] == ("consumes", [0, 0, 1, 1])


def test_transposed_convolution_has_its_filters_on_the_axis_before() -> None:
    _, units, uses = behind("Conv2DTranspose", (5, 5, 2), (10, 10, 3), {}, {"kernel": (3, 3, 3, 2)})
    assert units == [100, 101, 102]
    assert uses["kernel", 2] == ("produces", [100, 101, 102])
    assert uses["kernel", 3] == ("consumes", [0, 1])


def test_channels_first() -> None:
    first = {"data_format": "channels_first"}
    nodes = [
        *source((5, 4)),
        call("turned", "Permute", ["source"], (4, 5), {"dims": (2, 1)}),
        call("pooled", "MaxPooling1D", ["turned"], (4, 2), first),
        call("layer", "Conv1D", ["pooled"], (3, 2), first, {"kernel": (1, 4, 3)}),
        call("flat", "Flatten", ["layer"], (6,), first),
    ]
    tracing, labels = trace(graph_of(nodes, ["source_input"]))
    axis, units, uses = told(tracing, labels)
    assert (axis, units) == (0, [100, 101, 102])
    assert uses["kernel", 1] == ("consumes", [0, 1, 2, 3])
    ids = labels[Ref("layer")].ids.tolist()
    assert labels[Ref("flat")].ids.tolist() == ids * 2  # channels run fastest


def test_batch_normalization_carries_all_its_weights() -> None:
    weights = dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (3,))
    _, units, uses = behind("BatchNormalization", (4, 4, 3), (4, 4, 3), {"axis": [3]}, weights)
    assert units == [0, 1, 2]
    assert len(uses) == 4
    assert all(use == ("carries", [0, 1, 2]) for use in uses.values())


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
def test_normalisation_over_the_units_reads_them_through_a_mask(kind: str) -> None:
    weights = {"scale": (5,)}  # of five units two are gone already
    _, units, uses = behind(kind, (4, 3), (4, 3), {"axis": -1}, weights)
    assert units == [0, 1, 2]
    assert uses[MASK, 0] == ("consumes", [0, 1, 2])
    assert uses["scale", 0] == ("normalises", [0, 1, 2])
    uses = behind(kind, (4, 3), (4, 3), {"axis": [1, 2]}, {"scale": (4, 3)})[2]
    assert uses["scale", 1] == ("normalises", [0, 1, 2])
    assert behind(kind, (4, 3), (4, 3), {"axis": 1}, {"scale": (4,)}) == (1, [0, 1, 2], {})


def test_group_normalization_ties_its_groups() -> None:
    weights = {"gamma": (4,), "beta": (4,)}
    node = call("layer", "GroupNormalization", ["source"], (5, 4), {"groups": 2}, weights)
    tracing, labels = trace(graph_of([*source((5, 4)), node], ["source_input"]))
    ids = labels[Ref("source")].ids
    assert (tracing.classes()[ids] - ids[0]).tolist() == [0, 0, 2, 2]
    assert layer_type(node[0]).resize(node[0], {("gamma", 0): 2, ("beta", 0): 2}) == {"groups": 1}


def test_slopes_go_with_their_units_unless_shared_among_them() -> None:
    assert behind("PReLU", (4, 3), (4, 3), {}, {"alpha": (4, 3)})[2] == {
        ("alpha", 1): ("carries", [0, 1, 2])
    }
    assert behind("PReLU", (4, 3), (4, 3), {}, {"alpha": (4, 1)})[1:] == ([0, 1, 2], {})


def test_layer_scale() -> None:
    assert behind("LayerScale", (4, 3), (4, 3), {}, {"gamma": (3,)})[2]["gamma", 0] == (
        "carries",
        [0, 1, 2],
    )


@pytest.mark.parametrize(
    "kind",
    ["ReLU", "Dropout", "LeakyReLU", "ELU", "GaussianNoise", "SpatialDropout2D", "Identity"],
)
def test_what_treats_every_entry_alike_lets_units_pass(kind: str) -> None:
    assert behind(kind, (4, 4, 3), (4, 4, 3)) == (2, [0, 1, 2], {})


def test_a_noise_shape_that_names_the_units_keeps_them() -> None:
    assert behind("Dropout", (4, 3), (4, 3), {"noise_shape": (None, 1, None)})[1] == [0, 1, 2]
    assert min(behind("Dropout", (4, 3), (4, 3), {"noise_shape": (None, 1, 3)})[1]) >= 1000


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        ("MaxPooling2D", (2, 2, 3)),
        ("AveragePooling2D", (2, 2, 3)),
        ("ZeroPadding2D", (6, 6, 3)),
        ("Cropping2D", (2, 2, 3)),
        ("UpSampling2D", (8, 8, 3)),
        ("Resizing", (7, 7, 3)),
        ("GlobalAveragePooling2D", (3,)),
        ("GlobalMaxPooling2D", (1, 1, 3)),
    ],
)
def test_what_works_in_space_lets_channels_pass(kind: str, after: tuple[int, ...]) -> None:
    assert behind(kind, (4, 4, 3), after) == (len(after) - 1, [0, 1, 2], {})


def test_softmax_mixes_the_axis_that_it_normalises() -> None:
    assert min(behind("Softmax", (4, 3), (4, 3), {"axis": -1})[1]) >= 1000
    assert behind("Softmax", (4, 3), (4, 3), {"axis": 1})[1] == [0, 1, 2]
    assert min(behind("Activation", (4, 3), (4, 3), {"activation": "softmax"})[1]) >= 1000
    assert behind("Activation", (4, 3), (4, 3), {"activation": "swish"})[1] == [0, 1, 2]


@pytest.mark.parametrize("kind", ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"])
def test_what_is_joined_shares_a_fate(kind: str) -> None:
    nodes = [
        *source((4, 3)),
        *source((3,), "other"),
        call("layer", kind, [["source", "other"]], (4, 3)),
    ]
    tracing, labels = trace(graph_of(nodes, ["source_input"]))
    classes = tracing.classes()
    assert labels[Ref("layer")].axis == 1
    for name in ("other", "layer"):
        assert classes[labels[Ref(name)].ids].tolist() == labels[Ref("source")].ids.tolist()


def test_a_gate_of_width_one_stays() -> None:
    nodes = [
        *source((4, 3)),
        *source((4, 1), "other"),
        call("layer", "Multiply", [["source", "other"]], (4, 3)),
    ]
    tracing, labels = trace(graph_of(nodes, ["source_input"]))
    assert told(tracing, labels)[:2] == (1, [0, 1, 2])
    gate = labels[Ref("other")].ids[0]
    assert any(gate in found.ids and found.code == "broadcast" for found in tracing.protections)


def test_concatenate() -> None:
    nodes = [*source((4, 2)), *source((4, 2), "other")]
    node = call("layer", "Concatenate", [["source", "other", "source"]], (4, 6), {"axis": -1})
    assert told(*trace(graph_of([*nodes, node], ["source_input"])))[1] == [0, 1, 100, 101, 0, 1]
    node = call("layer", "Concatenate", [["source", "other"]], (8, 2), {"axis": 1})
    tracing, labels = trace(graph_of([*nodes, node], ["source_input"]))
    same = tracing.classes()[labels[Ref("other")].ids]
    assert same.tolist() == labels[Ref("source")].ids.tolist()


def test_flatten_repeats_the_channels() -> None:
    assert behind("Flatten", (2, 2, 3), (12,))[:2] == (0, [0, 1, 2] * 4)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((2, 3), (1, 2, 3), (2, [0, 1, 2])),
        ((2, 2, 3), (4, 3), (1, [0, 1, 2])),
        ((2, 3), (6,), (0, [0, 1, 2, 0, 1, 2])),
        ((None, None, 3), (None, 3), (1, [0, 1, 2])),
        ((6,), (2, 3), (1, [0, 1, 2])),  # units 3, 4, 5 go with them
    ],
)
def test_reshape(before: Any, after: Any, expected: Any) -> None:
    axis, units, uses = behind("Reshape", before, after, {"target_shape": after})
    assert (axis, units) == expected
    assert uses["shape", axis] == ("carries", units)


def test_permute_and_repeat() -> None:
    assert behind("Permute", (2, 4, 3), (3, 2, 4), {"dims": (3, 1, 2)})[:2] == (0, [0, 1, 2])
    assert behind("RepeatVector", (3,), (5, 3), {"n": 5})[:2] == (1, [0, 1, 2])


def test_time_distributed_applies_the_inner_rule() -> None:
    config = {"layer": {"class_name": "Conv1D", "config": {"filters": 2}}}
    node = call("layer", "TimeDistributed", ["source"], (7, 5, 2), config, {"kernel": (1, 3, 2)})
    tracing, labels = trace(graph_of([*source((7, 5, 3)), node], ["source_input"]))
    axis, units, uses = told(tracing, labels)
    assert (axis, units) == (2, [100, 101])
    assert uses["kernel", 1] == ("consumes", [0, 1, 2])
    rule = layer_type(node[0])
    assert rule.resize(node[0], {("kernel", 2): 1})["layer"]["config"]["filters"] == 1
    assert rule.kernels_of(node[0]) == ("kernel",)
    assert rule.macs(graph_of([*source((7, 5, 3)), node]), node[1]) == 7 * 5 * 3 * 2


def test_attention_has_heads_and_units() -> None:
    weights = {f"{name}/kernel": (3, 2, 4) for name in ("query", "key", "value")}
    weights |= {"attention_output/kernel": (2, 4, 5), "query/bias": (2, 4)}
    nodes = [*source((6, 3)), *source((8, 3), "other")]
    node = call(
        "layer",
        "MultiHeadAttention",
        ["source"],
        [(6, 5), (2, 6, 8)],
        {},
        weights,
        key="other",
        value="other",
    )
    graph = graph_of([*nodes, node], ["source_input"])
    tracing, labels = trace(graph)
    _, units, uses = told(tracing, labels)
    heads = uses["query/kernel", 1][1]
    assert uses["query/kernel", 0] == ("consumes", [0, 1, 2])
    assert uses["key/kernel", 0][1] == uses["value/kernel", 0][1] != [0, 1, 2]
    assert uses["value/kernel", 1] == ("produces", heads)
    assert len(heads) == 2
    assert uses["attention_output/kernel", 0] == ("consumes", heads)
    assert uses["attention_output/kernel", 2] == ("produces", units)
    assert len(units) == 5
    assert labels[Ref("layer", 1)].axis == 0
    assert len(labels[Ref("layer", 1)].ids) == 2
    projected = 6 * 3 * 2 * 4 + 2 * (8 * 3 * 2 * 4) + 6 * 2 * 4 * 5
    assert layer_type(node[0]).macs(graph, node[1]) == projected + 6 * 8 * 2 * (4 + 4)


@pytest.mark.parametrize("kind", ["LSTM", "Bidirectional", "Lambda", "Masking", "Dot", "MyLayer"])
def test_what_has_no_rule_or_mixes_is_a_barrier(kind: str) -> None:
    assert min(behind(kind, (4, 3), (4, 3))[1]) >= 1000


def test_masks_are_no_units() -> None:
    nodes = [
        *source((4, 3)),
        call("mask", "ops.NotEqual", ["source_input", 0], (4, 2)),
        call("layer", "GlobalAveragePooling1D", ["source"], (3,), mask="mask"),
    ]
    assert told(*trace(graph_of(nodes, ["source_input"])))[1] == [0, 1, 2]


def test_keras_rules_do_not_serve_other_classes_of_the_same_name() -> None:
    class Dense:  # no Keras layer
        pass

    class Loaded:
        pass

    Loaded.__module__ = "tf_keras.src.saving.legacy.saved_model.load"
    layer = Layer("a", "Dense", {}, {}, Dense)
    node = Node("a", "a", (), {}, (), ((3,),))
    graph = graph_of([(layer, node)])
    with pytest.raises(Unsupported, match="register_layer"):
        layer_type(layer).trace(graph, node, (), Tracing())
    loaded = Layer("a", "Dense", {}, {}, Loaded)
    with pytest.raises(Unsupported, match="custom_objects"):
        layer_type(loaded).trace(graph, node, (), Tracing())
    assert layer_type(Layer("a", "Dense", {})) is KERAS["Dense"]


class Wrong(LayerType):
    def trace(
        self, graph: Graph, node: Node, inputs: Sequence[Labels], tracing: Tracing
    ) -> Sequence[Labels]:
        return [Labels(0, inputs[0].ids)]


def test_a_type_that_tells_nonsense_is_named() -> None:
    register_layer("TellsNonsense", Wrong)
    with pytest.raises(ValueError, match="returned 3 labels on axis 0"):
        behind("TellsNonsense", (4, 3), (4, 3))
    with pytest.raises(ValueError, match="one Labels per output"):
        behind("TellsNonsense", (3,), [(3,), (3,)])
    with pytest.raises(TypeError, match="subclass of LayerType"):
        register_layer("TellsNonsense", int)  # type: ignore[arg-type]


def test_macs() -> None:
    nodes = [
        call("x", "InputLayer", (), (6, 6, 3)),
        call("a", "Conv2D", ["x"], (4, 4, 5), {}, {"kernel": (3, 3, 3, 5), "bias": (5,)}),
        call("b", "DepthwiseConv2D", ["a"], (4, 4, 5), {}, {"depthwise_kernel": (3, 3, 5, 1)}),
        call("c", "Conv2DTranspose", ["b"], (8, 8, 2), {}, {"kernel": (2, 2, 2, 5)}),
        call("d", "GlobalMaxPooling2D", ["c"], (2,)),
        dense("e", "d", 2, 7),
    ]
    graph = graph_of(nodes)
    expected = {"a": 16 * 135, "b": 16 * 45, "c": 16 * 40, "d": 0, "e": 14}
    for name, macs in expected.items():
        assert layer_type(graph.layers[name]).macs(graph, graph.node[name]) == macs
