"""Targets against loops over the nuclei, written out from their definitions."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import measure, segmentation

from unet import targets


def random_labels(seed: int, shape: tuple[int, int] = (40, 52), nuclei: int = 25) -> np.ndarray:
    """Ellipses that crowd and cut each other: nuclei that touch, in pieces, of one pixel, and gaps in the numbers."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for number in range(1, nuclei + 1):
        cy, cx = rng.uniform((0, 0), shape)
        ry, rx = rng.uniform(0.5, 8, 2)
        labels[((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1] = number * 2
    return labels


CASES = [
    *(random_labels(seed) for seed in range(4)),
    np.zeros((7, 9), np.int32),
    np.ones((7, 9), np.int32),
    np.arange(1, 64, dtype=np.int32).reshape(7, 9),
]


def disk(radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return y**2 + x**2 <= radius**2


def nuclei_of(labels):
    return [labels == number for number in np.unique(labels[labels > 0])]


def claims(labels, width):
    """Returns the number of nuclei that reach each pixel once each is dilated."""
    count = np.zeros(labels.shape, int)
    for nucleus in nuclei_of(labels):
        count += ndimage.binary_dilation(nucleus, disk(width))
    return count


def core(nucleus, width):
    """The erosion by the largest disk that neither removes the nucleus nor cuts it."""
    pieces = ndimage.label(nucleus)[1]
    for radius in range(width, 0, -1):
        eroded = ndimage.binary_erosion(nucleus, disk(radius), border_value=1)
        if 1 <= ndimage.label(eroded)[1] <= pieces:
            return eroded
    return nucleus


def weights(labels, w0, sigma):
    outlines = [segmentation.find_boundaries(nucleus, connectivity=1, mode="inner") for nucleus in nuclei_of(labels)]
    distances = [ndimage.distance_transform_edt(~outline) for outline in outlines if outline.any()]
    distances = np.sort(np.stack([*distances, *[np.full(labels.shape, np.inf)] * 2]), axis=0)
    return 1 + w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2))


@pytest.mark.parametrize("labels", CASES)
@pytest.mark.parametrize("width", [1, 2, 3])
def test_border_is_what_two_dilated_nuclei_claim(labels, width):
    np.testing.assert_array_equal(targets.border(labels, width), claims(labels, width) > 1)


@pytest.mark.parametrize("labels", CASES)
@pytest.mark.parametrize("width", [1, 2, 4])
def test_borderless_erodes_each_nucleus_on_its_own(labels, width):
    expected = np.zeros(labels.shape, bool)
    for nucleus in nuclei_of(labels):
        expected |= core(nucleus, width)
    np.testing.assert_array_equal(targets.borderless(labels, width), expected)


@pytest.mark.parametrize("labels", CASES)
def test_core_is_the_inner_half_of_each_nucleus_on_its_own(labels):
    labels = measure.label(labels, connectivity=1)
    found = targets.core(labels)
    for nucleus in nuclei_of(labels):
        outermost = nucleus & ~ndimage.binary_erosion(nucleus, border_value=1)
        depth = np.full(labels.shape, 1.0)
        if outermost.any():
            depth = np.where(nucleus, ndimage.distance_transform_edt(~outermost) + 0.5, 0)
        inner = nucleus & (depth > depth.max() / 2)
        pieces, count = ndimage.label(inner)
        kept = found & nucleus
        assert not (kept & ~inner).any() and kept.sum() == max((pieces == k).sum() for k in range(1, count + 1))


def test_cores_of_large_nuclei_that_touch_are_far_apart_where_borders_are_thin():
    labels = np.zeros((60, 120), np.int32)
    labels[:, :60], labels[:, 60:] = 1, 2
    labels[:5], labels[-5:] = 0, 0
    channels = targets.make_targets(labels, "mask-core-touching")
    assert ndimage.label(channels[..., 1])[1] == 2
    columns = np.flatnonzero(channels[30, :, 1])
    assert columns[columns < 60].max() < 60 - 12 and columns[columns >= 60].min() >= 60 + 12


@pytest.mark.parametrize("labels", CASES)
@pytest.mark.parametrize("kind", ["mask-borderless-touching", "mask-core-touching"])
def test_no_nucleus_vanishes_from_borderless_or_core_or_beneath_touching(labels, kind):
    channels = targets.make_targets(labels, kind)
    markers = (channels[..., 1] == 1) & (channels[..., 2] == 0)
    assert set(labels[markers]) == set(labels[labels > 0])


@pytest.mark.parametrize("labels", CASES)
def test_channels(labels):
    mask = labels > 0
    assert np.array_equal(targets.make_targets(labels, "mask"), mask[..., None])
    two = targets.make_targets(labels, "mask-border", border_width=3)
    assert np.array_equal(two, np.stack([mask, claims(labels, 3) > 1], axis=-1))
    three = targets.make_targets(labels, "mask-borderless-touching", border_width=1, erosion_width=2)
    cores = targets.borderless(labels, 2)
    assert np.array_equal(three, np.stack([mask, cores, (claims(labels, 1) > 1) & ~cores], axis=-1))
    for kind, names in targets.CHANNELS.items():
        channels = targets.make_targets(labels, kind)
        assert channels.dtype == np.uint8 and channels.shape == (*labels.shape, len(names))


def test_touching_nuclei_come_apart_and_isolated_ones_have_no_border():
    labels = np.zeros((20, 40), np.int32)
    labels[5:15, 2:12], labels[5:15, 12:22], labels[5:15, 28:38] = 1, 2, 3
    channels = targets.make_targets(labels, "mask-borderless-touching")
    assert ndimage.label(channels[..., 0])[1] == 2
    assert ndimage.label(channels[..., 1])[1] == 3
    touching = np.argwhere(channels[..., 2])
    assert touching.min(axis=0).tolist() == [4, 10] and touching.max(axis=0).tolist() == [15, 13]


def test_a_nucleus_cut_by_the_edge_is_not_eroded_there():
    labels = np.zeros((10, 10), np.int32)
    labels[:6] = 1
    expected = np.zeros((10, 10), bool)
    expected[:4] = True
    np.testing.assert_array_equal(targets.borderless(labels, 2), expected)


def test_labels_beyond_16_bits():
    labels = random_labels(5)
    huge = np.where(labels > 0, labels.astype(np.int64) + 2**40, 0)
    for kind in targets.CHANNELS:
        np.testing.assert_array_equal(targets.make_targets(huge, kind), targets.make_targets(labels, kind))


@pytest.mark.parametrize("labels", CASES)
@pytest.mark.parametrize(("w0", "sigma"), [(10, 5), (3, 1.5)])
def test_weight_map_is_the_formula_for_every_pixel(labels, w0, sigma):
    found = targets.border_weight_map(labels, w0, sigma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, weights(labels, w0, sigma), rtol=1e-5)


def test_weight_map_beyond_the_reach_of_its_windows():
    labels = np.zeros((30, 300), np.int32)
    labels[10:20, 20:30], labels[10:20, 42:80], labels[5:9, 111:114], labels[0, 299] = 1, 2, 3, 4
    found = targets.border_weight_map(labels)
    np.testing.assert_allclose(found, weights(labels, 10, 5), rtol=2e-7)
    assert found.max() > 1.001


def test_distances_of_the_weight_map_are_to_borders_also_inside_a_nucleus():
    labels = np.zeros((21, 40), np.int32)
    labels[3:18, 3:18], labels[3:18, 20:35] = 1, 2
    found = targets.border_weight_map(labels)
    # In the middle of the first nucleus: 7 to its own border, 10 to that of the second.
    assert found[10, 10] == pytest.approx(1 + 10 * np.exp(-(17**2) / 50))
    assert found[10, 17] == pytest.approx(1 + 10 * np.exp(-(3**2) / 50)), "on its border"
    assert found[10, 18] == pytest.approx(1 + 10 * np.exp(-(3**2) / 50)), "between the two"


def test_a_nucleus_that_fills_the_image_has_no_border_in_the_weight_map():
    np.testing.assert_array_equal(targets.border_weight_map(np.ones((6, 8), int)), np.ones((6, 8), np.float32))


def test_weight_map_with_class_weights():
    labels = CASES[0]
    difference = targets.border_weight_map(labels, class_weights=(0.5, 3)) - targets.border_weight_map(labels)
    np.testing.assert_allclose(difference, np.where(labels > 0, 2, -0.5), atol=1e-5)


def test_weights_go_behind_the_channels():
    labels = CASES[0]
    channels = targets.make_targets(labels, "mask-border")
    weight_map = targets.border_weight_map(labels)
    joined = targets.append_weights(channels, weight_map)
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined[..., :2], channels)
    np.testing.assert_array_equal(joined[..., 2], weight_map)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((CASES[0], "contour"), "one of mask, mask-border"),
        ((CASES[0], "mask-border", 0), "1 or more"),
        ((CASES[0], "mask-borderless-touching", 2, 1.5), "1 or more"),
        ((CASES[0].astype(float), "mask"), "float64"),
        ((CASES[0][None], "mask"), "shape"),
        ((np.zeros((0, 4), int), "mask"), "shape"),
        ((-CASES[0], "mask"), "negative"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        targets.make_targets(*arguments)


def test_more_nuclei_than_16_bits_hold():
    with pytest.raises(ValueError, match="65534 nuclei"):
        targets.make_targets(np.arange(1, 65537).reshape(256, 256), "mask")


def test_sigma_must_be_positive():
    with pytest.raises(ValueError, match="sigma"):
        targets.border_weight_map(CASES[0], sigma=0)
