"""Pasted nuclei keep off those that are there, look like them, and are whole."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from nucleus.augmentation.copy_paste import paste_nuclei
from nucleus.datasets.dataset import NucleusDataset, shipped_data


def disc_image(centres, radius=7, shape=(120, 160), background=20, nucleus=150, noise=3, seed=0):
    """A grey image of discs, and its label image."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for number, centre in enumerate(centres, start=1):
        labels[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2] = number
    grey = np.where(labels > 0, nucleus, background) + np.random.default_rng(seed).normal(0, noise, shape)
    return np.clip(grey, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2), labels


TARGET = disc_image([(30, 30), (60, 90), (95, 40)])
DONOR = disc_image([(20, 20), (20, 60), (60, 30), (90, 80), (60, 110)], 8, background=40, nucleus=230, seed=1)


def paste(target=TARGET, donor=DONOR, count=4, seed=0, **options):
    return paste_nuclei(*target, *donor, count, np.random.default_rng(seed), **options)


def touches(labels, number):
    around = ndimage.binary_dilation(labels == number, np.ones((3, 3)))
    return bool(set(np.unique(labels[around])) - {0, number})


@pytest.mark.parametrize("seed", range(5))
def test_nuclei_that_are_there_stay_and_new_ones_are_whole_and_apart(seed):
    image, labels = paste(seed=seed)
    assert image.dtype == np.uint8 and labels.dtype == np.int32 and image.shape == TARGET[0].shape
    np.testing.assert_array_equal(labels[TARGET[1] > 0], TARGET[1][TARGET[1] > 0])
    np.testing.assert_array_equal(image[TARGET[1] > 0], TARGET[0][TARGET[1] > 0])
    assert labels.max() == 7
    for number in range(4, 8):
        pasted = labels == number
        assert np.count_nonzero(pasted) == np.count_nonzero(DONOR[1] == 1)
        # Between it and the next nucleus are two pixels at least.
        gap = ndimage.binary_dilation(pasted, ndimage.generate_binary_structure(2, 1), iterations=2)
        assert set(np.unique(labels[gap])) == {0, number}
    # Far from all nuclei nothing changed.
    far = ~ndimage.binary_dilation(labels > 0, iterations=6)
    np.testing.assert_array_equal(image[far], TARGET[0][far])


@pytest.mark.parametrize("seed", range(5))
def test_clumps_touch_without_overlap(seed):
    image, labels = paste(seed=seed, touching=1.0)
    np.testing.assert_array_equal(labels[TARGET[1] > 0], TARGET[1][TARGET[1] > 0])
    np.testing.assert_array_equal(image[TARGET[1] > 0], TARGET[0][TARGET[1] > 0])
    assert labels.max() > 4
    for number in range(4, labels.max() + 1):
        assert np.count_nonzero(labels == number) == np.count_nonzero(DONOR[1] == 1)
        assert touches(labels, number)


def test_brightness_is_that_of_the_image_and_the_border_is_soft():
    image, labels = paste()
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all(), "grey stays grey"
    for number in range(4, 8):
        pasted = labels == number
        assert np.median(image[ndimage.binary_erosion(pasted, iterations=2)]) == pytest.approx(150, abs=4)
        ring = ndimage.binary_dilation(pasted, iterations=3) & ~pasted
        assert np.median(image[ring]) == pytest.approx(20, abs=4)
    # A donor that is out of focus brings its halo along, fading into the background.
    blurred = ndimage.gaussian_filter(DONOR[0].astype(float), (2, 2, 0)).astype(np.uint8)
    image, labels = paste(donor=(blurred, DONOR[1]), count=1)
    distance = ndimage.distance_transform_edt(labels != 4)
    profile = [image[(distance > d - 1) & (distance <= d)].mean() for d in range(1, 7)]
    assert profile[0] > 40 and profile[4] == pytest.approx(20, abs=2)
    assert all(np.diff(profile[:4]) < 0)


def test_the_seed_decides_and_inputs_are_left_alone():
    before = [array.copy() for array in (*TARGET, *DONOR)]
    first, again, other = paste(seed=1), paste(seed=1), paste(seed=2)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()
    for array, kept in zip((*TARGET, *DONOR), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def half(shape=(120, 160)):
    """A nucleus drawn against another all along one side."""
    image, labels = disc_image([(60, 80)], 9, shape)
    labels[:, 80:][labels[:, 80:] == 1] = 2
    return image, labels


SLIVER = np.zeros((120, 160), np.int32)
SLIVER[60:63, 30:90] = 1


@pytest.mark.parametrize(
    ("target", "donor"),
    [
        (TARGET, disc_image([(20, 20), (60, 60)], 3)),
        (TARGET, disc_image([(40, 40), (60, 110)], 20)),
        (TARGET, disc_image([(3, 40), (117, 100)])),
        (TARGET, half()),
        (TARGET, (disc_image([])[0], SLIVER)),
        (TARGET, disc_image([(40, 40)], background=200, nucleus=90)),
        (TARGET, disc_image([(40, 40)], background=20, nucleus=60)),
        (TARGET, (DONOR[0] // np.uint8([1, 2, 1]), DONOR[1])),
        (TARGET, disc_image([])),
        (disc_image([]), DONOR),
        ((TARGET[0], np.ones_like(TARGET[1])), DONOR),
    ],
    ids=[
        "too small",
        "too large",
        "cut off",
        "cut by a neighbour",
        "sliver",
        "dark instead of bright",
        "too faint",
        "coloured",
        "no donor",
        "no nuclei",
        "no room",
    ],
)
def test_what_does_not_fit_is_not_pasted(target, donor):
    image, labels = paste(target, donor)
    np.testing.assert_array_equal(image, target[0])
    np.testing.assert_array_equal(labels, target[1])


def test_nuclei_go_where_it_is_as_light_as_around_the_others():
    # Cells lie in the left half; the right half of the slide is empty and bright.
    image, labels = disc_image([(30, 30), (80, 40)], background=150, nucleus=60)
    image[:, 80:] = 235
    donor = disc_image([(20, 20), (60, 60), (90, 90)], background=150, nucleus=60)
    for seed in range(8):
        _, pasted = paste((image, labels), donor, 3, seed)
        assert pasted.max() > 2
        centres = ndimage.center_of_mass(pasted > 0, pasted, range(3, pasted.max() + 1))
        assert all(x < 84 for _, x in centres)


def test_gaps_in_the_numbers_stay_gaps():
    labels = np.where(TARGET[1] == 2, 9, TARGET[1])
    _, pasted = paste((TARGET[0], labels), count=2)
    assert set(np.unique(pasted)) == {0, 1, 3, 9, 10, 11}


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match="one height and width"):
        paste(donor=(DONOR[0], DONOR[1][1:]))


def test_shipped_images_of_each_modality_take_nuclei_of_the_next():
    dataset = NucleusDataset()
    dataset.load_nucleus(shipped_data(), "all")
    groups = {}
    for index, info in enumerate(dataset.image_info):
        groups.setdefault(info["modality"], []).append(index)
    assert len(groups) == 4
    for modality, members in groups.items():
        counts = []
        for index, donor in itertools.pairwise(members):
            image, labels = dataset.load_image(index), dataset.load_labels(index)[0]
            after, numbers = paste((image, labels), (dataset.load_image(donor), dataset.load_labels(donor)[0]), 5)
            np.testing.assert_array_equal(numbers[labels > 0], labels[labels > 0])
            np.testing.assert_array_equal(after[labels > 0], image[labels > 0])
            counts.append(numbers.max() - labels.max())
        assert np.mean(counts) > 1, (modality, counts)
