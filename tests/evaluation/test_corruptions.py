"""Corruptions: worse with severity, the same for any range, within it, repeatable."""

from __future__ import annotations

import colorsys
import math
from typing import Any

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
        assert min(error) > 0
        # The published colours fade first and glow then; a grid may fit a picture's edges and spare it.
        if name != "saturate":
            assert error[-1] > error[0]
        spared = {"pixelate": 0.2, "saturate": math.inf, "defocus_blur": 0.05}.get(name, 0.0)
        assert (np.diff(error) >= -spared * error[-1]).all()


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


@pytest.mark.parametrize(
    ("name", "severity", "small", "medium", "large"),
    [
        # Hendrycks & Dietterich, 2019: CIFAR-10-C, Tiny ImageNet-C, ImageNet-C
        ("gaussian_noise", 1, 0.04, 0.04, 0.08),
        ("gaussian_noise", 5, 0.10, 0.18, 0.38),
        ("shot_noise", 3, 100, 50, 12),
        ("impulse_noise", 4, 0.05, 0.08, 0.17),
        ("gaussian_blur", 2, 0.6, 0.75, 2),
        ("defocus_blur", 5, (1.5, 0.1), (3, 0.1), (10, 0.5)),
        ("motion_blur", 3, (6, 2), (10, 2), (15, 8)),
        ("brightness", 5, 0.3, 0.5, 0.5),
        ("contrast", 5, 0.15, 0.05, 0.05),
        ("saturate", 5, (2.5, 0.2), (30, 0.2), (20, 0.2)),
        ("pixelate", 1, 0.95, 0.9, 0.6),
        ("jpeg", 5, 40, 25, 7),
    ],
)
def test_parameters_are_those_published(
    name: str, severity: int, small: Any, medium: Any, large: Any
) -> None:
    levels = [
        CORRUPTIONS[name].level(severity, shape)
        for shape in (
            (28, 28, 1),
            (32, 32, 3),
            (44, 99, 3),
            (64, 64, 3),
            (96, 96, 3),
            (224, 299, 3),
        )
    ]
    assert levels == [small, small, small, medium, medium, large]


def test_noise_has_the_size_that_its_level_says() -> None:
    grey = np.full((1, 200, 200, 1), 0.5, np.float32)
    noisy = CORRUPTIONS["gaussian_noise"](grey, 1) - grey
    assert noisy.std() == pytest.approx(0.08, rel=0.02)
    shot = CORRUPTIONS["shot_noise"](grey, 2) - grey
    assert shot.std() == pytest.approx(np.sqrt(0.5 / 25), rel=0.02)
    impulses = CORRUPTIONS["impulse_noise"](grey, 4)
    assert (impulses == 0).mean() == pytest.approx(0.17 / 2, rel=0.05)
    assert (impulses == 1).mean() == pytest.approx(0.17 / 2, rel=0.05)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_colours_are_moved_in_hsv(severity: int) -> None:
    images = np.random.default_rng(0).uniform(size=(1, 5, 5, 3)).astype("f")
    images[0, 0] = np.linspace(0, 1, 5)[:, None]  # greys, black and white among them
    shift = CORRUPTIONS["brightness"].level(severity, (5, 5))
    factor, offset = CORRUPTIONS["saturate"].level(severity, (5, 5))
    brighter, stronger = np.empty_like(images), np.empty_like(images)
    for i in range(5):
        for j in range(5):
            h, s, v = colorsys.rgb_to_hsv(*images[0, i, j].tolist())
            brighter[0, i, j] = colorsys.hsv_to_rgb(h, s, min(v + shift, 1))
            stronger[0, i, j] = colorsys.hsv_to_rgb(h, min(max(s * factor + offset, 0), 1), v)
    np.testing.assert_allclose(CORRUPTIONS["brightness"](images, severity), brighter, atol=1e-6)
    np.testing.assert_allclose(CORRUPTIONS["saturate"](images, severity), stronger, atol=1e-6)


def test_contrast_draws_every_channel_to_its_mean() -> None:
    images = pictures((16, 16), 3, num=1)
    for channel in range(3):
        mean = images[0, :, :, channel].mean()
        expected = (images[0, :, :, channel] - mean) * 0.3 + mean
        found = CORRUPTIONS["contrast"](images, 4)[0, :, :, channel]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def mirrored(k: int, size: int) -> int:
    """The place that a place beyond an edge mirrors, the edge itself counted once."""
    return k if 0 <= k < size else -k if k < 0 else 2 * size - 2 - k


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_a_softened_disc(severity: int) -> None:
    images = pictures((12, 12), 1, num=1)
    radius, sigma = CORRUPTIONS["defocus_blur"].level(severity, (12, 12))
    disc = {
        (i, j): 1.0 for i in range(-3, 4) for j in range(-3, 4) if i * i + j * j <= radius * radius
    }
    taps = {d: math.exp(-(d**2) / (2 * sigma**2)) for d in (-1, 0, 1)}
    total = len(disc) * sum(taps.values()) ** 2
    expected = np.zeros((12, 12))
    for row in range(12):
        for column in range(12):
            for i, j in disc:
                for down, a in taps.items():
                    for right, b in taps.items():
                        y, x = mirrored(row + i + down, 12), mirrored(column + j + right, 12)
                        expected[row, column] += a * b * images[0, y, x, 0] / total
    found = CORRUPTIONS["defocus_blur"](images, severity)[0, :, :, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_motion_smears_to_one_side() -> None:
    images = np.zeros((40, 33, 33, 1), np.float32)
    images[:, 16, 16] = 1.0
    radius, sigma = CORRUPTIONS["motion_blur"].level(5, (33, 33))
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    for image in CORRUPTIONS["motion_blur"](images, 5)[..., 0]:
        assert image.sum() == pytest.approx(1.0, abs=1e-5)
        assert image[16, 16] == pytest.approx(weights[0], abs=1e-6)
        rows, columns = np.nonzero(image)
        assert columns.max() == 16
        assert (np.abs(rows - 16) <= np.ceil(np.abs(columns - 16)) + 1).all()  # at most 45 degrees
        far = [float((image.sum(1 - axis) * (np.arange(33) - 16)).sum()) for axis in (0, 1)]
        assert math.hypot(*far) == pytest.approx((weights * np.arange(len(weights))).sum(), abs=0.7)


def test_pixels_are_means_of_blocks() -> None:
    images = pictures((224, 224), 1, num=1)
    found = CORRUPTIONS["pixelate"](images, 5)[0, :, :, 0]  # a quarter of the pixels along a side
    expected = images[0, :, :, 0].reshape(56, 4, 56, 4).mean((1, 3)).repeat(4, 0).repeat(4, 1)
    np.testing.assert_allclose(found, expected, atol=1.5 / 255)


def test_blurs_leave_grey_alone() -> None:
    grey = np.full((1, 40, 40, 1), 0.5, np.float32)
    for blur in ("gaussian_blur", "defocus_blur", "motion_blur"):
        np.testing.assert_allclose(CORRUPTIONS[blur](grey, 5), 0.5, rtol=1e-5)


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
