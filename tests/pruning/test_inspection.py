"""What `inspect` says before anything is removed."""

from __future__ import annotations

import tf_keras

import keras_robust_prune as krp


def test_groups_are_printed_with_what_is_kept() -> None:
    """4 x 5 + 5 x 3 + 3 x 2 = 41 multiplications, and 10 biases."""
    layers = tf_keras.layers
    chain = [layers.Dense(units, name=name) for name, units in (("a", 5), ("b", 3), ("c", 2))]
    text = str(krp.inspect(tf_keras.Sequential([layers.Input((4,)), *chain], name="chain")))
    assert "chain: 51 parameters, 41 MACs" in text
    assert [line.split()[:4] for line in text.splitlines() if line.startswith(("a ", "b "))] == [
        ["a", "a", "b", "5"],
        ["b", "b", "c", "3"],
    ]
    assert "c        2      output" in text


def test_groups_whose_cost_cannot_be_known_are_named_with_the_reason() -> None:
    """4 units at 51 x 51 places are 10,404 rows of what reads them, and at 50 x 50 places 10,000."""
    layers = tf_keras.layers

    def network(side: int) -> tf_keras.Model:
        first = layers.Conv2D(4, 1, name="wide", input_shape=(side, side, 1))
        return tf_keras.Sequential([first, layers.Flatten(), layers.Dense(2, name="head")])

    found = krp.inspect(network(51))
    why = "'head' reads them in 10,404 rows, more than the 10,000 up to which a layer can be solved anew"
    assert found.protected == found.to_dict()["protected"] == {"wide": why}
    assert f"wide           {why}" in str(found)
    assert krp.inspect(network(50)).protected == {}
    assert "is taken last" not in str(krp.inspect(network(50)))
