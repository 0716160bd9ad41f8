"""Our corruptions beside those of the package `corrupt-tta`, which carries on those of ImageNet-C.

    pip install --no-deps corrupt-tta==0.1.7 && pip install scikit-image opencv-python-headless
    python -m tests.benchmarks corruptions_vs_packages

At 224 pixels and all severities. Noise draws differ, so that there the standard deviation of the damage is compared;
all else is compared value by value, in steps of 1/255 (theirs are cut to 8 bits). Motion blur is at an angle of chance
and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from absl import flags

from keras_robust_prune.evaluation.corruptions import CORRUPTIONS, SEVERITIES
from tests.benchmarks.benchmark import Benchmark

CHOSEN = flags.DEFINE_list(
    "corruptions", [name for name in CORRUPTIONS if name != "motion_blur"], "Which kinds."
)
THEIRS = {"jpeg": "jpeg_compression"}


def picture() -> np.ndarray:
    """Discs of chance on a shaded ground, `(224, 224, 3)` uint8."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:224, 0:224] / 224
    image = 0.3 + 0.2 * rows[..., None] * rng.uniform(size=3)
    for _ in range(40):
        top, left, radius = rng.uniform(size=3)
        inside = np.hypot(rows - top, columns - left) < radius / 5
        image = np.where(inside[..., None], rng.uniform(size=3), image)
    return np.round(image * 255).astype(np.uint8)


def measure(corruption: str, severity: str) -> Iterator[dict[str, float]]:
    """Largest difference, or both deviations."""
    from corrupt_tta import corrupt

    image = picture()
    theirs = corrupt(
        image, severity=int(severity), corruption_name=THEIRS.get(corruption, corruption)
    )
    ours = CORRUPTIONS[corruption](image[None] / 255.0, int(severity))[0] * 255.0
    difference = np.abs(ours - np.asarray(theirs, float)).max()
    spread = [
        float(np.std(damaged - image.astype(float))) for damaged in (ours, np.asarray(theirs))
    ]
    noise = corruption.endswith("noise")
    yield {
        "largest difference": float("nan") if noise else float(difference),
        "our deviation": spread[0],
        "their deviation": spread[1],
    }


BENCHMARK = Benchmark(
    cases=lambda: (
        {"corruption": name, "severity": str(level)}
        for name in CHOSEN.value
        for level in SEVERITIES
    ),
    measure=measure,
    quick={"corruptions": ["contrast", "jpeg"]},
    chart=("largest difference", "our deviation", "their deviation"),
)


if __name__ == "__main__":
    BENCHMARK.run(__spec__.name)
