"""What each group costs alone: its weakest units removed, everything else as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import input_specs
from keras_robust_prune.layers.splitting import split_activations
from keras_robust_prune.methods.saliency import norm_saliency
from keras_robust_prune.methods.schedules import check_fraction
from keras_robust_prune.reporting.plots import new_figure
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.reporting.tables import Table, as_html
from keras_robust_prune.surgery.costs import work_of
from keras_robust_prune.surgery.cutting import mask
from keras_robust_prune.surgery.groups import ChannelGroup, ChannelGroups, find_groups
from keras_robust_prune.surgery.plan import Plan, Removal
from keras_robust_prune.synthesis.probe import ActivationProbe, batch_size, logit_refs
from keras_robust_prune.synthesis.rerunning import Rerun
from keras_robust_prune.synthesis.synthesis import synthetic_inputs, usual_count

NUM_INPUTS = 256
FRACTIONS = (0.125, 0.25, 0.5, 0.75)
TITLES = {"accuracy": "accuracy", "agreement": "agreement with the whole network"}
TITLES["change"] = "change of the outputs, as a share of their spread"


@dataclasses.dataclass(frozen=True, eq=False)
class Sensitivity:
    """What `sensitivity` found. Prints, and shows itself, as a table; `plot()` draws it.

    Attributes:
        name: of the network.
        groups: names, in the order of the network.
        fractions: of a group's units, each tried alone.
        num_units: of each group.
        removed: how many units went, `(groups, fractions)`.
        scores: each `(groups, fractions)`: `"change"`, root mean square of how the outputs change, before a closing
            softmax or sigmoid, over the deviation of the outputs from their mean (over their size where they are
            always the same): 0 is none, lower is better;
            `"agreement"` for networks that give classes, the share that stays the same, in [0, 1]; `"accuracy"` where
            labels were given.
        dense: of the whole network, by the same names.
        num_inputs: on how many inputs.
        tier: which inputs these were.
    """

    name: str
    groups: tuple[str, ...]
    fractions: tuple[float, ...]
    num_units: tuple[int, ...]
    removed: np.ndarray
    scores: Mapping[str, np.ndarray]
    dense: Mapping[str, float]
    num_inputs: int
    tier: str

    @property
    def measure(self) -> str:
        """What is shown: accuracy where there are labels, else agreement, else the change of the outputs."""
        return next(name for name in TITLES if name in self.scores)

    @property
    def losses(self) -> np.ndarray:
        """What is lost by the measure that is shown, `(groups, fractions)`; lower is better."""
        return np.abs(self.scores[self.measure] - self.dense[self.measure])

    def targets(self, at_most: float) -> dict[str, float]:
        """The largest fraction of each group that, removed alone, loses no more than that: for `prune(target=...)`.

        Args:
            at_most: of what is shown: accuracy, agreement, or change of the outputs.

        Returns:
            A fraction of those measured by group; 0.0 where the least of them already loses more.
        """
        held = np.logical_and.accumulate(self.losses <= at_most, axis=1).sum(axis=1)
        tried = (0.0, *self.fractions)
        return {name: tried[count] for name, count in zip(self.groups, held, strict=True)}

    @property
    def title(self) -> str:
        """What stands in the table, and on which inputs."""
        whole = (
            f"{self.dense[self.measure]:.3f} with all units, " if self.measure == "accuracy" else ""
        )
        return (
            f"{self.name}: {TITLES[self.measure]} with a fraction of one group removed,"
            f" {whole}on {self.num_inputs:,} {self.tier}"
        )

    @property
    def table(self) -> Table:
        """A row per group, a column per fraction."""
        rows = [
            (name, f"{units:,}", *(f"{score:.3f}" for score in scores))
            for name, units, scores in zip(
                self.groups, self.num_units, self.scores[self.measure], strict=True
            )
        ]
        return Table(("group", "units", *map(_percent, self.fractions)), rows)

    def __str__(self) -> str:
        return f"{self.title}\n\n{self.table}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html([self.title, self.table])

    def plot(self) -> Any:
        """What is lost, a row per group and a column per fraction, as a figure that notebooks show.

        Raises:
            ValueError: matplotlib is not installed.
        """
        figure = new_figure(3.5 + 0.8 * len(self.fractions), 1.6 + 0.28 * len(self.groups))
        axes = figure.add_subplot()
        losses, scores = self.losses, self.scores[self.measure]
        top = max(float(losses.max()), 1e-9)
        image = axes.imshow(losses, cmap="Oranges", vmin=0, vmax=top, aspect="auto")
        for row, column in np.ndindex(*losses.shape):
            dark = losses[row, column] > 0.6 * top
            axes.text(
                column, row, f"{scores[row, column]:.3f}", ha="center", va="center",
                fontsize=8, color="white" if dark else "black",
            )  # fmt: skip
        axes.set_xticks(range(len(self.fractions)), [_percent(value) for value in self.fractions])
        axes.set_yticks(range(len(self.groups)), self.groups, fontsize=8)
        axes.set(xlabel="of the group's units removed, alone", title=f"{self.name}: {self.measure}")
        figure.colorbar(image, label="lost")
        return figure


def sensitivity(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    fractions: Sequence[float] = FRACTIONS,
    input_range: Any = None,
    keep: Iterable[str] = (),
    num_inputs: int = NUM_INPUTS,
    seed: int = 0,
    verbose: int = 1,
    trust: bool = False,
) -> Sensitivity:
    """What each group costs alone: of one group after the other the weakest units are removed, nothing is repaired.

    The units are those of least incoming times outgoing norm. Only what a group reaches is computed anew.

    Args:
        model: a model of tf_keras or Keras 3, or the path of one; it is never changed.
        x: inputs, labelled or not: whatever `calibration` of `prune` takes; None makes them from the network.
        y: class numbers, one per output position, or one-hot rows, of a network with one output; they need `x`.
        fractions: of a group's units to remove, each in (0, 1).
        input_range: the valid inputs, as for `prune`.
        keep: names of layers whose units stay.
        num_inputs: on how many inputs at most; the first ones of `x`.
        seed: of everything that is drawn.
        verbose: 0 is silent.
        trust: whether a model's file may run code of its own; see `krp.load`.

    Returns:
        A `Sensitivity`; `print` it, `plot()` it, or take `targets(at_most)` to `krp.prune(target=...)`.

    Raises:
        ModelError: the model cannot be read.
        ValueError: a fraction, the inputs or the labels do not fit, or no unit can be removed.

    Example:
        >>> import keras_robust_prune as krp
        >>> import tf_keras
        >>> layers = [
        ...     tf_keras.Input((2,)),
        ...     tf_keras.layers.Dense(4, name="a"),
        ...     tf_keras.layers.Dense(2),
        ... ]
        >>> model = tf_keras.Sequential(layers, name="small")
        >>> weights = [np.diag([1.0, 1.0]).repeat(2, 1), np.zeros(4)]
        >>> weights += [np.array([[1, 0], [0, 0], [0, 1], [0, 0]]), np.array([0, 0.5])]
        >>> model.set_weights(weights)
        >>> x = np.array([[0.0, 1.0], [1.0, 0.0]])
        >>> print(krp.sensitivity(model, x, [1, 0], fractions=(0.5, 0.75), verbose=0))
        small: accuracy with a fraction of one group removed, 1.000 with all units, on 2 given inputs
        <BLANKLINE>
        group  units   50 %   75 %
        --------------------------
        a          4  1.000  0.500

    Reference:
        The analysis of Li et al., "Pruning Filters for Efficient ConvNets", 2017, group by group.
    """
    graph = read(model, trust=trust)
    groups = find_groups(graph, keep)
    tried = _fractions(fractions)
    inputs, tier = _inputs(graph, input_specs(graph, input_range, x), num_inputs, seed, verbose)
    measuring = _Measuring(graph, groups, tried)
    labels = None if y is None else measuring.labels(y, x is None, len(inputs[0]))
    size = batch_size(measuring.dense)
    parts = [slice(k, k + size) for k in range(0, len(inputs[0]), size)]
    with Progress("sensitivity", len(parts) * len(groups.groups), verbose) as progress:
        for part in parts:
            found = None if labels is None else labels[part]
            measuring.take([column[part] for column in inputs], found, progress)
    scores, dense = measuring.scores
    return Sensitivity(
        graph.name,
        tuple(groups.widths),
        tried,
        tuple(groups.widths.values()),
        measuring.removed,
        scores,
        dense,
        len(inputs[0]),
        tier,
    )


class _Measuring:
    """One analysis under way: sums over batches of inputs.

    Args:
        graph: the whole network.
        groups: of it.
        fractions: of a group's units.
    """

    def __init__(self, graph: Graph, groups: ChannelGroups, fractions: Sequence[float]) -> None:
        self.graph, self.groups = graph, groups
        self.dense = split_activations(graph)
        self.refs = logit_refs(self.dense)
        self.rerun = Rerun(self.dense, self.refs)
        self.classes = [a != b for a, b in zip(self.refs, self.dense.outputs, strict=True)]
        self.removed = np.array(
            [
                [min(round(f * g.num_units), g.num_units - 1) for f in fractions]
                for g in groups.groups
            ]
        )
        shape = self.removed.shape
        self._squares, self._same, self._right = (np.zeros(shape) for _ in range(3))
        self._right_dense, self._num_positions, self._num_labels, self._count = 0, 0, 0, 0
        self._sums: list[Any] = []

    def labels(self, y: Any, made: bool, num_inputs: int) -> np.ndarray:
        """Class numbers of the first inputs, `(num_inputs, *positions)`."""
        shapes = [self.dense.shape(ref) for ref in self.refs]
        labels = np.asarray(y)[:num_inputs]
        if made:
            raise ValueError("y holds labels of no inputs: pass them as x, or leave y out.")
        if len(shapes) != 1:
            raise ValueError(
                f"'{self.graph.name}' has {len(shapes)} outputs; y is for networks with one. Leave it out: what"
                " changes is measured without labels."
            )
        (shape,) = shapes
        num_classes = max(shape[-1] or 1, 2)
        if labels.ndim == len(shape) + 1 and labels.shape[-1] == shape[-1] != 1:
            labels = labels.argmax(-1)
        elif labels.ndim == len(shape) + 1 and labels.shape[-1] == 1:
            labels = labels[..., 0]
        fits = labels.ndim == len(shape) and len(labels) == num_inputs
        if (
            not fits
            or (labels != labels.astype(int)).any()
            or not 0 <= labels.min() <= labels.max() < num_classes
        ):
            raise ValueError(
                f"y has shape {np.shape(y)} and does not hold a class from 0 to {num_classes - 1} for each of the"
                f" {num_inputs:,} inputs. Give class numbers or one-hot rows."
            )
        return labels.astype(int)

    def take(self, inputs: list[np.ndarray], labels: np.ndarray | None, progress: Progress) -> None:
        """Adds a batch of inputs."""
        dense = self.rerun.begin(inputs)
        answers = [_classes(logits) for logits in dense]
        self._count += len(dense[0])
        self._num_positions += sum(a.size for a, k in zip(answers, self.classes, strict=True) if k)
        if labels is not None:
            self._right_dense += int((answers[0] == labels).sum())
            self._num_labels += labels.size
        moments = [
            part
            for z in dense
            for part in (z.sum(0, np.float64), np.square(z, dtype=np.float64).sum(0))
        ]
        self._sums = [
            a + b for a, b in zip(self._sums or [0.0] * len(moments), moments, strict=True)
        ]
        for row, group in enumerate(self.groups.groups):
            order = np.argsort(norm_saliency(self.graph, group), kind="stable")
            for column, count in enumerate(self.removed[row]):
                found = self._without(group, order[:count], inputs)
                for z, logits, answer, is_class in zip(
                    dense, found, answers, self.classes, strict=True
                ):
                    self._squares[row, column] += np.square(logits - z, dtype=np.float64).sum()
                    if is_class:
                        self._same[row, column] += (_classes(logits) == answer).sum()
                if labels is not None:
                    self._right[row, column] += (_classes(found[0]) == labels).sum()
            progress.update()

    def _without(
        self, group: ChannelGroup, units: np.ndarray, inputs: list[np.ndarray]
    ) -> list[np.ndarray]:
        """The logits of the batch that was begun, some units of a group masked."""
        plan = Plan.empty(self.groups) + tuple(Removal(group.name, int(unit)) for unit in units)
        masked = mask(self.graph, self.groups, plan)
        if not group.merges:  # a normalisation over units is another one with a mask
            split = split_activations(masked)
            return ActivationProbe(split, logit_refs(split)).run(inputs)
        layers = masked.layers.items()
        return self.rerun.changed(new for name, new in layers if new is not self.graph.layers[name])

    @property
    def scores(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """By name, of every group and fraction and of the whole network."""
        spread = sum(
            float((square - total**2 / self._count).sum())
            for total, square in zip(self._sums[::2], self._sums[1::2], strict=True)
        )
        size = sum(float(square.sum()) for square in self._sums[1::2])
        whole = spread if spread > 1e-9 * size else size or 1.0  # outputs that are always the same
        scores, dense = {"change": np.sqrt(self._squares / whole)}, {"change": 0.0}
        if self._num_positions:
            scores["agreement"], dense["agreement"] = self._same / self._num_positions, 1.0
        if self._num_labels:
            scores["accuracy"] = self._right / self._num_labels
            dense["accuracy"] = self._right_dense / self._num_labels
        return scores, dense


def _inputs(
    graph: Graph, specs: tuple[InputSpec, ...], count: int, seed: int, verbose: int
) -> tuple[list[np.ndarray], str]:
    """At most so many inputs, and what they are."""
    given = [spec.examples for spec in specs if spec.examples is not None]
    if given:
        return [column[:count] for column in given], "given inputs"
    count = min(count, usual_count(work_of(graph)))
    return list(synthetic_inputs(graph, specs, count, seed, verbose).arrays), "synthetic inputs"


def _fractions(given: Sequence[float]) -> tuple[float, ...]:
    """Fractions in (0, 1), rising.

    Raises:
        ValueError: there is none, or one lies outside.
    """
    found = tuple(sorted(check_fraction("a fraction", value) for value in given))
    if not found or found[0] == 0:
        raise ValueError(f"fractions is {given!r}; give at least one, each in (0, 1).")
    return found


def _classes(logits: np.ndarray) -> np.ndarray:
    return logits[..., 0] > 0 if logits.shape[-1] == 1 else logits.argmax(-1)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"
