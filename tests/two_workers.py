"""`RobustPruning` in a `fit` of two workers on this machine, one of which is killed and started again.

    python -m tests.two_workers --kill

Without `--kill` both run through. What they end with is compared with a single process that sees the same batches, and
printed as JSON. Keras 3.15 itself does not train on several workers.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np

EPOCHS, BATCH = 5, 32
SECONDS = 600


def fitted(keras: str, strategy: Any, folder: Path, pause: float = 0.0) -> list[np.ndarray]:
    """The weights, masks among them, after a `fit` in whose third epoch half of the units go."""
    from networks import wrapped

    import keras_robust_prune as krp
    from keras_robust_prune import backends
    from keras_robust_prune.synthesis.kinds import Synthesis

    module = backends.module(keras)
    few = krp.Robust(repair="reconstruct", synthesis=Synthesis(num_inputs=64))

    class Slow(module.callbacks.Callback):  # type: ignore[misc, name-defined]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            (folder / f"epoch{epoch}").touch()
            time.sleep(pause)

    # Workers share the place, as they would on a network drive.
    backup = (folder.parent if "TF_CONFIG" in os.environ else folder) / "backup"
    model, x, y = wrapped(strategy, keras, 2 * BATCH)
    data = backends.tensorflow().data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    model.fit(
        data,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[
            krp.RobustPruning(0.5, begin=1, end=2, method=few),
            module.callbacks.BackupAndRestore(str(backup)),
            Slow(),
        ],
    )
    return list(model.get_weights())


def work(keras: str, folder: Path, pause: float) -> None:
    """One process: a worker where TF_CONFIG is set, else all of it."""
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    folder.mkdir(exist_ok=True)
    weights = fitted(keras, strategy, folder, pause)
    np.savez(folder / "end.npz", **{str(k): value for k, value in enumerate(weights)})


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [int(item.getsockname()[1]) for item in sockets]
    for item in sockets:
        item.close()
    return ports


def started(
    keras: str, folder: Path, cluster: Any = None, index: int = 0, pause: float = 0.0
) -> Any:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    if cluster:
        env["TF_CONFIG"] = json.dumps(
            {"cluster": cluster, "task": {"type": "worker", "index": index}}
        )
    command = [
        sys.executable,
        __file__,
        f"--keras={keras}",
        f"--folder={folder}",
        f"--pause={pause}",
    ]
    return subprocess.Popen(command, env=env)


def ended(processes: list[Any]) -> None:
    for process in processes:
        if process.wait(SECONDS):
            raise RuntimeError(f"A worker ended with status {process.returncode}.")


def compared(keras: str, kill: bool, root: Path) -> dict[str, float]:
    """How far two workers are from each other, and from one process."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    folders = [root / "chief", root / "other"]
    pause = 1.0 if kill else 0.0
    pair = [started(keras, folder, cluster, k, pause) for k, folder in enumerate(folders)]
    try:
        if kill:
            end = time.monotonic() + SECONDS
            while not (folders[1] / "epoch2").exists():
                if time.monotonic() > end or pair[1].poll() is not None:
                    raise RuntimeError("The second worker did not get to its third epoch.")
                time.sleep(0.05)
            os.kill(pair[1].pid, signal.SIGKILL)
            pair[1].wait()
            # The chief notices and ends with an error: a cluster's supervisor starts both again.
            pair[0].wait(SECONDS)
            pair = [started(keras, folder, cluster, k) for k, folder in enumerate(folders)]
        ended(pair)
    finally:
        for process in pair:
            process.kill()
    ended([started(keras, root / "alone")])
    one, two, alone = (
        [np.load(folder / "end.npz")[str(k)] for k in range(len(np.load(folder / "end.npz").files))]
        for folder in (*folders, root / "alone")
    )
    return {"between": _apart(one, two), "from one process": _apart(one, alone)}


def _apart(one: list[np.ndarray], two: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, two, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keras", default="tf_keras")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    args = parser.parse_args()
    if args.folder:
        work(args.keras, args.folder, args.pause)
        return
    with tempfile.TemporaryDirectory() as root:
        begin = time.monotonic()
        found = compared(args.keras, args.kill, Path(root))
        print(json.dumps({**found, "seconds": round(time.monotonic() - begin)}))


if __name__ == "__main__":
    main()
