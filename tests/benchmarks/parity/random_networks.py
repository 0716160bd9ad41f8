"""The property test of tests/keras_io/test_random_networks.py on many more networks.

    python -m tests.benchmarks random_networks [--num=200] [--first=1000] [--keras=tf_keras,keras]

A row for every network: what failed, or nothing.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from absl import flags

from keras_robust_prune import backends
from tests.benchmarks.benchmark import Benchmark
from tests.keras_io.test_random_networks import test_a_random_network

NUM = flags.DEFINE_integer("num", 200, "How many networks, in each Keras.")
FIRST = flags.DEFINE_integer("first", 1000, "The first seed.")
BACKENDS = flags.DEFINE_list("keras", list(backends.NAMES), "Which Keras versions.")


def measure(seed: str, keras: str) -> Iterator[dict[str, str]]:
    """What fails on one network."""
    failure = ""
    try:
        test_a_random_network(int(seed), keras)
    except Exception:
        failure = traceback.format_exc(limit=-3)
    backends.module(keras).backend.clear_session()
    yield {"failure": failure}


BENCHMARK = Benchmark(
    cases=lambda: (
        {"seed": str(seed), "keras": keras}
        for seed in range(FIRST.value, FIRST.value + NUM.value)
        for keras in BACKENDS.value
    ),
    measure=measure,
    quick={"num": 3},
    afterwards=lambda rows, _: (
        f"{sum(bool(row['failure']) for row in rows)} of {len(rows)} failed."
    ),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
