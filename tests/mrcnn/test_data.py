"""Batches for training: their content, their order over epochs, and what `fit` makes of them."""

import collections

import keras
import numpy as np
import pytest

from mrcnn import data
from mrcnn.anchors import anchor_grid_shapes, pyramid_anchors
from mrcnn.config import Config
from mrcnn.dataset import Dataset
from mrcnn.ground_truth import load_image_gt
from mrcnn.rpn.targets import match_anchors
from trainkit.imgaug_compat import iaa


class SmallConfig(Config):
    NUM_CLASSES = 3
    IMAGES_PER_GPU = 2
    STEPS_PER_EPOCH = 3
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    IMAGE_RESIZE_MODE = "crop"
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 32
    MAX_GT_INSTANCES = 5
    MINI_MASK_SHAPE = (28, 28)
    MEAN_PIXEL = np.array([1.0, 2.0, 3.0])


class Squares(Dataset):
    """`count` images of 64 x 80 pixels; image i holds i mod 8 squares and has brightness 20 * i. Two sources."""

    def __init__(self, count, seconds=0):
        super().__init__()
        self.add_class("squares", 1, "square")
        self.add_class("unmoved", 1, "square")
        for index in range(count):
            self.add_image("squares" if index % 2 else "unmoved", f"image-{index}", None)
        self.prepare()

    def load_image(self, image_id):
        return np.full((64, 80, 3), 20 * image_id, dtype=np.uint8)

    def load_labels(self, image_id):
        labels = np.zeros((64, 80), dtype=np.int32)
        for index in range(image_id % 8):
            y, x = 4 + 30 * (index // 4), 2 + 20 * (index % 4)
            labels[y : y + 12, x : x + 16] = index + 1
        return labels, np.ones(image_id % 8, dtype=np.int32)


def seen_ids(generator, epochs):
    count = len(generator) * generator.batch_size
    return [generator.item(epoch, index) for epoch in range(epochs) for index in range(count)]


def assert_same(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        np.testing.assert_array_equal(batch[name], other[name])


def test_batch_holds_the_networks_inputs():
    config, dataset = SmallConfig(), Squares(5)
    generator = data.DataGenerator(dataset, config, shuffle=False, workers=0)
    (batch,) = generator[1]
    anchors = pyramid_anchors(config, (64, 64))
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "input_image": ((2, 64, 64, 3), "float32"),
        "input_image_meta": ((2, 15), "float32"),
        "input_rpn_match": ((2, len(anchors), 1), "int32"),
        "input_rpn_bbox": ((2, 32, 4), "float32"),
        "input_gt_class_ids": ((2, 5), "int32"),
        "input_gt_boxes": ((2, 5, 4), "float32"),
        "input_gt_masks": ((2, 28, 28, 5), "bool"),
    }
    assert batch["input_image_meta"][:, 0].tolist() == [2, 3]
    np.testing.assert_array_equal(batch["input_image"][0, 5, 5], [39, 38, 37])
    truth = load_image_gt(dataset, config, 3, use_mini_mask=True, rng=np.random.default_rng([0, 0, 3]))
    count = len(truth[2])
    assert batch["input_gt_class_ids"][1].tolist() == [1] * count + [0] * (5 - count)
    np.testing.assert_array_equal(batch["input_gt_boxes"][1, :count], truth[3])
    np.testing.assert_array_equal(batch["input_gt_masks"][1, :, :, :count], truth[4])
    assert not batch["input_gt_masks"][1, :, :, count:].any() and not batch["input_gt_boxes"][1, count:].any()


def test_full_size_masks_and_random_rois():
    config = SmallConfig()
    config.USE_MINI_MASK, config.USE_RPN_ROIS, config.POST_NMS_ROIS_TRAINING = False, False, 50
    (batch,) = data.DataGenerator(Squares(4), config, workers=0)[0]
    assert batch["input_gt_masks"].shape == (2, 64, 64, 5)
    assert batch["input_roi"].shape == (2, 50, 4) and batch["input_roi"].dtype == np.int32


def test_rpn_learns_from_all_instances_and_the_heads_from_a_random_choice():
    config, dataset = SmallConfig(), Squares(8)
    config.IMAGE_RESIZE_MODE, config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM = "square", 64, 128
    config.MAX_GT_INSTANCES = 3
    config.RPN_TRAIN_ANCHORS_PER_IMAGE = 10_000
    _, _, class_ids, boxes, masks = load_image_gt(dataset, config, 7, use_mini_mask=True)
    assert len(boxes) == 7
    anchors = pyramid_anchors(config, (128, 128))
    expected = match_anchors(anchors, anchor_grid_shapes(config, (128, 128)), class_ids, boxes)
    choices = set()
    for seed in range(8):
        inputs = data.training_inputs(dataset, config, 7, rng=np.random.default_rng(seed))
        np.testing.assert_array_equal(inputs["input_rpn_match"][:, 0] == 1, expected == 1)
        chosen = [int(np.flatnonzero((boxes == box).all(axis=1))[0]) for box in inputs["input_gt_boxes"]]
        assert len(set(chosen)) == 3
        np.testing.assert_array_equal(inputs["input_gt_masks"], masks[:, :, chosen])
        choices.add(tuple(chosen))
    assert len(choices) > 1


def test_image_without_instances_is_background():
    inputs = data.training_inputs(Squares(1), SmallConfig(), 0)
    match = inputs["input_rpn_match"]
    assert (match == 1).sum() == 0 and (match == -1).sum() == 32
    assert not inputs["input_gt_class_ids"].any() and not inputs["input_gt_masks"].any()


def test_every_image_is_seen_equally_often_whatever_the_length_of_an_epoch():
    generator = data.DataGenerator(Squares(7), SmallConfig(), workers=0)
    seen = seen_ids(generator, epochs=7)
    assert set(collections.Counter(seen).values()) == {6}
    rounds = [seen[start : start + 7] for start in range(0, len(seen), 7)]
    assert all(sorted(round_) == list(range(7)) for round_ in rounds)
    assert len({tuple(round_) for round_ in rounds}) > 3


def test_seed_decides_the_order():
    orders = [seen_ids(data.DataGenerator(Squares(7), SmallConfig(), seed=seed), 2) for seed in (3, 3, 4)]
    assert orders[0] == orders[1] != orders[2]


def test_threads_and_resuming_change_nothing():
    augmenter = iaa.Sequential([iaa.Fliplr(0.5), iaa.Affine(rotate=(-90, 90))])
    dataset, config = Squares(9), SmallConfig()
    plain = data.DataGenerator(dataset, config, augmentation=augmenter, seed=5, workers=0)
    threaded = data.DataGenerator(dataset, config, augmentation=augmenter, seed=5, workers=3)
    resumed = data.DataGenerator(dataset, config, augmentation=augmenter, seed=5, workers=2)
    resumed.epoch = 1
    for epoch in range(2):
        for generator in (plain, threaded):
            generator.on_epoch_begin()
        for index in range(3):
            batch = plain[index][0]
            assert_same(batch, threaded[index][0])
            if epoch == 1:
                assert_same(batch, resumed[index][0])
        for generator in (plain, threaded):
            generator.on_epoch_end()
    assert plain.epoch == threaded.epoch == 2


def test_batches_may_be_asked_for_in_any_order():
    plain = data.DataGenerator(Squares(9), SmallConfig(), workers=0)
    threaded = data.DataGenerator(Squares(9), SmallConfig(), workers=2)
    for index in (2, 0, 0, 1):
        assert_same(plain[index][0], threaded[index][0])
    with pytest.raises(IndexError, match="3 batches"):
        threaded[3]


def test_peeking_does_not_count_as_an_epoch():
    generator = data.DataGenerator(Squares(9), SmallConfig(), workers=0)
    generator.on_epoch_end()
    generator.on_epoch_begin()
    generator[0]
    generator.on_epoch_end()
    assert generator.epoch == 0


def test_sources_can_be_left_unaugmented():
    generator = data.DataGenerator(
        Squares(8),
        SmallConfig(),
        augmentation=iaa.Add(40),
        no_augmentation_sources=["unmoved"],
        workers=0,
    )
    for index in range(3):
        (batch,) = generator[index]
        for image, meta in zip(batch["input_image"], batch["input_image_meta"], strict=True):
            expected = 20 * meta[0] + (40 if meta[0] % 2 else 0)
            np.testing.assert_allclose(image[10, 10] + [1, 2, 3], expected)


def test_error_in_a_thread_reaches_the_caller():
    class Broken(Squares):
        def load_image(self, image_id):
            raise ValueError(f"image-{image_id}.png is truncated")

    generator = data.DataGenerator(Broken(4), SmallConfig(), workers=2)
    with pytest.raises(ValueError, match="is truncated"):
        generator[0]


def test_unusable_datasets_are_refused():
    with pytest.raises(ValueError, match="no images"):
        data.DataGenerator(Squares(0), SmallConfig())
    config = SmallConfig()
    config.NUM_CLASSES = 4
    with pytest.raises(ValueError, match=r"3 classes with the background \(BG, square, square\).*NUM_CLASSES is 4"):
        data.DataGenerator(Squares(3), config)


def test_images_of_different_sizes_make_no_batch():
    class Mixed(Squares):
        def load_image(self, image_id):
            return np.zeros((64, 64 * (1 + image_id), 3), np.uint8)

        def load_labels(self, image_id):
            return np.zeros((64, 64 * (1 + image_id)), np.int32), np.zeros(0, np.int32)

    class Lively(Mixed):
        def load_labels(self, image_id):
            labels, _ = super().load_labels(image_id)
            labels[8:20, 8:20] = 1
            return labels, np.ones(1, np.int32)

    config = SmallConfig()
    config.IMAGE_RESIZE_MODE = "none"
    with pytest.raises(ValueError, match=r"one size.*\(64, 64, 3\), \(64, 128, 3\)"):
        next(data.data_generator(Lively(2), config, batch_size=2))
    cause = r"Image image-1: .*IMAGE_SHAPE \(64, 64, 3\).*Received: \(64, 128, 3\).*'none'.*'square' and 'crop'"
    with pytest.raises(ValueError, match=cause):
        data.DataGenerator(Mixed(2), config, workers=0)[0]


def test_rectangles_of_pad64_are_refused_with_the_modes_that_train():
    config = SmallConfig()
    config.IMAGE_RESIZE_MODE = "pad64"
    with pytest.raises(ValueError, match=r"Received: \(64, 128, 3\).*'pad64'.*'square' and 'crop'"):
        data.DataGenerator(Squares(2), config, workers=0)[0]


def test_a_list_of_augmenters_is_refused_before_training_begins():
    with pytest.raises(ValueError, match=r"imgaug augmenter.*Received: list"):
        data.DataGenerator(Squares(2), SmallConfig(), augmentation=[iaa.Fliplr(0.5)])


@pytest.mark.backend
@pytest.mark.parametrize(("workers", "steps_per_epoch"), [(0, None), (2, 3)])
def test_fit_takes_the_epochs_in_order(workers, steps_per_epoch):
    """A model whose loss is the image's brightness tells which images each epoch brought."""
    config = SmallConfig()
    generator = data.DataGenerator(Squares(11), config, workers=workers)
    validation = data.DataGenerator(Squares(5), config, shuffle=False, steps=1, workers=0)
    generator.epoch = validation.epoch = 1

    class Brightness(keras.Model):
        def __init__(self):
            super().__init__()
            self.pool = keras.layers.GlobalAveragePooling2D()
            self.sum = keras.layers.Dense(1, kernel_initializer="ones", use_bias=False)

        def call(self, inputs):
            return self.sum(self.pool(inputs["input_image"]))

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(y_pred)

    model = Brightness()
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    history = model.fit(
        generator,
        shuffle=False,
        initial_epoch=1,
        epochs=4,
        steps_per_epoch=steps_per_epoch,
        validation_data=validation,
        validation_steps=1,
        verbose=0,
    ).history
    for name, source, count in (("loss", generator, 6), ("val_loss", validation, 2)):
        ids = [[source.item(epoch, index) for index in range(count)] for epoch in range(1, 4)]
        np.testing.assert_allclose(history[name], 60 * np.mean(ids, axis=1) - 6, rtol=1e-5)
    assert generator.epoch == validation.epoch == 4


def test_lineage_generator_yields_lists_in_the_networks_order():
    config = SmallConfig()
    batches = data.data_generator(
        Squares(6), config, shuffle=False, random_rois=40, batch_size=2, detection_targets=True
    )
    inputs, outputs = next(batches)
    images, metas, rpn_match, rpn_bbox, class_ids, boxes, masks, random_rois, rois = inputs
    # Image 0 has no instance.
    assert metas[:, 0].tolist() == [1, 2]
    assert images.shape == (2, 64, 64, 3) and masks.shape == (2, 28, 28, 5)
    assert rpn_match.shape[::2] == (2, 1) and rpn_bbox.shape == (2, 32, 4)
    assert class_ids.shape == (2, 5) and boxes.shape == (2, 5, 4) and random_rois.shape == (2, 40, 4)
    assert rois.shape == (2, config.TRAIN_ROIS_PER_IMAGE, 4)
    assert [part.shape for part in outputs] == [(2, 200, 1), (2, 200, 3, 4), (2, 200, 28, 28, 3)]
    inputs, outputs = next(data.data_generator(Squares(6), config))
    assert len(inputs) == 7 and outputs == []


def test_lineage_generator_needs_an_instance():
    with pytest.raises(ValueError, match="No image of the dataset has an instance"):
        next(data.data_generator(Squares(1), SmallConfig()))
