"""What a network says of its own inputs.

A leading `Rescaling` knows how its inputs are stored, a `Normalization` or `BatchNormalization` their mean and
deviation, an `Embedding` how many tokens there are. Statistics behind a first linear layer do not give a range away,
but they can prove one wrong.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph, Layer, Ref
from keras_robust_prune.inputs import InputSpec, parse_range, with_examples
from keras_robust_prune.layers.base import layer_type

# Deviations that are a smaller share of what inputs all over the range would cause come from another range.
_TOO_FLAT = 0.01


def input_specs(
    graph: Graph, input_range: Any = None, calibration: Any = None
) -> tuple[InputSpec, ...]:
    """One `InputSpec` per input of a network.

    Args:
        graph: the network.
        input_range: None takes what the network says of itself, else [0, 1]; see `inputs.parse_range`.
        calibration: real unlabelled inputs for the specs to hold, see `inputs.with_examples`; None and
            `"weights"` give none.

    Raises:
        ValueError: a range or the examples do not fit the network; all problems at once.

    Warns:
        UserWarning: what is given contradicts what the network says.

    Example:
        >>> import tf_keras
        >>> from keras_robust_prune.keras_io.reading import read
        >>> layers = [
        ...     tf_keras.Input((8, 8, 1), name="image"),
        ...     tf_keras.layers.Rescaling(1 / 255, name="scale"),
        ... ]
        >>> print(*input_specs(read(tf_keras.Sequential(layers))))
        'image' (8, 8, 1) in [0, 255] ('scale' rescales by 0.00392)
    """
    names = [ref.node for ref in graph.inputs]
    shapes = [graph.shape(ref) for ref in graph.inputs]
    specs = parse_range(input_range, names, shapes, said(graph))
    if calibration is not None and not (isinstance(calibration, str) and calibration == "weights"):
        specs = with_examples(specs, calibration, shapes)
    settled = isinstance(input_range, (list, tuple)) and isinstance(input_range[0], InputSpec)
    for ref, spec in zip(graph.inputs, specs, strict=True):
        if not settled:
            _check_statistics(graph, ref, spec)
    return specs


def said(graph: Graph) -> tuple[InputSpec | None, ...]:
    """What the network says of each of its inputs; None where it says nothing."""
    return tuple(_said(graph, ref) for ref in graph.inputs)


def _said(graph: Graph, ref: Ref) -> InputSpec | None:
    layers = _first(graph, ref)
    tokens = {layer.name: layer_type(layer).num_tokens(layer) for layer in layers}
    if any(tokens.values()):
        least, name = min((number, name) for name, number in tokens.items() if number)
        return InputSpec((), 0, max(least - 1, 1), least, origin=f"'{name}' embeds them")
    if len(layers) != 1:
        return None
    shape = graph.shape(ref)
    hint = layer_type(layers[0]).made_for(layers[0], len(shape))
    if hint is None:
        return None
    try:
        np.broadcast_to(hint.lower, [length or 1 for length in shape])
        return InputSpec((), *hint[:2], origin=f"'{layers[0].name}' {hint.clause}")
    except ValueError:  # of another shape, or out of all bounds: not what it says of its inputs
        return None


def _first(graph: Graph, ref: Ref) -> list[Layer]:
    """The layers that first do something with an input."""
    found: list[Layer] = []
    seen = [ref]
    while seen:
        for node in graph.consumers.get(seen.pop(), ()):
            layer = graph.layer_of(node)
            if layer_type(layer).transparent:
                seen.append(node.ref)
            else:
                found.append(layer)
    return found


def _check_statistics(graph: Graph, ref: Ref, spec: InputSpec) -> None:
    """Warns where statistics stored behind a first linear layer cannot come from the range.

    A value between l and u has a mean between them and a deviation of at most (u - l) / 2.
    """
    layers = _first(graph, ref)
    if len(layers) != 1 or spec.num_tokens or len(graph.calls[layers[0].name]) != 1:
        return
    (layer,) = layers
    view = layer_type(layer).linear(layer)
    behind = [
        graph.layer_of(node) for node in graph.consumers.get(graph.calls[layer.name][0].ref, ())
    ]
    stored = layer_type(behind[0]).statistics(behind[0]) if len(behind) == 1 else None
    if view is None or stored is None or _activated(layer):
        return
    rows = view.matrix(layer)[:-1]
    deviations = np.sqrt(np.maximum(behind[0].weights[stored.variance], 0)).astype(float)
    if len(deviations) != rows.shape[1]:
        return
    width = float(
        (np.maximum(spec.upper, 0) - np.minimum(spec.lower, 0)).max()
    )  # padding adds zeros
    half = 0.5 * width * np.abs(rows).sum(0)
    usual = 0.29 * width * np.sqrt(np.square(rows).sum(0))
    live = half > 1e-9
    largest = float((deviations[live] / half[live]).max(initial=0))
    share = float((deviations[live] / usual[live]).max(initial=0))
    told = f"'{behind[0].name}' stores deviations"
    if largest > 1.01:
        what = (
            f"that inputs in {spec.ends} cannot cause: they are at least {largest:.3g} times wider"
        )
    elif live.any() and share < _TOO_FLAT:
        what = f"that are {share:.1g} of what inputs all over {spec.ends} cause"
    else:
        return
    warnings.warn(
        f"The range of '{spec.name}' is {spec.ends} ({spec.origin}), but {told} {what}. Pass"
        " input_range=(lower, upper) as the network was trained, for example (0, 1), (-1, 1) or (0, 255).",
        stacklevel=3,
    )


def _activated(layer: Layer) -> bool:
    name = layer_type(layer).activation
    return name is not None and layer.config.get(name) not in (None, "linear")
