"""A differential certificate: how far a pruned network can be from the dense one around given inputs, proven.

Both networks are bounded together over each ball (`analysis.joint`), so that what they share cancels. It does not
matter how the pruned network came about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust_prune.graph.graph import Graph
from keras_robust_prune.inputs import InputSpec, by_input, parse_range
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.layers.asking import said
from keras_robust_prune.layers.lowering import lower
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.program import Program
from keras_robust_prune.reporting.progress import Progress
from keras_robust_prune.reporting.tables import Table, as_html
from keras_robust_prune.verify.alignment import aligned
from keras_robust_prune.verify.bounds import interval_bounds, joined
from keras_robust_prune.verify.crown import Backward
from keras_robust_prune.verify.joint import Joint, alike, beside, together

BATCH = 16
"""Inputs certified at once: it bounds the memory, not the result."""

VERDICTS = ("agree", "pruned_is_constant", "dense_is_constant")


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """What was proven about a pair of networks on balls around inputs.

    It holds for the networks computed exactly, on every input whose distance from x is at most eps in each coordinate
    and that lies in the input range. A verdict that is False is not a counterexample: nothing was proven.

    Attributes:
        eps: radius of each ball, `(inputs,)`.
        deviation_lower: lower bounds of pruned minus dense logits, `(inputs, outputs)`.
        deviation_upper: upper bounds.
        pruned_is_constant: the pruned network's class cannot change, `(inputs,)` bool.
        dense_is_constant: the dense network's cannot.
        agree: neither can, and both give the same class.
        aligned: whether units were compared one to one; without, the bounds are wider.
    """

    eps: np.ndarray
    deviation_lower: np.ndarray
    deviation_upper: np.ndarray
    pruned_is_constant: np.ndarray
    dense_is_constant: np.ndarray
    agree: np.ndarray
    aligned: bool
    _pair: _Pair = dataclasses.field(repr=False)

    @property
    def deviation(self) -> Interval:
        """Both bounds of pruned minus dense logits, `(inputs, outputs)`."""
        return Interval(self.deviation_lower, self.deviation_upper)

    def radius(
        self, verdict: str = "agree", largest: float | None = None, verbose: int = 1
    ) -> np.ndarray:
        """The largest radius per input at which a verdict was proven, by eight steps of bisection.

        Args:
            verdict: `"agree"`, `"pruned_is_constant"` or `"dense_is_constant"`.
            largest: where the search begins; 8 times the certificate's largest eps if None.
            verbose: 0 is silent; 1 says how far the work is if it takes long.

        Returns:
            `(inputs,)`; 0 where nothing was proven at any radius tried.
        """
        if verdict not in VERDICTS:
            raise ValueError(
                f"There is no verdict {verdict!r}. Choose one of {', '.join(VERDICTS)}."
            )
        top = 8 * float(np.max(self.eps)) if largest is None else float(largest)
        proven = np.zeros(len(self.eps))
        refuted = np.full(len(self.eps), top)
        for step in Progress.over("radius", range(9), verbose):
            eps = refuted if step == 0 else (proven + refuted) / 2
            held = getattr(self._pair.certify(eps), verdict)
            proven = np.where(held, eps, proven)
            refuted = np.where(held, refuted, eps)
        return proven

    @property
    def _verdicts(self) -> tuple[tuple[str, np.ndarray], ...]:
        return (
            ("both agree", self.agree),
            ("pruned cannot change", self.pruned_is_constant),
            ("dense cannot change", self.dense_is_constant),
        )

    @property
    def bound(self) -> str:
        """How far the networks can be from each other, in words."""
        size = self.deviation.magnitude
        return f"{np.median(size.max(axis=1)):.4g} (median), {size.max():.4g} (largest), in logits"

    @property
    def title(self) -> str:
        """On how many inputs, and within which distance of each."""
        return f"{len(self.eps)} inputs, l-inf radius {_span(self.eps)}"

    @property
    def table(self) -> Table:
        """For how many inputs each verdict was proven."""
        rows = [(name, f"{held.sum():,}", f"{held.mean():.4f}") for name, held in self._verdicts]
        return Table(("proven", "inputs", "share"), rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        named = ("eps", *VERDICTS, "deviation_lower", "deviation_upper")
        arrays = {name: getattr(self, name).tolist() for name in named}
        return {"num_inputs": len(self.eps), "aligned": self.aligned, **arrays}

    def __str__(self) -> str:
        lines = [
            f"  {name:<21}  {held.sum():6d}  {held.mean():.4f}" for name, held in self._verdicts
        ]
        return "\n".join([self.title, *lines, f"  |pruned - dense| <=    {self.bound}"])

    def _repr_html_(self) -> str:
        return as_html([self.title, self.table, f"|pruned - dense| <= {self.bound}"])


def _span(eps: np.ndarray) -> str:
    low, high = float(eps.min()), float(eps.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def certify(
    dense: Any,
    pruned: Any,
    x: Any,
    eps: float,
    input_range: Any = None,
    trust: bool = False,
    verbose: int = 1,
) -> Certificate:
    """Prove how far a pruned network can be from the dense one around inputs.

    Args:
        dense: the network before, a Keras model or a path.
        pruned: the network after. Units are matched if it has the dense one's layer names.
        x: inputs `(inputs, *shape)`; a list or a mapping by name if the network has several inputs.
        eps: radius of the balls, l-inf, in the units of x.
        input_range: valid inputs; balls are cut to it. None takes what the network says, else (0, 1);
            `(lower, upper)`, numbers or arrays, an `InputSpec`, or a mapping from input names to such.
        trust: whether a model's file may run code of its own; see `krp.load`.
        verbose: 0 is silent; 1 says how far the work is if it takes long.

    Returns:
        A certificate; printing it gives the counts.

    Raises:
        ValueError: x lies outside of the input range, the networks differ in inputs or outputs, or a layer has no
            bounds.

    Example:
        >>> import tf_keras
        >>> layers = [tf_keras.layers.Dense(2, input_shape=(2,), kernel_initializer="identity")]
        >>> model = tf_keras.Sequential(layers)
        >>> certificate = certify(model, model, [[0.9, 0.1], [0.5, 0.45]], eps=0.1)
        >>> certificate.agree
        array([ True, False])
        >>> float(certificate.deviation.magnitude.max()) < 1e-12
        True

    Reference:
        Backward linear bounds after [Zhang et al., 2018](https://arxiv.org/abs/1811.00866), on both networks at once;
        see `analysis.joint`.
    """
    graphs = [g if isinstance(g, Graph) else read(g, trust=trust) for g in (dense, pruned)]
    pair = _Pair.of(graphs[0], graphs[1], x, input_range)
    if not eps >= 0:
        raise ValueError(f"eps is {eps!r}; give a radius of at least 0.")
    return pair.certify(np.full(len(pair.inputs[0]), float(eps)), verbose)


@dataclasses.dataclass(frozen=True, eq=False)
class _Pair:
    """Two networks and the inputs at which they are compared."""

    program: Program
    paired: dict[int, int]
    inputs: list[np.ndarray]
    lower: list[np.ndarray]
    upper: list[np.ndarray]

    @classmethod
    def of(cls, dense: Graph, pruned: Graph, x: Any, input_range: Any) -> _Pair:
        one, two = lower(dense), lower(pruned)
        for what, places in (("inputs", ("inputs", "inputs")), ("outputs", ("logits", "logits"))):
            found = [
                [program.operations[k].shape for k in getattr(program, name)]
                for program, name in zip((one, two), places, strict=True)
            ]
            if found[0] != found[1]:
                raise ValueError(
                    f"The networks' {what} have shapes {found[0]} and {found[1]}; a certificate compares networks "
                    f"with the same {what}."
                )
        shapes = [one.operations[place].shape for place in one.inputs]
        names = [ref.node for ref in dense.inputs]
        inputs, ends = _inputs(parse_range(input_range, names, shapes, said(dense)), x)
        full = aligned(dense, pruned, [item[:64] for item in inputs])
        matched = None if full is None else lower(full)
        if matched is not None and alike(one, matched):
            program, paired = together(one, matched)
        else:
            program, paired = beside(one, two), {}
        return cls(program, paired, inputs, *ends)

    def certify(self, eps: np.ndarray, verbose: int | None = None) -> Certificate:
        parts = [
            self._part(slice(k, k + BATCH), eps[k : k + BATCH])
            for k in Progress.over("certificate", range(0, len(eps), BATCH), verbose)
        ]
        below, above, pruned, dense, agree = (
            np.concatenate(item) for item in zip(*parts, strict=True)
        )
        return Certificate(eps, below, above, pruned, dense, agree, bool(self.paired), self)

    def _part(self, rows: slice, eps: np.ndarray) -> tuple[np.ndarray, ...]:
        """Deviations below and above, verdicts on pruned and dense, agreement, of some inputs."""
        boxes: list[list[np.ndarray]] = [[], []]
        for x, low, high in zip(self.inputs, self.lower, self.upper, strict=True):
            radius = eps.reshape(-1, *[1] * (x.ndim - 1))
            # rounded outwards: a ball that is a little larger
            below, above = x[rows] - radius, x[rows] + radius
            boxes[0].append(np.maximum(np.nextafter(below, -np.inf), low))
            boxes[1].append(np.minimum(np.nextafter(above, np.inf), high))
        ends = boxes if len(self.inputs) > 1 else [end[0] for end in boxes]
        backward: Backward
        start = interval_bounds(self.program, *ends)
        backward = Joint(self.program, self.paired, list(start.values))
        backward.refine_all()
        half = len(self.program.logits) // 2
        dense, pruned = self.program.logits[:half], self.program.logits[half:]
        deviations = []
        for one, two in zip(dense, pruned, strict=True):
            shape = self.program.operations[one].shape
            unit = np.eye(int(np.prod(shape))).reshape(1, -1, *shape)
            deviations.append(backward.interval({two: unit, one: -unit}))
        values = self.program.values([x[rows] for x in self.inputs])
        verdicts, classes = [], []
        for side in (pruned, dense):
            found = [_constant(backward, place, values[place]) for place in side]
            verdicts.append(np.logical_and.reduce([constant for constant, _ in found]))
            classes.append(np.concatenate([label for _, label in found], axis=1))
        agree = verdicts[0] & verdicts[1] & (classes[0] == classes[1]).all(axis=1)
        deviation = joined(deviations)
        return deviation.lower, deviation.upper, verdicts[0], verdicts[1], agree


def _inputs(specs: Sequence[InputSpec], x: Any) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Inputs in float64, and the ends of their range, broadcast to one input each."""
    inputs = [
        np.asarray(item, np.float64)
        for item in by_input(x, [spec.name for spec in specs], [spec.shape for spec in specs])
    ]
    ends: list[list[np.ndarray]] = [[], []]
    for spec, item in zip(specs, inputs, strict=True):
        if item.shape[1:] != spec.shape:
            raise ValueError(
                f"x has shape {item.shape}; the network takes (inputs, *{spec.shape})."
            )
        low, high = (
            np.broadcast_to(end.astype(np.float64), spec.shape) for end in (spec.lower, spec.upper)
        )
        # x may have been rounded to float32
        slack = 1e-6 * (1 + np.abs(item))
        if (item < low - slack).any() or (item > high + slack).any():
            raise ValueError(
                f"x has values from {item.min():g} to {item.max():g}, outside of the input range,"
                f" {spec}. Give input_range=(lower, upper) as the network expects its inputs, or"
                " scale x."
            )
        ends[0].append(low)
        ends[1].append(high)
    clipped = [np.clip(item, low, high) for item, low, high in zip(inputs, *ends, strict=True)]
    return clipped, ends


def _constant(backward: Backward, place: int, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the class at x holds over the whole box, `(boxes,)`, and that class, `(boxes, positions)`.

    One output is a class by its sign; several are compared along the last axis, at every position.
    """
    shape = backward.program.operations[place].shape
    count = shape[-1] if shape else 1
    flat = logits.reshape(len(logits), -1, count)
    boxes, positions = flat.shape[:2]
    if count == 1:
        label = (flat[..., 0] > 0).astype(int)
        rows = np.einsum("bp,pq->bpq", 2.0 * label - 1, np.eye(positions))
        margins = backward.lower({place: rows.reshape(boxes, positions, *shape)})
        return np.asarray((margins > 0).all(axis=1)), label
    label = flat.argmax(axis=-1)
    unit = np.eye(count)
    margins_to = unit[label][:, :, None, :] - unit  # (boxes, positions, classes, classes)
    rows = np.zeros((boxes, positions, count, positions, count))
    where = np.arange(positions)
    rows[:, where, :, where] = np.moveaxis(margins_to, 1, 0)
    lower_margin = backward.lower({place: rows.reshape(boxes, positions * count, *shape)})
    lower_margin = lower_margin.reshape(boxes, positions, count)
    own = np.arange(count) == label[..., None]
    return np.asarray((own | (lower_margin > 0)).all(axis=(1, 2))), label
