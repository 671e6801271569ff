"""Nuclei recovered from perfect channels, and every step against scikit-image, SciPy or a loop."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from skimage import morphology, segmentation

from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.evaluation.scores import average_precision
from unet.postprocess import (
    METHODS,
    PostprocessSettings,
    fill_holes,
    find_markers,
    grow_markers,
    grow_watershed,
    label_components,
    postprocess,
)
from unet.random_walk import random_walk
from unet.targets import CHANNELS, make_targets

COMBINATIONS = [
    (kind, name)
    for kind in CHANNELS
    for name, method in METHODS.items()
    if len(CHANNELS[kind]) > 1 or not method.needs_borders
]
CROSS = ndimage.generate_binary_structure(2, 1)


@pytest.fixture(scope="session")
def shipped_labels() -> list[np.ndarray]:
    """The label images of the sixteen shipped images."""
    labels = []
    for subset in ("train", "val"):
        dataset = NucleusDataset()
        dataset.load_nucleus(shipped_data(), subset)
        dataset.prepare()
        labels += [dataset.load_labels(image_id)[0] for image_id in dataset.image_ids]
    return labels


def perfect(labels, kind):
    return make_targets(labels, kind).astype(np.float32)


def smooth_noise(seed, channels=3, shape=(60, 80)):
    """Probabilities without ties, with blobs that touch, are empty, and lie at the edge."""
    noise = np.random.default_rng(seed).normal(size=(*shape, channels))
    noise = ndimage.gaussian_filter(noise, (2, 2, 0))
    return (1 / (1 + np.exp(-12 * noise / noise.std() / 4))).astype(np.float32)


def same_partition(first, second):
    """Compares two label images apart from their numbers."""
    pairs = {*zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) and (0, 0) in pairs


# What each way back from perfect channels must reach on the shipped images, and what merging all that touch costs.
@pytest.mark.parametrize(
    ("kind", "method", "least", "most"),
    [
        ("mask", "components", 0.73, 0.75),
        ("mask", "opening", 0.71, 0.73),
        ("mask", "erosion", 0.74, 0.80),
        ("mask-border", "watershed", 0.98, 1),
        ("mask-border", "random-walker", 0.975, 1),
        ("mask-borderless-touching", "watershed", 0.99, 1),
        ("mask-borderless-touching", "random-walker", 0.985, 1),
        ("mask-core-touching", "watershed", 0.94, 1),
        ("mask-core-touching", "random-walker", 0.94, 1),
    ],
)
def test_shipped_nuclei_are_recovered_from_perfect_channels(shipped_labels, kind, method, least, most):
    settings = PostprocessSettings(targets=kind, method=method)
    scores = [average_precision(labels, postprocess(perfect(labels, kind), settings)[0]) for labels in shipped_labels]
    assert least <= np.mean(scores) <= most


@pytest.mark.parametrize("method", ["watershed", "random-walker"])
def test_a_grid_of_touching_nuclei_is_recovered_exactly(method):
    labels = np.repeat(np.repeat(np.arange(1, 13, dtype=np.int32).reshape(3, 4), 12, axis=0), 15, axis=1)
    for kind in ("mask-border", "mask-borderless-touching"):
        found, scores = postprocess(perfect(labels, kind), PostprocessSettings(targets=kind, method=method))
        assert average_precision(labels, found) == 1 and len(scores) == 12


@pytest.mark.parametrize(("kind", "method"), COMBINATIONS)
def test_one_pixel_nuclei(kind, method):
    labels = np.zeros((20, 30), np.int32)
    # Alone, in a corner, at a corner of another, and near a large one.
    for number, (y, x) in enumerate([(5, 5), (0, 0), (1, 1), (19, 29), (10, 10)], start=1):
        labels[y, x] = number
    labels[8:18, 12:22] = 6
    settings = PostprocessSettings(targets=kind, method=method, keep_unmarked=True)
    found, scores = postprocess(perfect(labels, kind), settings)
    if method == "opening":
        # An opening with a disk takes a square's corners.
        labels[(labels == 6) & ~ndimage.binary_opening(labels == 6, morphology.disk(2))] = 0
    assert same_partition(found, labels)
    np.testing.assert_array_equal(scores, np.ones(6, np.float32))


def test_one_pixel_nuclei_that_touch_a_large_one():
    labels = np.zeros((20, 30), np.int32)
    labels[4:16, 4:16], labels[8, 16], labels[3, 10] = 1, 2, 3
    found, scores = postprocess(perfect(labels, "mask-borderless-touching"))
    assert len(scores) == 3 and len(np.unique(found[[8, 3, 10], [16, 10, 8]])) == 3


@pytest.mark.parametrize(("kind", "method"), COMBINATIONS)
@pytest.mark.parametrize("value", [0, 1])
def test_empty_image_and_all_foreground(kind, method, value):
    channels = len(CHANNELS[kind])
    probabilities = np.full((9, 11, channels), value, np.float32)
    settings = PostprocessSettings(targets=kind, method=method, keep_unmarked=True)
    labels, scores = postprocess(probabilities, settings)
    assert labels.dtype == np.int32 and scores.dtype == np.float32
    assert (labels == value).all() and scores.tolist() == [1.0] * value


@pytest.mark.parametrize(("kind", "method"), COMBINATIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_pixel_of_the_mask_gets_a_nucleus(kind, method, seed):
    probabilities = smooth_noise(seed, len(CHANNELS[kind]))
    settings = PostprocessSettings(
        targets=kind, method=method, fill_holes=False, mask_threshold=0.4, keep_unmarked=True
    )
    labels, scores = postprocess(probabilities, settings)
    mask = probabilities[..., 0] > 0.4
    if method != "opening":
        np.testing.assert_array_equal(labels > 0, mask)
    assert set(np.unique(labels)) == set(range(len(scores) + 1))
    for number, score in enumerate(scores, start=1):
        nucleus = labels == number
        assert ndimage.label(nucleus)[1] == 1
        assert score == pytest.approx(probabilities[..., 0][nucleus].mean(), rel=1e-5)
    if method == "components":
        assert same_partition(labels, ndimage.label(mask)[0])


@pytest.mark.parametrize("seed", range(3))
def test_watershed_without_shortcuts(seed):
    probabilities = smooth_noise(seed)
    settings = PostprocessSettings(fill_holes=False, keep_unmarked=False, mask_threshold=0.3)
    mask = probabilities[..., 0] > 0.3
    markers = mask & (probabilities[..., 1] > 0.5) & ~(probabilities[..., 2] > 0.5)
    expected = segmentation.watershed(-probabilities[..., 0], ndimage.label(markers)[0], mask=mask)
    assert same_partition(postprocess(probabilities, settings)[0], expected)


def test_markers_of_two_channels_are_the_mask_without_the_border():
    probabilities = smooth_noise(4, 2)
    settings = PostprocessSettings("mask-border", marker_threshold=0.7, border_threshold=0.2)
    expected = (probabilities[..., 0] > 0.7) & ~(probabilities[..., 1] > 0.2)
    np.testing.assert_array_equal(find_markers(probabilities, settings), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beta", [0.0, 90.0])
def test_random_walk_against_scikit_image(seed, beta):
    values = smooth_noise(seed, 1, (30, 40))[..., 0].astype(float)
    mask = values > 0.2
    markers = np.where(mask, ndimage.label(values > 0.85)[0], 0).astype(np.int32)
    components = ndimage.label(mask)[0]
    mask &= np.isin(components, components[markers > 0])
    # scikit-image divides beta by ten standard deviations; -1 keeps the walker out.
    seeds = np.where(mask, markers, -1)
    probabilities = segmentation.random_walker(
        values, seeds, beta=beta * 10 * values.std(), mode="bf", return_full_prob=True
    )
    found = random_walk(values, markers, mask, beta)
    np.testing.assert_array_equal(found > 0, mask)
    # Where two markers are as probable, either is right.
    order = np.unique(markers[markers > 0])
    chosen = np.searchsorted(order, found[mask])
    shares = probabilities[:, mask]
    assert (shares[chosen, np.arange(shares.shape[1])] > shares.max(axis=0) - 1e-4).all()


def test_random_walk_in_several_goes(monkeypatch):
    values = smooth_noise(2, 1, (30, 40))[..., 0]
    markers = np.zeros(values.shape, np.int32)
    markers[2::9, 2::9].flat = np.arange(1, markers[2::9, 2::9].size + 1)
    mask = np.ones(values.shape, bool)
    expected = random_walk(values, markers, mask)
    monkeypatch.setattr("unet.random_walk._NUMBERS_AT_ONCE", 3 * values.size)
    np.testing.assert_array_equal(random_walk(values, markers, mask), expected)


def test_random_walk_without_a_marker():
    mask = np.zeros((5, 9), bool)
    mask[1:4, 1:4] = mask[1:4, 5:8] = True
    markers = np.zeros(mask.shape, np.int32)
    markers[2, 2] = 1
    with pytest.raises(ValueError, match="must hold a marker"):
        random_walk(np.ones(mask.shape), markers, mask)


def test_growing_follows_the_dip_between_nuclei():
    """Markers are off centre, so that only the probability tells where one nucleus ends."""
    probability = np.full((9, 31), 0.9, np.float32)
    probability[:, 20] = 0.6
    markers = np.zeros(probability.shape, bool)
    markers[4, 3] = markers[4, 25] = True
    mask = np.ones(probability.shape, bool)
    for grow in (grow_watershed, random_walk):
        labels, count = grow_markers(probability, markers, mask, grow)
        assert count == 2
        assert (labels[:, :20] == 1).all() and (labels[:, 21:] == 2).all()


# What each method makes of perfect channels whose mask has specks, and of the same without them.
@pytest.mark.parametrize(
    ("kind", "method"),
    [("mask", "opening"), ("mask", "erosion"), ("mask-borderless-touching", "watershed")],
)
def test_specks_without_a_marker_are_no_nuclei(shipped_labels, kind, method):
    scores = []
    for keep in (False, True):
        settings = PostprocessSettings(targets=kind, method=method, keep_unmarked=keep)
        of_images = []
        for labels in shipped_labels:
            channels = perfect(labels, kind)
            specks = np.random.default_rng(labels.size).random(labels.shape) < 0.0005
            channels[..., 0] = np.maximum(channels[..., 0], specks)
            of_images.append(average_precision(labels, postprocess(channels, settings)[0]))
        scores.append(np.mean(of_images))
    least = {"opening": 0.71, "erosion": 0.74, "watershed": 0.99}[method]
    assert scores[0] > least and scores[1] < 0.35


@pytest.mark.parametrize("seed", range(3))
def test_an_opening_is_erosion_numbering_and_dilation_of_each_component(seed):
    probabilities = smooth_noise(seed, 1)
    mask = probabilities[..., 0] > 0.4
    labels, _ = postprocess(probabilities, PostprocessSettings("mask", "opening", 0.4, fill_holes=False))
    disk = morphology.disk(2)
    # The world beyond the edge does not erode.
    eroded = ndimage.binary_erosion(mask, disk, border_value=1)
    numbered, count = ndimage.label(eroded)
    dilated = [ndimage.binary_dilation(numbered == number, disk) for number in range(1, count + 1)]
    np.testing.assert_array_equal(labels > 0, np.any(dilated, axis=0))
    assert labels.max() == count
    alone = np.sum(dilated, axis=0) == 1
    for number, one in enumerate(dilated, start=1):
        (label,) = np.unique(labels[numbered == number])
        assert (labels[one & alone] == label).all() and (one[labels == label]).all()


def test_erosion_cuts_a_bridge_and_keeps_the_outline():
    mask = np.zeros((20, 40), bool)
    mask[3:17, 3:17] = mask[3:17, 23:37] = mask[9:11, 17:23] = True
    probabilities = mask[..., None].astype(np.float32)
    assert len(postprocess(probabilities, PostprocessSettings("mask", "components"))[1]) == 1
    labels, scores = postprocess(probabilities, PostprocessSettings("mask", "erosion", opening_radius=2))
    np.testing.assert_array_equal(labels > 0, mask)
    assert len(scores) == 2 and labels[3, 3] != labels[16, 36]
    assert (labels[:, :17][mask[:, :17]] == labels[3, 3]).all() and (
        labels[:, 23:][mask[:, 23:]] == labels[3, 36]
    ).all()


def test_small_nuclei_and_unmarked_components_are_dropped_when_asked():
    labels = np.zeros((20, 20), np.int32)
    labels[2:5, 2:5], labels[8:18, 8:18], labels[1, 10:12] = 1, 2, 3
    probabilities = perfect(labels, "mask-borderless-touching")
    probabilities[2:5, 2:5, 1] = 0
    assert len(postprocess(probabilities, PostprocessSettings(keep_unmarked=True))[1]) == 3
    found, scores = postprocess(probabilities, PostprocessSettings(keep_unmarked=False))
    assert len(scores) == 2 and (found[2:5, 2:5] == 0).all()
    for min_area, left in ((2, 3), (3, 2), (9, 2), (10, 1), (101, 0)):
        found, scores = postprocess(probabilities, PostprocessSettings(min_area=min_area, keep_unmarked=True))
        assert len(scores) == found.max() == left


def test_holes_inside_one_nucleus_are_filled():
    labels = np.zeros((20, 40), np.int32)
    labels[2:12, 2:12] = 1
    labels[5:8, 5:8] = 0  # a hole
    labels[2:12, 20:25], labels[2:12, 25:30] = 2, 3
    labels[5:8, 23:27] = 0  # enclosed by two nuclei together
    labels[15:, 2:12] = 4
    labels[17:, 5:8] = 0  # cut by the image's edge
    labels[14:19, 30:35] = 5
    labels[15:18, 31:34] = 0
    labels[16, 32] = 6  # a nucleus inside another
    expected = labels.copy()
    expected[5:8, 5:8] = 1
    before = labels.copy()
    np.testing.assert_array_equal(fill_holes(labels), expected)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("seed", range(4))
def test_holes_against_a_loop(seed):
    labels = ndimage.label(smooth_noise(seed, 1)[..., 0] > 0.25)[0].astype(np.int32)
    expected = labels.copy()
    background, count = ndimage.label(labels == 0, np.ones((3, 3)))
    edge = np.ones(labels.shape, bool)
    edge[1:-1, 1:-1] = False
    for hole in (background == number for number in range(1, count + 1)):
        around = set(labels[ndimage.binary_dilation(hole, CROSS)]) - {0}
        if not (hole & edge).any() and len(around) == 1:
            expected[hole] = around.pop()
    np.testing.assert_array_equal(fill_holes(labels), expected)


def test_components_meet_at_edges_not_corners():
    labels, count = label_components(np.array([[1, 0, 1], [0, 1, 1]], bool))
    assert count == 2 and labels.tolist() == [[1, 0, 2], [0, 2, 2]]


def test_settings_from_a_configuration():
    config = SimpleNamespace(
        TARGETS="mask-border",
        POSTPROCESS="random-walker",
        MASK_THRESHOLD=0.4,
        MARKER_THRESHOLD=0.6,
        BORDER_THRESHOLD=0.3,
        OPENING_RADIUS=3,
        MIN_AREA=7,
        FILL_HOLES=False,
        KEEP_UNMARKED=False,
    )
    expected = PostprocessSettings("mask-border", "random-walker", 0.4, 0.6, 0.3, 3, 7, False, False)
    assert PostprocessSettings.from_config(config) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": "contour"}, "targets must be one of"),
        ({"method": "snakes"}, "method must be one of"),
        ({"targets": "mask"}, "border channel"),
        ({"mask_threshold": 1.5}, "mask_threshold must be in 0..1"),
        ({"border_threshold": float("nan")}, "border_threshold must be in 0..1"),
        ({"min_area": -1}, "min_area"),
        ({"opening_radius": 0}, "1 or more"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PostprocessSettings(**settings)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.full((4, 5, 3), np.nan, np.float32), "60 of the probabilities are not numbers"),
        (np.full((4, 5, 3), 1.01, np.float32), "in 0..1"),
        (np.full((4, 5, 3), -np.inf, np.float32), "in 0..1"),
        (np.zeros((4, 5, 2), np.float32), r"\[H, W, 3\] \(mask, borderless, touching\)"),
        (np.zeros((4, 5), np.float32), "shape"),
        (np.zeros((0, 5, 3), np.float32), "shape"),
        (np.zeros((4, 5, 3), np.uint8), "uint8"),
    ],
)
def test_bad_probabilities(probabilities, message):
    with pytest.raises(ValueError, match=message):
        postprocess(probabilities)


def test_a_hole_counts_towards_the_least_area_and_what_is_dropped_leaves_none():
    probabilities = np.zeros((12, 12, 1), np.float32)
    probabilities[1:6, 1:6] = 0.9
    probabilities[2:5, 2:5] = 0.1
    settings = PostprocessSettings("mask", "components", min_area=20)
    labels, scores = postprocess(probabilities, settings)
    expected = np.zeros((12, 12), np.int32)
    expected[1:6, 1:6] = 1
    np.testing.assert_array_equal(labels, expected)
    assert scores == pytest.approx([(16 * 0.9 + 9 * 0.1) / 25])
    probabilities[1:8, 1:8], probabilities[2:7, 2:7], probabilities[4, 4] = 0.9, 0.1, 0.9
    expected[1:8, 1:8] = 1
    np.testing.assert_array_equal(postprocess(probabilities, settings)[0], expected)
    expected[2:7, 2:7] = 0
    np.testing.assert_array_equal(postprocess(probabilities, replace(settings, fill_holes=False))[0], expected)
