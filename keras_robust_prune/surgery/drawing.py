"""A network as a drawing, top down: a row per layer that has units or adds tensors up, with widths before and after.

Calls stand in their own order, one below the other. Where one does not read the one above it alone, lines at the side
lead to what it reads. Activations, normalisation and reshaping are passed over.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keras_robust_prune.graph.graph import Graph, Node, Ref
from keras_robust_prune.graph.tracing import CONSUMES, PRODUCES
from keras_robust_prune.surgery.groups import ChannelGroups

ROW, HEIGHT, BOX, LANE, EDGE = 40, 28, 292, 9, 6
MOST_LANES = 6
LONGEST = 24  # letters of a name


class Row(NamedTuple):
    """One call of the drawing.

    Attributes:
        name: of the layer.
        kind: its Keras class.
        before: the width of its output along the axis that units lie on; None if it is not known.
        after: likewise in the smaller network.
        reads: numbers of the rows that it reads, directly or through what is passed over.
    """

    name: str
    kind: str
    before: int | None
    after: int | None
    reads: tuple[int, ...]


def rows(dense: Graph, pruned: Graph, groups: ChannelGroups) -> list[Row]:
    """What is drawn, in the order of the calls.

    Args:
        dense: the network before.
        pruned: after, with the same names.
        groups: of the network before.
    """
    roles: dict[str, set[str]] = {}
    for group in groups.groups:
        for slot in group.slots:
            roles.setdefault(slot.layer, set()).add(slot.role)
    makes = {name for name, found in roles.items() if found & {PRODUCES, CONSUMES}}
    makes |= {item.layer for item in groups.kept if item.layer in dense.layers}
    outputs = {ref.node for ref in dense.outputs}
    number: dict[str, int] = {}
    through: dict[str, tuple[int, ...]] = {}
    found: list[Row] = []
    for node in dense.nodes:
        sources = dict.fromkeys(
            k
            for ref in node.inputs
            for k in ([number[ref.node]] if ref.node in number else through[ref.node])
        )
        reads = tuple(sorted(sources))
        layer = dense.layer_of(node)
        if layer.name in makes or layer.is_input or len(reads) > 1 or node.name in outputs:
            number[node.name] = len(found)
            before, after = (_width(graph, node, groups) for graph in (dense, pruned))
            found.append(Row(node.name, layer.kind, before, after, reads))
        else:
            through[node.name] = reads
    return found


def _width(graph: Graph, node: Node, groups: ChannelGroups) -> int | None:
    """The length of a call's first output along the axis that units lie on."""
    same = graph.node.get(node.name)
    if same is None or not same.shapes or not same.shapes[0]:
        return None
    axis = groups.where[Ref(node.name)].axis
    return same.shapes[0][axis]


def drawing(dense: Graph, pruned: Graph, groups: ChannelGroups) -> str:
    """The network as SVG, in the colours of the page that it stands in."""
    found = rows(dense, pruned, groups)
    lanes = _lanes(found)
    used = min(max(lanes.values(), default=-1) + 1, MOST_LANES)
    width, height = BOX + 2 * EDGE + LANE * (used + 1), ROW * len(found)
    parts = [_box(k, row) for k, row in enumerate(found)]
    for k, row in enumerate(found):
        for source in row.reads:
            lane = lanes.get((source, k))
            parts.append(_straight(k) if lane is None else _aside(source, k, lane % MOST_LANES))
    title = html.escape(f"The network {dense.name}, before and after")
    widths = ", ".join(f"{row.name} {_widths(row)}" for row in found if row.before)
    return (
        f'<svg role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' aria-label="{title.replace(chr(34), "&quot;")}"><title>{title}</title>'
        f"<desc>{html.escape(widths)}</desc>{''.join(parts)}</svg>"
    )


def _widths(row: Row) -> str:
    if row.before is None:
        return ""
    return f"{row.before:,}" if row.before == row.after else f"{row.before:,} → {row.after or 0:,}"


def _lanes(found: Sequence[Row]) -> Mapping[tuple[int, int], int]:
    """A lane at the side for every line that does not lead from one row straight to the next."""
    apart = [(source, k) for k, row in enumerate(found) for source in row.reads if k - source > 1]
    lanes: dict[tuple[int, int], int] = {}
    free: list[int] = []  # up to which row each lane is taken
    for source, end in sorted(apart):
        lane = next((k for k, taken in enumerate(free) if taken <= source), len(free))
        free[lane : lane + 1] = [end]
        lanes[source, end] = lane
    return lanes


def _box(k: int, row: Row) -> str:
    top = k * ROW + (ROW - HEIGHT) / 2
    share = (row.after or 0) / row.before if row.before and row.after is not None else 1.0
    name = row.name if len(row.name) <= LONGEST else f"{row.name[: LONGEST - 1]}…"
    whole = html.escape(f"{row.name}, {row.kind} {_widths(row)}".strip())
    full = f'<rect x="{EDGE}" y="{top}" width="{BOX}" height="{HEIGHT}" rx="3"'
    kept = (
        f'<rect x="{EDGE}" y="{top + HEIGHT - 5}" width="{round(BOX * share, 1)}" height="5" rx="2"'
    )
    gone = f'<rect x="{EDGE}" y="{top + HEIGHT - 5}" width="{BOX}" height="5" rx="2"'
    bars = f'{gone} style="fill:var(--gone)"/>{kept} style="fill:var(--a)"/>' if row.before else ""
    right = f'x="{EDGE + BOX - 6}" y="{top + 15}" text-anchor="end"'
    return (
        f'<g><title>{whole}</title>{full} style="fill:var(--tint);stroke:var(--line)"/>{bars}'
        f'<text x="{EDGE + 7}" y="{top + 15}">{html.escape(name)}</text>'
        f"<text {right}>{_widths(row)}</text></g>"
    )


def _straight(k: int) -> str:
    x, y = EDGE + BOX / 2, k * ROW - (ROW - HEIGHT) / 2
    return f'<path d="M{x} {y}v{ROW - HEIGHT}" style="stroke:var(--soft);stroke-width:1.5"/>'


def _aside(source: int, k: int, lane: int) -> str:
    edge, out = EDGE + BOX, EDGE + BOX + LANE * (lane + 1)
    begin, end = source * ROW + ROW / 2 + 6, k * ROW + ROW / 2 - 6
    return (
        f'<path d="M{edge} {begin}H{out - 4}Q{out} {begin} {out} {begin + 4}V{end - 4}'
        f'Q{out} {end} {out - 4} {end}H{edge}" style="fill:none;stroke:var(--soft);stroke-width:1.5"/>'
    )
