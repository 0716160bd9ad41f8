"""The property test of tests/keras_io/test_random_networks.py on many more networks.

    python tests/benchmarks/random_networks.py [--num=200] [--first=1000] [--keras=tf_keras,keras]

Prints every network that fails, with its seed, and how many did not.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from absl import app, flags

HERE = Path(__file__).parents[1]
sys.path[:0] = [str(HERE / "keras_io"), str(HERE), str(HERE.parent)]

from test_random_networks import test_a_random_network

from keras_robust_prune import backends

NUM = flags.DEFINE_integer("num", 200, "How many networks, in each Keras.")
FIRST = flags.DEFINE_integer("first", 1000, "The first seed.")
KERASES = flags.DEFINE_list("keras", list(backends.NAMES), "Which Keras versions.")


def main(_: list[str]) -> None:
    failed = 0
    for seed in range(FIRST.value, FIRST.value + NUM.value):
        for keras in KERASES.value:
            try:
                test_a_random_network(seed, keras)
            except Exception:
                failed += 1
                print(f"seed {seed}, {keras}:\n{traceback.format_exc(limit=-3)}", flush=True)
            backends.module(keras).backend.clear_session()
    print(f"{failed} of {NUM.value * len(KERASES.value)} networks failed")


if __name__ == "__main__":
    app.run(main)
