"""The model that files are made of, and the inputs that they are calibrated and judged on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from keras_robust_prune.evaluation.adapters import KerasAdapter
from keras_robust_prune.evaluation.layout import Layout
from keras_robust_prune.exporting.converting import convert
from keras_robust_prune.exporting.equalizing import equalized
from keras_robust_prune.exporting.quantization import quantization_for
from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.keras_io import reading
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.surgery.folding import folded
from keras_robust_prune.synthesis.kinds import synthesize
from keras_robust_prune.synthesis.synthesis import synthetic_inputs

NUM_POINTS = 64
NUM_CALIBRATION = 200
NUM_HELD_OUT = 100


@dataclasses.dataclass(eq=False)
class Source:
    """The model that files are made of, and the inputs that decide and judge."""

    model: Any
    adapter: KerasAdapter
    input_range: Any
    calibration: Any
    calibrated: bool
    seed: int

    @property
    def layout(self) -> Layout:
        return self.adapter.layout

    @cached_property
    def graph(self) -> Graph:
        return reading.read(self.model)

    @cached_property
    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows to calibrate on and rows to judge on, from the same source and apart."""
        if self.calibration is None:
            count = NUM_CALIBRATION + NUM_HELD_OUT
            rows = self._rows(every_kind(self.graph, self.input_range, count, self.seed))
        elif isinstance(self.calibration, str) and self.calibration == "weights":
            count = NUM_CALIBRATION + NUM_HELD_OUT
            rows = range_points(self.layout, self.input_range, count, self.seed)
        else:
            specs = input_specs(self.graph, self.input_range, self.calibration)
            rows = self.layout.pack([spec.examples for spec in specs])
        if not len(rows):
            raise ValueError("calibration holds no input. Give some, or None for synthetic inputs.")
        if len(rows) < 8:
            return rows, range_points(self.layout, self.input_range, NUM_POINTS, self.seed + 1)
        held_out = np.arange(len(rows)) % 4 == 3
        return rows[~held_out], rows[held_out][:NUM_HELD_OUT]

    @cached_property
    def held_out(self) -> np.ndarray:
        """Rows to judge files on; where none is calibrated they need not be shaped by the network, which takes time."""
        if self.calibrated:
            return self.inputs[1]
        made = synthetic_inputs(self.graph, self.input_range, NUM_HELD_OUT, self.seed, invert=False)
        return self._rows(made.arrays)

    def bounds(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The valid range of every input, by its name."""
        lower, upper = (
            self.layout.unpack(row[np.newaxis]) for row in self.layout.range_rows(self.input_range)
        )
        pairs = [(low[0], high[0]) for low, high in zip(lower, upper, strict=True)]
        return dict(zip(self.layout.names, pairs, strict=True))

    def _rows(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return self.layout.pack(dict(zip(self.layout.names, arrays, strict=True)))

    @cached_property
    def float_content(self) -> bytes:
        """The float32 file, which others are compared with."""
        return convert(self.model, quantization_for(None))

    @cached_property
    def folded(self) -> Source:
        """The same for the model without normalisations that stand behind no kernel; itself if all have to stay."""
        graph, _ = folded(self.graph)
        return self if len(graph.nodes) == len(self.graph.nodes) else self._of(graph)

    @cached_property
    def equalized(self) -> Source | None:
        """The same for the equalised model; None if nothing of it can be equalised."""
        graph = equalized(self.graph, self._parts())
        return None if graph is self.graph else self._of(graph)

    def _of(self, graph: Graph) -> Source:
        """The same inputs for another graph."""
        found = dataclasses.replace(self, model=reading.build(graph))
        if self.calibrated:
            found.__dict__["inputs"] = self.inputs
        return found

    def _parts(self) -> list[np.ndarray]:
        """Rows to calibrate on as one array per input."""
        rows, _ = self.inputs
        return [
            part.astype(dtype)
            for part, dtype in zip(self.layout.unpack(rows), self.adapter.dtypes, strict=True)
        ]

    def examples(self) -> list[Any]:
        """Single inputs, as the converter takes them: several inputs go by name, for it orders them its own way."""
        rows, _ = self.inputs
        parts = self._parts()
        if len(parts) == 1:
            return [[parts[0][i : i + 1]] for i in range(len(rows))]
        return [
            {name: part[i : i + 1] for name, part in zip(self.layout.names, parts, strict=True)}
            for i in range(len(rows))
        ]


def every_kind(graph: Graph, input_range: Any, count: int | None, seed: int) -> list[np.ndarray]:
    """Synthetic inputs of every kind that pruning would use, taking turns; `(count, *shape)` per network input.

    Args:
        graph: the network.
        input_range: of its inputs.
        count: how many; None leaves it to the network's size, as pruning does, so that what it made is there.
        seed: of what is drawn.
    """
    kinds = synthesize(graph, input_range, count=count, seed=seed)
    fewest = min(len(kind.arrays[0]) for kind in kinds)
    return [
        np.stack([array[:fewest] for array in arrays], 1).reshape(-1, *arrays[0].shape[1:])[:count]
        for arrays in zip(*(kind.arrays for kind in kinds), strict=True)
    ]


def range_points(layout: Layout, input_range: Any, num: int, seed: int = 0) -> np.ndarray:
    """Points of the input range, rows `(num, num_features)`: its two ends and middle, dense and sparse random ones."""
    lower, upper = layout.range_rows(input_range)
    rng = np.random.default_rng(seed)
    place = rng.uniform(size=(num, layout.num_features))
    sparse = rng.uniform(size=(num, 1)) * (np.arange(num) % 2)[:, np.newaxis]
    place *= rng.uniform(size=place.shape) >= sparse
    place[:3] = np.array([0.0, 1.0, 0.5])[:num, np.newaxis]
    return (lower + place * (upper - lower)).astype(np.float32)
