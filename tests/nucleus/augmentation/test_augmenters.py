"""Image and label image move together; one seed draws one result, from any thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nucleus.augmentation.augmenters import (
    aggressive_augmentation,
    channel_augmentation,
    default_augmentation,
    microscopy_augmentation,
    strong_augmentation,
)
from trainkit.augmentation import augment_pair
from trainkit.imgaug_compat import ia, iaa


def mirroring_augmentation():
    return strong_augmentation(mirror=True)


@pytest.fixture(scope="module")
def pair():
    """An image whose nuclei are bright discs, and its labels, numbered with gaps and above 16 bits."""
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:96, :96]
    labels = np.zeros((96, 96), np.int32)
    for number in (1, 4, 300, 70_000):
        y, x = rng.uniform(15, 80, 2)
        labels[(yy - y) ** 2 + (xx - x) ** 2 < 100] = number
    return np.repeat(np.where(labels > 0, 200, 20)[..., None], 3, axis=2).astype(np.uint8), labels


@pytest.mark.parametrize(
    "make",
    [default_augmentation, strong_augmentation, mirroring_augmentation, channel_augmentation, aggressive_augmentation],
)
def test_labels_follow_their_pixels_and_are_never_mixed(pair, make):
    image, labels = pair
    changed = 0
    for seed in range(25):
        new_image, new_labels = augment_pair(make(), image, labels, seed)
        assert new_image.shape == image.shape and new_image.dtype == np.uint8
        assert new_labels.shape == labels.shape and new_labels.dtype == np.int32
        assert set(np.unique(new_labels)) <= set(np.unique(labels))
        grey = new_image.mean(axis=2)
        # Nuclei stay the brighter ones, whatever became of the two levels.
        inside, outside = grey[new_labels > 0], grey[new_labels == 0]
        assert np.median(inside) > np.median(outside)
        changed += not np.array_equal(new_labels, labels)
    assert changed >= 5


@pytest.mark.parametrize(
    "augmenter, expected",
    [
        (iaa.Fliplr(1.0), lambda a: a[:, ::-1]),
        (iaa.Flipud(1.0), lambda a: a[::-1]),
        (iaa.Rot90(1), lambda a: np.rot90(a, -1)),
        (iaa.Rot90(2), lambda a: np.rot90(a, 2)),
    ],
)
def test_flips_and_right_angles_are_exact(pair, augmenter, expected):
    image, labels = augment_pair(augmenter, *pair, seed=0)
    np.testing.assert_array_equal(image, expected(pair[0]))
    np.testing.assert_array_equal(labels, expected(pair[1]))


@pytest.mark.parametrize("augmenter", [iaa.Multiply(0.5), iaa.GaussianBlur(3.0), iaa.AdditiveGaussianNoise(scale=20)])
def test_colour_and_blur_leave_labels_alone(pair, augmenter):
    image, labels = augment_pair(augmenter, *pair, seed=0)
    assert not np.array_equal(image, pair[0])
    np.testing.assert_array_equal(labels, pair[1])


def test_the_pipeline_reaches_every_step(pair):
    image, labels = pair
    results = [augment_pair(default_augmentation(), image, labels, seed) for seed in range(200)]
    turned = [k for k in range(1, 4) if any(np.array_equal(new, np.rot90(labels, k)) for _, new in results)]
    assert turned == [1, 2, 3]
    assert any(np.array_equal(new, labels[::-1]) for _, new in results)
    assert any(np.array_equal(new, labels[:, ::-1]) for _, new in results)
    assert any(np.array_equal(new, image) for new, _ in results), "nothing at all is among the draws"
    levels = [new.max() for new, _ in results]
    assert min(levels) < 195 and max(levels) > 230, "brightness goes down and up"


def test_all_that_rocha_de_andrade_proposes_is_there():
    """Section 8: blur, noise, pixel dropout, emboss, piecewise affine, perspective, brightness and contrast."""
    kinds = {type(augmenter) for augmenter in aggressive_augmentation().get_all_children(flat=True)}
    assert kinds >= {
        iaa.GaussianBlur,
        type(iaa.AdditiveGaussianNoise()),
        type(iaa.Dropout()),
        type(iaa.Emboss()),
        iaa.PiecewiseAffine,
        iaa.PerspectiveTransform,
        iaa.Multiply,
        type(iaa.LinearContrast()),
    }


def test_channels_change_places_and_no_pixel_changes_its_values(pair):
    colour = (30, 110, 220)
    image = np.full((64, 64, 3), colour, np.uint8)
    squares = np.zeros((64, 64), np.int32)
    squares[20:44, 20:44] = 1
    results = [augment_pair(channel_augmentation(mirror=True), image, squares, seed) for seed in range(60)]
    orders = {tuple(new[0, 0].tolist()) for new, _ in results}
    assert all(sorted(order) == sorted(colour) for order in orders) and len(orders) == 6
    assert all((new == new[0, 0]).all() for new, _ in results), "neither blur nor noise"
    sizes = [np.count_nonzero(labels) / 24**2 for _, labels in results]
    assert min(sizes) < 0.7 and max(sizes) > 1.5, "zoom"


@pytest.mark.parametrize("make", [default_augmentation, strong_augmentation, mirroring_augmentation])
def test_one_seed_draws_one_result_in_any_thread(pair, make):
    augmenter = make()
    alone = [augment_pair(augmenter, *pair, seed) for seed in range(12)]
    ia.seed(99)  # the global state plays no part
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: augment_pair(augmenter, *pair, seed % 12), range(36)))
    for k, (image, labels) in enumerate(together):
        np.testing.assert_array_equal(image, alone[k % 12][0])
        np.testing.assert_array_equal(labels, alone[k % 12][1])
    assert len({image.tobytes() for image, _ in alone}) > 6


def test_several_label_maps_move_as_one(pair):
    image, labels = pair
    stack = np.stack([labels, labels * 2], axis=2)
    moved = augment_pair(iaa.Affine(rotate=30), image, stack, 0)[1]
    assert moved.shape == stack.shape and moved.any()
    np.testing.assert_array_equal(moved[..., 1], moved[..., 0] * 2)


def test_labels_of_another_size_are_refused(pair):
    with pytest.raises(ValueError, match="one height and width"):
        augment_pair(iaa.Fliplr(1.0), pair[0], pair[1][:50], 0)


def test_what_comes_in_from_outside_is_labelled_if_it_is_mirrored():
    """Every pixel of the image tells its label, so a mirrored nucleus without one would be seen."""
    rows, columns = np.mgrid[:96, :96] // 8
    labels = (1 + columns + 12 * rows).astype(np.int32) * ((rows + columns) % 2)
    image = np.repeat(np.where(labels > 0, 200, 20)[..., None], 3, axis=2).astype(np.uint8)

    def disagreement(mirror):
        shares = []
        for seed in range(40):
            augmenter = strong_augmentation(mirror)[3:5]
            moved, moved_labels = augment_pair(iaa.Sequential(augmenter), image, labels, seed)
            shares.append(((moved[..., 0] > 110) != (moved_labels > 0)).mean())
        return np.array(shares)

    mirrored, filled = disagreement(True), disagreement(False)
    assert mirrored.max() < 0.1, "interpolation at the edges of the squares"
    assert filled.max() > 0.2, "a bright colour that is background"
    assert (mirrored > 0).sum() > 15, "half of the images are moved"


def test_microscopy_recipe_keeps_outlines_and_varies_polarity_colour_and_brightness(pair):
    image, labels = pair
    tissue = np.stack([image[..., 0] // 2 + 90, 255 - image[..., 0], 240 - image[..., 0] // 4], axis=-1)
    tissue = tissue.astype(np.uint8)
    brighter = greys = 0
    for seed in range(80):
        new, moved = augment_pair(microscopy_augmentation(), tissue, labels, seed)
        assert new.shape == image.shape and new.dtype == np.uint8
        # Flips and right angles alone: every nucleus keeps its pixels.
        assert [(moved == number).sum() for number in (1, 4, 300, 70_000)] == [
            (labels == number).sum() for number in (1, 4, 300, 70_000)
        ]
        inside, outside = (np.median(new[where], axis=0) for where in (moved > 0, moved == 0))
        assert np.abs(inside - outside).max() > 5
        brighter += inside.mean() > outside.mean()
        greys += bool((new[..., 0] == new[..., 2]).mean() > 0.99)
    assert 2 <= brighter <= 30 and 2 <= greys <= 30
