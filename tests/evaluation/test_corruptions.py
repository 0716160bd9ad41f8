"""Corruptions: worse with severity, the same for any range, within it, repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from keras_robust_prune.evaluation.corruptions import CORRUPTIONS, SEVERITIES, parse

NAMES = sorted(CORRUPTIONS)


def pictures(size: tuple[int, int], channels: int, num: int = 6) -> np.ndarray:
    """Discs on shaded grounds: edges, flat parts and slopes, within (.1, .9)."""
    rng = np.random.default_rng(size[0] + channels)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    rows, columns = rows / size[0], columns / size[1]
    found = []
    for _ in range(num):
        image = 0.3 + 0.2 * rows[..., None] * rng.uniform(size=channels)
        for _ in range(4):
            top, left, radius = rng.uniform(0.1, 0.9, 3)
            inside = np.hypot(rows - top, columns - left) < radius / 3
            image = np.where(inside[..., None], rng.uniform(0.1, 0.9, channels), image)
        found.append(image)
    return np.array(found, np.float32)


def channels_of(name: str) -> list[int]:
    return [3] if CORRUPTIONS[name].colour else [1, 3]


@pytest.mark.parametrize("size", [(12, 12), (32, 24), (96, 96)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_damage_rises_with_severity(name: str, size: tuple[int, int]) -> None:
    for channels in channels_of(name):
        images = pictures(size, channels)
        damaged = [CORRUPTIONS[name](images, severity) for severity in SEVERITIES]
        for image in damaged:
            assert image.shape == images.shape
            assert image.dtype == np.float32
            assert image.min() >= 0
            assert image.max() <= 1
        error = [float(np.abs(image - images).mean()) for image in damaged]
        assert error[-1] > error[0] > 0
        # A grid that happens to fit the picture's edges may spare it a little.
        spared = 0.05 * error[-1] if name == "pixelate" else 0.0
        assert (np.diff(error) >= -spared).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_range_of_the_values_does_not_matter(name: str) -> None:
    images = pictures((16, 16), channels_of(name)[-1])
    plain = CORRUPTIONS[name](images, 3, seed=7)
    scaled = CORRUPTIONS[name](images * 255, 3, input_range=(0, 255), seed=7)
    np.testing.assert_allclose(scaled / 255, plain, atol=1 / 250)
    assert np.abs(scaled / 255 - plain).mean() < 1e-4
    lower = np.full(images.shape[1:], -1.0)
    centred = CORRUPTIONS[name](images * 2 - 1, 3, input_range=(lower, -lower), seed=7)
    assert np.abs((centred + 1) / 2 - plain).mean() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_does_the_same_damage(name: str) -> None:
    images = pictures((12, 12), 3)
    first = CORRUPTIONS[name](images, 2, seed=1)
    np.testing.assert_array_equal(first, CORRUPTIONS[name](images, 2, seed=1))
    drawn = name.endswith("_noise") or name == "motion_blur"
    assert (first != CORRUPTIONS[name](images, 2, seed=2)).any() == drawn


def test_levels_mean_what_they_say() -> None:
    grey = np.full((1, 200, 200, 1), 0.5, np.float32)
    noisy = CORRUPTIONS["gaussian_noise"](grey, 1) - grey
    assert noisy.std() == pytest.approx(0.04, rel=0.02)
    shot = CORRUPTIONS["shot_noise"](grey, 2) - grey
    assert shot.std() == pytest.approx(np.sqrt(0.5 * 0.01), rel=0.02)
    impulses = CORRUPTIONS["impulse_noise"](grey, 4) != grey
    assert impulses.mean() == pytest.approx(0.1, rel=0.05)
    np.testing.assert_allclose(CORRUPTIONS["brightness"](grey, 2), 0.5 + 0.2, rtol=1e-6)
    edge = np.concatenate([grey * 0.4, grey * 1.6], 1)
    np.testing.assert_allclose(np.ptp(CORRUPTIONS["contrast"](edge, 3)), 0.6 * 0.3, rtol=1e-5)
    for blur in ("gaussian_blur", "defocus_blur", "motion_blur"):
        np.testing.assert_allclose(CORRUPTIONS[blur](grey, 5), 0.5, rtol=1e-5)


def test_colours_fade_to_grey() -> None:
    images = pictures((10, 10), 3)
    grey = CORRUPTIONS["saturate"](images, 5)
    np.testing.assert_allclose(np.ptp(grey, axis=3), 0, atol=1e-6)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[..., 0], images @ weights, atol=1e-6)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels"):
        CORRUPTIONS["jpeg"](np.zeros((2, 5)), 1)
    with pytest.raises(ValueError, match="with 3 channels"):
        CORRUPTIONS["saturate"](np.zeros((2, 8, 8, 1)), 1)
    with pytest.raises(ValueError, match="one of"):
        CORRUPTIONS["jpeg"](np.zeros((2, 8, 8, 1)), 6)


def test_texts_name_corruptions_and_severities() -> None:
    assert parse("jpeg") == ("jpeg", (1, 2, 3, 4, 5))
    assert parse("contrast@2") == ("contrast", (2,))
    for text in ("fog", "jpeg@0", "jpeg@6", "jpeg@x"):
        with pytest.raises(ValueError, match="Write 'standard' for all"):
            parse(text)
