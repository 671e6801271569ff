"""From images and label images to batches: windows, mirroring, resizing, targets, the order of modalities."""

import collections
import gc
import weakref

import numpy as np
import pytest

from trainkit.imgaug_compat import iaa
from unet.data import TrainingBatches, ValidationBatches, random_window, training_sample
from unet.targets import border_weight_map


class Fixed:
    """One image and label image."""

    def __init__(self, image, labels):
        self.image, self.labels = image, labels
        self.image_ids, self.image_info = [0], [{"id": "one", "path": "folder/one.png"}]

    def load_image(self, image_id):
        return self.image

    def load_labels(self, image_id):
        return self.labels, np.ones(int(self.labels.max(initial=0)), np.int32)


def painted(labels):
    """An image that shows its labels, so that both can be compared."""
    return ((labels > 0) * (40 + labels * 7 % 200)).astype(np.uint8)[..., None].repeat(3, axis=2)


def grid(height, width, side=8):
    """Squares of one label each, a pixel apart."""
    rows, columns = np.mgrid[:height, :width]
    labels = 1 + rows // side + 3 * (columns // side)
    labels[(rows % side == 0) | (columns % side == 0)] = 0
    return labels.astype(np.int32)


def test_a_window_shows_image_and_targets_of_one_place(tiny_config):
    labels = grid(60, 80)
    dataset = Fixed(painted(labels), labels)
    places = set()
    for seed in range(12):
        image, targets = training_sample(dataset, tiny_config(), 0, rng=np.random.default_rng(seed))
        assert image.shape == (32, 32, 3) and image.dtype == np.uint8
        assert targets.shape == (32, 32, 3) and targets.dtype == np.uint8
        np.testing.assert_array_equal(targets[..., 0] == 1, image[..., 0] > 0)
        again, _ = training_sample(dataset, tiny_config(), 0, rng=np.random.default_rng(seed))
        np.testing.assert_array_equal(image, again)
        places.add(image.tobytes())
    assert len(places) > 6


def test_every_place_of_an_image_can_be_the_window():
    image = np.arange(6 * 5).reshape(6, 5, 1)
    corners = {random_window(image, image[..., 0], 4, np.random.default_rng(seed))[1][0, 0] for seed in range(60)}
    assert corners == {0, 1, 5, 6, 10, 11}


