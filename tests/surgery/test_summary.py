"""Costs as tables: the sums are those of Keras, the differences those of arithmetic."""

from __future__ import annotations

import pytest
from networks import CASES, network

from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.surgery.costs import num_macs
from keras_robust_prune.surgery.summary import compare, summary


@pytest.mark.parametrize(("name", "keras"), CASES[::7])
def test_totals_are_those_of_the_model(name: str, keras: str) -> None:
    model = network(name, keras)
    graph = read(model)
    found = summary(graph)
    assert found.params == model.count_params()
    assert found.macs == num_macs(graph)
    assert f"{found.params:,}" in str(found).splitlines()[-1]


def test_rows_are_as_computed_by_hand() -> None:
    import tf_keras

    layers = tf_keras.layers

    def make(filters: int) -> tf_keras.Model:
        chain = [tf_keras.Input((8, 8, 3)), layers.Conv2D(filters, 3, name="conv")]
        chain += [layers.BatchNormalization(name="norm"), layers.GlobalAveragePooling2D()]
        return tf_keras.Sequential([*chain, layers.Dense(5, name="head")])

    rows = {old.name: (old, new) for old, new in compare(make(4), make(2)).rows}
    assert list(rows) == ["conv", "norm", "head"]
    for filters, row in zip((4, 2), rows["conv"], strict=True):
        assert (row.units, row.params) == (filters, 3 * 3 * 3 * filters + filters)
        assert row.macs == 3 * 3 * 3 * filters * 6 * 6
    assert [row.params for row in rows["norm"]] == [4 * 4, 4 * 2]
    assert [row.macs for row in rows["head"]] == [4 * 5, 2 * 5]
