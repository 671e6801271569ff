"""Ground truth from label images and from mask stacks: both ways must agree, and follow the image."""

import numpy as np
import pytest

from mrcnn import ground_truth
from mrcnn.config import Config
from mrcnn.masks import extract_bboxes, minimize_mask
from mrcnn.utils import Dataset
from trainkit.imgaug_compat import iaa


class SmallConfig(Config):
    NUM_CLASSES = 3
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    MINI_MASK_SHAPE = (28, 28)


def disks(height=70, width=90, count=12, seed=0):
    """A label image of disks, some cut by others or by the border; label k + 1 is brighter than label k."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), dtype=np.int32)
    y, x = np.mgrid[:height, :width]
    for label in range(1, count + 1):
        center_y, center_x, radius = rng.integers(0, height), rng.integers(0, width), rng.integers(3, 12)
        labels[(y - center_y) ** 2 + (x - center_x) ** 2 < radius**2] = label
    return labels


class StackDataset(Dataset):
    """Knows mask stacks only, as datasets written for the lineage do."""

    def __init__(self, image, masks, class_ids):
        super().__init__()
        self.image, self.masks, self.mask_class_ids = image, masks, class_ids
        self.add_class("cells", 1, "round")
        self.add_class("other", 2, "long")
        self.add_image("cells", "slide-7", "/data/slide-7.png")
        self.prepare()

    def load_image(self, image_id):
        return self.image.copy()

    def load_mask(self, image_id):
        return self.masks.copy(), self.mask_class_ids


class LabelDataset(StackDataset):
    """The same image, offered as a label image."""

    def load_labels(self, image_id):
        values = np.arange(1, self.masks.shape[-1] + 1, dtype=np.int32)
        return (self.masks * values).sum(axis=-1, dtype=np.int32), self.mask_class_ids

    def load_mask(self, image_id):
        raise AssertionError("the label image is there")


def pair(labels, class_ids=None):
    """Both datasets over one label image; the image shows the label in all channels."""
    count = int(labels.max())
    masks = labels[:, :, None] == np.arange(1, count + 1)
    image = np.repeat(labels[:, :, None] * 10, 3, axis=2).astype(np.uint8)
    class_ids = np.arange(count) % 2 + 1 if class_ids is None else class_ids
    return LabelDataset(image, masks, class_ids), StackDataset(image, masks, class_ids)


@pytest.mark.parametrize("mode", ["none", "square", "pad64", "crop"])
@pytest.mark.parametrize("mini", [False, True])
def test_label_image_and_mask_stack_agree(mode, mini):
    config = SmallConfig()
    config.IMAGE_RESIZE_MODE, config.IMAGE_MIN_SCALE = mode, 1.3
    augmenter = iaa.Sequential([iaa.Fliplr(0.5), iaa.Affine(rotate=(-40, 40)), iaa.Multiply((0.5, 1.5))])
    fast, slow = pair(disks())
    for seed in range(4):
        results = [
            ground_truth.load_image_gt(
                dataset,
                config,
                0,
                augmentation=augmenter if seed else None,
                use_mini_mask=mini,
                rng=np.random.default_rng(seed),
            )
            for dataset in (fast, slow)
        ]
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)
        image, _, class_ids, boxes, masks = results[0]
        assert masks.dtype == bool and boxes.dtype == np.int32 and class_ids.dtype == np.int32
        assert masks.shape == (*((28, 28) if mini else image.shape[:2]), len(boxes))
        assert len(boxes) == len(class_ids) > 0


@pytest.mark.parametrize("overlap", [False, True])
def test_boxes_and_mini_masks_are_those_of_the_full_masks(overlap):
    masks = disks()[:, :, None] == np.arange(1, 13)
    if overlap:
        masks = np.concatenate([masks, masks.any(axis=-1, keepdims=True), masks[:, :, :1]], axis=-1)
    masks = masks[:, :, masks.any(axis=(0, 1))]
    dataset = StackDataset(np.zeros((70, 90, 3), np.uint8), masks, np.ones(masks.shape[-1], int))
    config = SmallConfig()
    config.IMAGE_RESIZE_MODE = "none"
    _, _, _, boxes, full = ground_truth.load_image_gt(dataset, config, 0)
    np.testing.assert_array_equal(full, masks)
    np.testing.assert_array_equal(boxes, extract_bboxes(masks))
    mini = ground_truth.load_image_gt(dataset, config, 0, use_mini_mask=True)[-1]
    np.testing.assert_array_equal(mini, minimize_mask(boxes, masks, config.MINI_MASK_SHAPE))


def test_disjoint_masks_need_one_label_image_and_overlapping_ones_few():
    masks = disks()[:, :, None] == np.arange(1, 13)
    assert ground_truth.labels_from_masks(masks).shape == (70, 90)
    doubled = np.concatenate([masks, masks], axis=-1)
    labels = ground_truth.labels_from_masks(doubled)
    assert labels.shape == (70, 90, 2)
    np.testing.assert_array_equal(labels[..., 1], np.where(labels[..., 0], labels[..., 0] + 12, 0))


def test_cropping_drops_what_is_outside_and_keeps_class_ids():
    labels = np.zeros((64, 200), dtype=np.int32)
    for label in range(1, 11):
        labels[20:40, label * 19 - 10 : label * 19] = label
    config = SmallConfig()
    config.IMAGE_RESIZE_MODE = "crop"
    fast, _ = pair(labels, class_ids=np.arange(1, 11) % 2 + 1)
    image, meta, class_ids, boxes, masks = ground_truth.load_image_gt(fast, config, 0, rng=np.random.default_rng(3))
    assert image.shape == (64, 64, 3) and 2 <= len(boxes) <= 5
    for index, (class_id, (y1, x1, y2, x2)) in enumerate(zip(class_ids, boxes, strict=True)):
        label = image[masks[:, :, index]][0, 0] // 10
        assert class_id == label % 2 + 1
        np.testing.assert_array_equal(masks[:, :, index], image[:, :, 0] == label * 10)
        assert (image[y1:y2, x1:x2, 0] == label * 10).all()
    # Image id, original shape, shape, window, scale; the source "cells" annotates background and class 1.
    assert meta.tolist() == [0, 64, 200, 3, 64, 64, 3, 0, 0, 64, 64, 1, 1, 1, 0]


def test_instances_follow_the_image_through_augmentation():
    config = SmallConfig()
    config.IMAGE_RESIZE_MODE = "none"
    fast, _ = pair(disks())
    moved, unmoved = (
        ground_truth.load_ground_truth(fast, config, 0, augmentation=augmenter, rng=np.random.default_rng(0))
        for augmenter in (iaa.Rot90(2), iaa.GaussianBlur(3.0))
    )
    np.testing.assert_array_equal(moved.labels * 10, moved.image[:, :, 0])
    np.testing.assert_array_equal(moved.labels, disks()[::-1, ::-1])
    np.testing.assert_array_equal(unmoved.labels, disks())
    assert (unmoved.image != fast.image).any()


def test_deprecated_augment_mirrors_half_of_the_images():
    config = SmallConfig()
    config.IMAGE_RESIZE_MODE = "none"
    fast, _ = pair(disks())
    mirrored = 0
    for seed in range(30):
        truth = ground_truth.load_ground_truth(fast, config, 0, augment=True, rng=np.random.default_rng(seed))
        np.testing.assert_array_equal(truth.labels * 10, truth.image[:, :, 0])
        mirrored += (truth.labels != disks()).any()
    assert 6 <= mirrored <= 24


def test_one_seed_gives_one_result():
    config = SmallConfig()
    config.IMAGE_RESIZE_MODE = "crop"
    fast, _ = pair(disks())
    augmenter = iaa.Affine(rotate=(-90, 90))
    first, again, other = (
        ground_truth.load_ground_truth(fast, config, 0, augmentation=augmenter, rng=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.image != other.image).any()


@pytest.mark.parametrize("shape", [(70, 90, 0), (0, 0, 0)])
def test_image_without_instances(shape):
    dataset = StackDataset(np.zeros((70, 90, 3), np.uint8), np.zeros(shape), np.zeros(0, np.int32))
    image, _, class_ids, boxes, masks = ground_truth.load_image_gt(dataset, SmallConfig(), 0, use_mini_mask=True)
    assert image.shape == (64, 64, 3) and masks.shape == (28, 28, 0)
    assert class_ids.shape == (0,) and boxes.shape == (0, 4)


def test_inconsistent_data_are_refused_by_name():
    image = np.zeros((70, 90, 3), np.uint8)
    masks = np.ones((60, 90, 2), bool)
    with pytest.raises(ValueError, match=r"slide-7 \(/data/slide-7\.png\).*masks \(60, 90\), image \(70, 90\)"):
        ground_truth.load_image_gt(StackDataset(image, masks, np.ones(2, int)), SmallConfig(), 0)
    fast, _ = pair(disks(), class_ids=np.ones(3, int))
    with pytest.raises(ValueError, match=r"slide-7.*12 instances and 3 class ids"):
        ground_truth.load_image_gt(fast, SmallConfig(), 0)
    with pytest.raises(ValueError, match=r"slide-7.*must not change the size"):
        ground_truth.load_image_gt(pair(disks())[0], SmallConfig(), 0, augmentation=iaa.Crop(px=4, keep_size=False))


@pytest.mark.parametrize(
    ("image", "masks", "class_ids", "cause"),
    [
        (np.zeros((70, 90), np.uint8), np.ones((70, 90, 1), bool), [1], r"expected an image \[H, W, 3\]"),
        (np.zeros((70, 90, 4), np.uint8), np.ones((70, 90, 1), bool), [1], r"Received: shape \(70, 90, 4\)"),
        (np.zeros((70, 90, 3), np.uint8), np.ones((70, 90), bool), [1], r"expected masks \[H, W, N\]"),
        (np.zeros((70, 90, 3), np.uint8), np.ones((70, 90, 2), bool), [[1], [2]], r"expected class ids \[N\]"),
        (np.zeros((70, 90, 3), np.uint8), np.ones((70, 90, 2), bool), [1, 3], r"1 to 2.*Received: \[3\]"),
        (np.zeros((70, 90, 3), np.uint8), np.ones((70, 90, 2), bool), [1, 0], r"1 to 2.*Received: \[0\]"),
        (np.zeros((70, 90, 3), np.uint8), np.ones((70, 90, 1), bool), [1, 2], "1 instances and 2 class ids"),
    ],
)
def test_values_that_would_train_something_else_are_refused_by_name(image, masks, class_ids, cause):
    with pytest.raises(ValueError, match=rf"slide-7 \(/data/slide-7\.png\): .*{cause}"):
        ground_truth.load_ground_truth(StackDataset(image, masks, class_ids), SmallConfig(), 0)


def test_a_hidden_instance_keeps_the_classes_of_the_others():
    """The last of the label image's instances has no pixel left; its class id stays."""
    labels = disks()
    labels[labels == labels.max()] = 0
    fast, _ = pair(labels, class_ids=np.arange(labels.max() + 1) % 2 + 1)
    truth = ground_truth.load_ground_truth(fast, SmallConfig(), 0)
    np.testing.assert_array_equal(truth.class_ids, (truth.ids - 1) % 2 + 1)