@pytest.mark.parametrize("shape", [(20, 50), (50, 31), (7, 5), (1, 1)])
def test_images_smaller_than_the_window_are_mirrored(shape):
    labels = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    image, moved = random_window(labels[..., None], labels, 32, np.random.default_rng(0))
    assert image.shape == (32, 32, 1) and moved.shape == (32, 32)
    np.testing.assert_array_equal(image[..., 0], moved)

    def mirrored(length, side):
        there_and_back = [*range(length), *reversed(range(length))]
        first = -((side - length) // 2)
        return [there_and_back[place % (2 * length)] for place in range(first, first + side)]

    rows, columns = (mirrored(length, max(length, 32)) for length in shape)
    whole = labels[np.ix_(rows, columns)]
    windows = np.lib.stride_tricks.sliding_window_view(whole, (32, 32)).reshape(-1, 32, 32)
    assert (windows == moved).all(axis=(1, 2)).any()


def test_mirror_images_and_parts_are_nuclei_of_their_own(tiny_config):
    labels = np.zeros((32, 64), np.int32)
    labels[4:28, 20:30] = 1
    labels[12:20, 24:30] = 0
    labels[14:18, 10:12] = 2
    config = tiny_config(TARGETS="mask-border")
    borders = [
        training_sample(Fixed(painted(labels), labels), config, 0, rng=np.random.default_rng(seed))[1][..., 1]
        for seed in range(40)
    ]
    # Its two arms are 8 pixels apart, out of reach; a window that begins in them cuts their connection.
    assert not any(border.any() for border in borders)
    narrow = np.zeros((32, 16), np.int32)
    narrow[10:20, 13:15] = 1
    _, targets = training_sample(Fixed(painted(narrow), narrow), config, 0, rng=np.random.default_rng(0))
    assert targets[10:20, 23:24, 1].all(), "a pixel from the edge: its mirror image is a neighbour"
    narrow[10:20, 15] = 1
    _, targets = training_sample(Fixed(painted(narrow), narrow), config, 0, rng=np.random.default_rng(0))
    assert not targets[..., 1].any(), "on the edge: both are one"


def test_a_corner_that_touches_its_nucleus_diagonally_is_no_nucleus(tiny_config):
    labels = np.zeros((32, 32), np.int32)
    labels[8:16, 8:16] = 1
    labels[16, 16] = 1
    config = tiny_config(TARGETS="mask-border")
    _, targets = training_sample(Fixed(painted(labels), labels), config, 0, rng=np.random.default_rng(0))
    assert targets[..., 0].sum() == 65 and not targets[..., 1].any()
    labels[16:24, 16:24] = 2
    _, targets = training_sample(Fixed(painted(labels), labels), config, 0, rng=np.random.default_rng(0))
    assert targets[..., 1].any(), "another nucleus that meets it diagonally stays one"


def test_parts_that_a_window_cuts_apart_are_two(tiny_config):
    labels = np.zeros((32, 40), np.int32)
    labels[8:24, 4:20] = 1
    labels[15:17, 6:20] = 0
    config = tiny_config(TARGETS="mask-border")
    seen = collections.Counter()
    for seed in range(30):
        _, targets = training_sample(Fixed(painted(labels), labels), config, 0, rng=np.random.default_rng(seed))
        connected = targets[15, :20, 0].any()
        seen[bool(connected), bool(targets[..., 1].any())] += 1
    assert set(seen) == {(True, False), (False, True)}


def test_resizing_takes_the_whole_image(tiny_config):
    labels = grid(16, 64)
    config = tiny_config(IMAGE_MODE="resize")
    samples = [training_sample(Fixed(painted(labels), labels), config, 0, rng=np.random.default_rng(s)) for s in (0, 1)]
    np.testing.assert_array_equal(*(image for image, _ in samples))
    assert samples[0][1].shape == (32, 32, 3)


def test_the_weighted_loss_gets_its_weights_behind_the_targets(tiny_config):
    labels = grid(32, 32)
    own = {"BORDER_WEIGHT": 7.0, "CLASS_WEIGHTS": (0.5, 2.0)}
    config = tiny_config(LOSS="weighted-bce", TARGETS="mask", POSTPROCESS="components", **own)
    _, targets = training_sample(Fixed(painted(labels), labels), config, 0)
    assert targets.shape == (32, 32, 2) and targets.dtype == np.float32
    np.testing.assert_array_equal(targets[..., 0], labels > 0)
    expected = border_weight_map(labels, 7.0, 5.0, (0.5, 2.0))
    np.testing.assert_allclose(targets[..., 1], expected)
    assert expected.max() > 3


def test_augmentation_moves_image_and_targets_together(tiny_config):
    labels = grid(40, 40)
    augmenter = iaa.Sequential([iaa.Fliplr(0.5), iaa.Rot90((0, 3)), iaa.Add((0, 10))])
    results = set()
    for seed in range(8):
        draw = [
            training_sample(Fixed(painted(labels), labels), tiny_config(), 0, augmenter, np.random.default_rng(seed))
            for _ in range(2)
        ]
        np.testing.assert_array_equal(draw[0][0], draw[1][0])
        image, targets = draw[0]
        np.testing.assert_array_equal(targets[..., 0] == 1, image[..., 0] > 15)
        results.add(image.tobytes())
    assert len(results) == 8


def test_modalities_are_balanced_if_asked_for(discs, tiny_config):
    dataset = discs(12)
    for balanced, share in ((False, 0.25), (True, 0.5)):
        config = tiny_config(BALANCE_MODALITIES=balanced, BATCH_SIZE=4, STEPS_PER_EPOCH=6)
        batches = TrainingBatches(dataset, config)
        ids = [batches.item(epoch, index) for epoch in range(3) for index in range(24)]
        stains = [dataset.image_info[image_id]["modality"] == "stain" for image_id in ids]
        assert np.mean(stains) == share
        assert {*ids} == {*range(12)}
        other = TrainingBatches(dataset, tiny_config(**{**config.to_dict(), "SEED": 1}))
        assert [other.item(0, index) for index in range(24)] != ids[:24]


@pytest.mark.parametrize("balanced", [False, True])
def test_threads_and_resuming_change_nothing(discs, tiny_config, balanced):
    augmenter = iaa.Affine(rotate=(-90, 90), mode="reflect")
    plain, threaded = (
        TrainingBatches(discs(5), tiny_config(BALANCE_MODALITIES=balanced, DATA_WORKERS=workers), augmenter)
        for workers in (0, 3)
    )
    threaded.epoch = plain.epoch = 2
    for index in (0, 1):
        images, targets = plain[index]
        assert images.shape == (2, 32, 32, 3) and targets.shape == (2, 32, 32, 3)
        for ours, theirs in zip((images, targets), threaded[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_validation_shows_the_same_every_epoch(discs, tiny_config):
    batches = ValidationBatches(discs(4), tiny_config(VALIDATION_STEPS=2, DATA_WORKERS=2))
    first = [batches[index] for index in range(2)]
    batches.epoch = 5
    for index in range(2):
        for ours, theirs in zip(first[index], batches[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert {batches.item(0, index) for index in range(4)} == {0, 1, 2, 3}


def test_only_the_images_of_the_batches_in_flight_are_in_memory(discs, tiny_config):
    held, most = set(), 0

    class Large(discs):
        def load_image(self, image_id):
            nonlocal most
            image = super().load_image(image_id)
            held.add(id(image))
            weakref.finalize(image, held.discard, id(image))
            most = max(most, len(held))
            return image

    batches = TrainingBatches(Large(60), tiny_config(STEPS_PER_EPOCH=30, DATA_WORKERS=2))
    for index in range(30):
        images, _ = batches[index]
        assert len(images) == 2
    del images
    gc.collect()
    assert not held and 1 <= most <= 4, "two threads, each with the image it works on and the one before"


@pytest.mark.parametrize(
    ("image", "labels", "cause"),
    [
        (np.zeros((40, 40, 1), np.uint8), np.zeros((40, 40), np.int32), r"\[H, W, 3\].*\(40, 40, 1\)"),
        (np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.int32), r"\[H, W, 3\].*\(40, 40\)"),
        (np.zeros((40, 40, 3), np.uint8), np.zeros((40, 41), np.int32), r"\(40, 40, 3\) and \(40, 41\)"),
        (np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40)), r"label image \[H, W\] of integers.*float64"),
    ],
)
def test_images_that_cannot_be_used_are_named(tiny_config, image, labels, cause):
    with pytest.raises(ValueError, match=r"folder/one\.png: expected.*" + cause):
        training_sample(Fixed(image, labels), tiny_config(), 0)


def test_an_augmentation_may_not_change_the_size(tiny_config):
    dataset = Fixed(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.int32))
    with pytest.raises(ValueError, match=r"folder/one\.png: the augmentation must not change"):
        training_sample(dataset, tiny_config(), 0, iaa.Crop(px=4, keep_size=False))


def test_an_empty_data_set_is_refused(discs, tiny_config):
    for kind in (TrainingBatches, ValidationBatches):
        with pytest.raises(ValueError, match="no images"):
            kind(discs(0), tiny_config())


def test_an_image_without_nuclei_is_background(tiny_config):
    dataset = Fixed(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.int32))
    _, targets = training_sample(dataset, tiny_config(), 0)
    assert not targets.any()


def test_a_data_set_of_masks_alone_is_refused(tiny_config):
    """One written for Mask R-CNN may have no label images."""

    class Masks(Fixed):
        def load_labels(self, image_id):
            return None

    with pytest.raises(ValueError, match=r"folder/one\.png: expected two values.*label image.*NoneType"):
        training_sample(Masks(np.zeros((40, 40, 3), np.uint8), None), tiny_config(), 0)


def test_a_list_of_augmenters_is_refused_before_training_begins(discs, tiny_config):
    with pytest.raises(ValueError, match=r"imgaug augmenter.*Received: list"):
        TrainingBatches(discs(), tiny_config(), [iaa.Fliplr(0.5)])
