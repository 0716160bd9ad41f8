"""Widths that a device's kernels like: multiples of the tile in which they compute output channels.

A kernel computes whole tiles: 17 channels take as long as 32 where the tile is 16. Pruning to such widths wastes
nothing (`device=`, or `round_to=` by hand).

| device | float32 | float16, int8 | where from |
|---|---|---|---|
| `"cpu"` | 8 | 16 | XNNPACK's kernels for Arm64: 4x8, 6x8 and 6x16, 4x16 tiles |
| `"gpu"` | 4 | 4 | the GPU delegate packs channels by four |
| `"hexagon"` | 32 | 32 | its vectors |
| `"host"` | measured | measured | this machine, see `measured_tile` |
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from keras_robust_prune import backends
from keras_robust_prune.latency.kernels import CONVOLUTION, Kernel
from keras_robust_prune.latency.writing import probe

HOST = "host"
_TILES = {"cpu": (8, 16), "gpu": (4, 4), "hexagon": (32, 32)}
DEVICES = (*_TILES, HOST)
# A 3x3 kernel on a map of 16 x 16 with 32 channels is timed at these widths.
_WIDTHS = tuple(range(4, 65, 4))
_ROUNDS, _RUNS = 12, 5
# Widths of one tile take the same time, to so much.
_ALIKE = 1.08


def tile(device: str, dtype: str = "float32") -> int:
    """Of what widths should be multiples on a device: what `krp.prune(model, device=("cpu", "int8"))` takes.

    Args:
        device: `"cpu"` (Arm64, XNNPACK), `"gpu"`, `"hexagon"`, or `"host"`, which is measured.
        dtype: how the file is quantised, e.g. `"float32"` or `"int8_uint8"`.

    Raises:
        ValueError: the device is unknown.

    Example:
        >>> tile("cpu"), tile("cpu", "int8"), tile("gpu", "int8")
        (8, 16, 4)
    """
    if device not in DEVICES:
        raise ValueError(f"device is {device!r}, but it is one of {DEVICES}.")
    small = dtype.startswith("int8") or dtype in ("float16", "dynamic")
    if device == HOST:
        return measured_tile("int8" if dtype.startswith("int8") else "float32")
    return _TILES[device][small]


def width_step(round_to: int, device: str | tuple[str, str] | None) -> int:
    """Of what widths become multiples, from what is asked: a number, or a device with or without the file's type.

    Raises:
        ValueError: both are asked for, or the device is unknown.

    Example:
        >>> width_step(4, None), width_step(1, "cpu"), width_step(1, ("cpu", "int8"))
        (4, 8, 16)
    """
    if device is None:
        return round_to
    if round_to != 1:
        raise ValueError(
            f"round_to={round_to} and device={device!r} both say what widths are multiples of: leave one out."
        )
    name, *dtype = (device,) if isinstance(device, str) else device
    return tile(name, *dtype)


def measured_tile(dtype: str) -> int:
    """The tile of this machine's convolutions, 4 to 32; 4 where no stairs show.

    Args:
        dtype: `"float32"` or `"int8"`.
    """
    kernels = [Kernel(CONVOLUTION, 3, 3, 1, 16, 16, 32, width) for width in _WIDTHS]
    return widest_tile(dict(zip(_WIDTHS, times_of(kernels, dtype), strict=True)))


def widest_tile(times: Mapping[int, float]) -> int:
    """The widest tile within which every width takes the same time.

    Args:
        times: by width, at multiples of 4.

    Example:
        >>> widest_tile({4: 1.0, 8: 1.0, 12: 2.0, 16: 2.0})
        8
    """
    found = 4
    for size in (8, 16, 32):
        blocks = [
            [times[width] for width in range(end - size + 4, end + 1, 4)]
            for end in range(size, max(times) + 1, size)
        ]
        if blocks and all(max(block) <= _ALIKE * min(block) for block in blocks):
            found = size
    return found


def times_of(
    kernels: Sequence[Kernel], dtype: str, rounds: int = _ROUNDS, runs: int = _RUNS
) -> np.ndarray:
    """Milliseconds of kernels on this machine, `(num_kernels,)`: each one's fastest run, the kernels taking turns.

    Args:
        kernels: what is timed.
        dtype: `"float32"` or `"int8"`.
        rounds: how often every kernel has its turn.
        runs: how often it runs then.
    """
    copies = 4
    ready = [backends.interpreter(probe(kernel, dtype, copies), 1) for kernel in kernels]
    for interpreter in ready:
        interpreter.allocate_tensors()
        interpreter.invoke()
    fastest = np.full(len(kernels), np.inf)
    for _ in range(rounds):
        for number, interpreter in enumerate(ready):
            for _ in range(runs):
                begin = time.thread_time()
                interpreter.invoke()
                fastest[number] = min(fastest[number], time.thread_time() - begin)
    return fastest * 1000 / copies
