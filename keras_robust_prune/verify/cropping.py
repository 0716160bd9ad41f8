"""The part of a network that a few neighbouring numbers read.

A number behind two convolutions sees a small patch of the input. Coefficients that go backward from numbers of one
place would be zero everywhere else, so the operations are cut down to what is read, and so are the lines on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_robust_prune.primitives.base import Region, Relaxation, sizes
from keras_robust_prune.primitives.intervals import Interval
from keras_robust_prune.primitives.program import Operation, Program


def regions(program: Program, start: Mapping[int, Region]) -> dict[int, Region] | None:
    """What is read of every tensor, by place.

    Args:
        program: the network.
        start: what is wanted of some tensors with spatial axes.

    Returns:
        Regions of all tensors that are read; None if an operation cannot be cut down, or if two consumers of one tensor
        read different parts.
    """
    found = dict(start)
    for place in range(max(start), -1, -1):
        primitive = program.operations[place].primitive
        if place not in found or primitive is None:
            continue
        read = primitive.reads(found[place])
        for source in program.operations[place].inputs:
            if read is None or found.setdefault(source, read) != read:
                return None
    return found


def cropped(program: Program, found: Mapping[int, Region]) -> Program:
    """A program that computes what `regions` found to be read, and only that."""
    operations = list(program.operations)
    for place, region in found.items():
        operation = program.operations[place]
        operations[place] = _smaller(operation, region, [found[k] for k in operation.inputs])
    return dataclasses.replace(program, operations=tuple(operations))


def part_of(item: Any, region: Region) -> Any:
    """Arrays `(boxes, *space, channels)`, or what is made of them, cut to a region."""
    if isinstance(item, (np.ndarray, Interval)):
        index = (slice(None), *region)
        return item[index]
    if isinstance(item, tuple):
        return tuple(part_of(part, region) for part in item)
    assert isinstance(item, Relaxation)
    lower, upper, slopes = part_of((item.lower_offset, item.upper_offset, item.slopes), region)
    return Relaxation(lower, upper, slopes)


def _smaller(operation: Operation, region: Region, inputs: list[Region]) -> Operation:
    """An operation that computes one region of what it computed, from regions of its inputs."""
    shape, primitive = (*sizes(region), operation.shape[-1]), operation.primitive
    if primitive is not None:
        primitive = primitive.cropped(region, inputs[0])
    return dataclasses.replace(operation, primitive=primitive, shape=shape)


def read_for_one(program: Program, place: int) -> list[Operation]:
    """The operations that one number of a tensor takes, cut down to what it reads where that is possible."""
    middle = tuple(slice(n // 2, n // 2 + 1) for n in program.operations[place].shape[:-1])
    found = regions(program, {place: middle}) if middle else None
    if found is None:
        return list(program.operations[: place + 1])
    return [
        _smaller(operation, region, [found[k] for k in operation.inputs])
        for operation, region in ((program.operations[k], found[k]) for k in found)
    ]


def blocks(
    shape: tuple[int, ...], elements: np.ndarray, least: int
) -> list[tuple[Region, np.ndarray, np.ndarray]]:
    """Numbers of a tensor grouped by neighbourhood.

    Args:
        shape: of the tensor, `(*space, channels)`.
        elements: of the flattened tensor, `(numbers,)`.
        least: how many numbers a group should have on average.

    Returns:
        For each group its region, which of `elements` it holds, and their places in the flattened region.
    """
    space = shape[:-1]
    where = np.unravel_index(elements // shape[-1], space)
    positions = int(np.prod(space))
    edge = max(1, int(np.ceil((least * positions / max(1, len(elements))) ** (1 / len(space)))))
    counts = tuple(-(-n // edge) for n in space)
    group = np.ravel_multi_index(tuple(item // edge for item in where), counts)
    order = np.argsort(group, kind="stable")
    found = []
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        region = tuple(slice(int(item[rows].min()), int(item[rows].max()) + 1) for item in where)
        inside = tuple(item[rows] - part.start for item, part in zip(where, region, strict=True))
        size = tuple(part.stop - part.start for part in region)
        flat = np.ravel_multi_index(inside, size) * shape[-1] + elements[rows] % shape[-1]
        found.append((region, rows, flat))
    return found
