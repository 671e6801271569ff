"""Grey levels: conversion, polarity, Otsu's classes and noise."""

import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.filters import threshold_otsu

from nucleus.models.classical.grey import find_range, noise_deviation, to_grey


def nuclear_levels(grey, *arguments, **options):
    found = find_range(grey, *arguments, **options)
    return None if found is None else found.levels(grey)


def test_luminance_and_single_channels():
    image = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(to_grey(image), image @ weights / 255, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(to_grey(image, "green"), image[..., 1] / 255, rtol=1e-6)
    assert abs(to_grey(image) - rgb2gray(image)).mean() < 0.05
    with pytest.raises(ValueError, match="ultraviolet"):
        to_grey(image, "ultraviolet")


def test_haematoxylin_darkens_what_that_stain_dyed_and_not_what_eosin_dyed():
    haematoxylin, eosin, blank = (110, 90, 170), (235, 120, 180), (250, 250, 250)
    blue, pink, white = to_grey(np.array([[haematoxylin, eosin, blank]], np.uint8), "haematoxylin")[0]
    assert blue < pink - 0.05 and abs(pink - white) < 0.05


@pytest.mark.parametrize(("nucleus", "background"), [(170, 40), (40, 170)])
def test_the_rarer_class_is_nuclei_and_levels_run_from_background_to_nuclei(disks, nucleus, background):
    image, labels = disks(nucleus=nucleus, background=background)
    levels = nuclear_levels(to_grey(image))
    assert abs(levels[labels == 0].mean()) < 0.02
    assert abs(levels[labels > 0].mean() - 1) < 0.02
    assert np.array_equal(levels > 0.5, labels > 0), "well apart, half-way is Otsu's threshold"


def test_half_way_is_otsus_threshold_on_a_real_image(shipped_image):
    grey = to_grey(shipped_image)
    otsu = grey > threshold_otsu(grey)
    assert np.mean((nuclear_levels(grey, "bright") > 0.5) != otsu) < 0.01


def test_polarity_can_be_set(disks):
    image, labels = disks(circles=((48, 50, 60),))
    assert (labels > 0).mean() > 0.5
    assert nuclear_levels(to_grey(image))[labels > 0].mean() < 0.5, "more than half of the image: the rule errs"
    assert nuclear_levels(to_grey(image), "bright")[labels > 0].mean() > 0.9
    with pytest.raises(ValueError, match="sideways"):
        nuclear_levels(to_grey(image), "sideways")


def test_three_classes_tell_nuclei_from_the_cells_around_them(disks):
    image, cells = disks(circles=((30, 30, 22), (65, 70, 20)), nucleus=150, background=230, noise=3)
    inner, nuclei = disks(circles=((30, 30, 6), (65, 70, 6)), nucleus=50, background=0, noise=3)
    image = np.where(nuclei[..., None] > 0, inner, image)
    grey = to_grey(image)
    assert np.array_equal(nuclear_levels(grey) > 0.5, cells > 0)
    assert np.array_equal(nuclear_levels(grey, classes=3) > 0.5, nuclei > 0)


def test_nothing_without_contrast(disks):
    assert nuclear_levels(np.full((4, 5), 0.3, np.float32)) is None
    grey = to_grey(disks()[0])
    assert nuclear_levels(grey, least_contrast=0.6) is None
    assert nuclear_levels(grey, least_contrast=0.4) is not None


def test_two_grey_levels_make_two_classes_at_most():
    grey = np.zeros((6, 6), np.float32)
    grey[2:4, 2:4] = 1
    assert np.array_equal(nuclear_levels(grey, classes=3), grey)


@pytest.mark.parametrize("deviation", [0.01, 0.1])
def test_noise_is_measured_and_shapes_are_not(disks, deviation):
    clean = to_grey(disks(noise=0)[0])
    assert noise_deviation(clean) < 0.02
    noise = np.random.default_rng(1).normal(0, deviation, (200, 200)).astype(np.float32)
    ramp = np.linspace(0, 1, 200, dtype=np.float32)[:, None]
    assert noise_deviation(ramp + noise) == pytest.approx(deviation, rel=0.05)
