"""From a `Dataset` to batches of network inputs for training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from mrcnn.anchors import pyramid_anchors
from mrcnn.config import Config
from mrcnn.dataset import Dataset
from mrcnn.ground_truth import describe_image, load_ground_truth
from mrcnn.image_meta import mold_image
from mrcnn.roi_heads.debug_targets import build_detection_targets, generate_random_rois
from mrcnn.rpn.targets import build_rpn_targets
from trainkit.batches import Batches, InOrder, balanced_by_power

# Names of the network's inputs in the lineage's order.
INPUT_NAMES = (
    "input_image",
    "input_image_meta",
    "input_rpn_match",
    "input_rpn_bbox",
    "input_gt_class_ids",
    "input_gt_boxes",
    "input_gt_masks",
)


def training_inputs(
    dataset: Dataset,
    config: Config,
    image_id: int,
    *,
    augment: bool = False,
    augmentation: Any = None,
    random_rois: int = 0,
    rng: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """Prepares the network's inputs for one training image.

    An image without instances (in the data set, or after cropping and augmenting) is background: no anchor is
    positive, and the ground truth is all padding. Of more than MAX_GT_INSTANCES instances, a random sample trains the
    heads, while the RPN learns from all.

    Args:
        dataset: Prepared data set.
        config: Uses the settings of images, anchors and instances.
        image_id: Index of the image in the dataset.
        augment: True mirrors half of the images left to right (deprecated: use `augmentation`).
        augmentation: imgaug augmenter, or None.
        random_rois: Number of random RoIs to add as `input_roi`; 0 adds none.
        rng: Random generator of all choices; None seeds one from the system.

    Returns:
        Arrays by the name of the input layer, without a batch dimension. With G = MAX_GT_INSTANCES and A anchors:
        input_image float32 `[h, w, C]`, input_image_meta float32 `[12 + classes]`, input_rpn_match int32 `[A, 1]`,
        input_rpn_bbox float32 `[RPN_TRAIN_ANCHORS_PER_IMAGE, 4]`, input_gt_class_ids int32 `[G]`, input_gt_boxes
        float32 `[G, 4]` in pixels, input_gt_masks bool `[mask h, mask w, G]`; with `random_rois`, input_roi int32
        `[random_rois, 4]` in pixels. The ground truth is padded with zeros at the end.

    Raises:
        ValueError: Masks, classes and image do not fit together; the message names the image.
    """
    rng = np.random.default_rng() if rng is None else rng
    truth = load_ground_truth(dataset, config, image_id, augment=augment, augmentation=augmentation, rng=rng)
    shape = truth.image.shape
    rpn_match, rpn_bbox = build_rpn_targets(
        shape, pyramid_anchors(config, shape), truth.class_ids, truth.boxes, config, rng
    )
    inputs = {
        "input_image": mold_image(truth.image, config),
        "input_image_meta": truth.image_meta,
        "input_rpn_match": rpn_match[:, None],
        "input_rpn_bbox": rpn_bbox,
    }
    if random_rois:
        inputs["input_roi"] = generate_random_rois(shape, random_rois, truth.class_ids, truth.boxes, rng)

    capacity = config.MAX_GT_INSTANCES
    if len(truth.ids) > capacity:
        truth = truth.take(np.sort(rng.choice(len(truth.ids), capacity, replace=False)))
    spare = capacity - len(truth.ids)
    masks = truth.mini_masks(config.MINI_MASK_SHAPE) if config.USE_MINI_MASK else truth.masks()
    inputs["input_gt_class_ids"] = np.pad(truth.class_ids.astype(np.int32), (0, spare))
    inputs["input_gt_boxes"] = np.pad(truth.boxes.astype(np.float32), ((0, spare), (0, 0)))
    inputs["input_gt_masks"] = np.pad(masks.astype(bool), ((0, 0), (0, 0), (0, spare)))
    return inputs


def _stack(samples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    shapes = {sample["input_image"].shape for sample in samples}
    if len(shapes) > 1:
        raise ValueError(
            f"The images of one batch must have one size: use IMAGE_RESIZE_MODE 'square' or 'crop', or batches of "
            f"one image. Received: shapes {sorted(shapes)}"
        )
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


class DataGenerator(Batches):
    """Batches for `fit`, prepared by threads while the network computes, and the same in every run of one seed.

    The images are shuffled in rounds: each is seen once before any is seen again, whatever the number of steps in
    an epoch. With BALANCE_POWER below 1, small groups of images come more often than their number.
    `trainkit.batches.Batches` explains repeatability and resuming.

    Item i is `(inputs,)`, the dict of arrays of `training_inputs` with a leading batch dimension, without targets: the
    network computes its losses itself.

    Args:
        dataset: Prepared data set of at least one image.
        config: Configuration; its BATCH_SIZE, STEPS_PER_EPOCH and DATA_WORKERS are the defaults below. Unless
            USE_RPN_ROIS, POST_NMS_ROIS_TRAINING random RoIs are added as `input_roi`.
        shuffle: False keeps the images in the data set's order.
        augmentation: imgaug augmenter, or None.
        seed: Seed of order and augmentation, from 0 on.
        batch_size: Images per batch.
        steps: Batches per epoch.
        no_augmentation_sources: Names of the sources whose images are not augmented.
        workers: Number of threads; 0 prepares each batch on demand.

    Raises:
        ValueError: The data set is empty, or has another number of classes than the configuration, or `augmentation` is
            no augmenter. A batch raises it where an image has another size than IMAGE_SHAPE after resizing.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        shuffle: bool = True,
        augmentation: Any = None,
        seed: int = 0,
        batch_size: int | None = None,
        steps: int | None = None,
        no_augmentation_sources: Collection[str] | None = None,
        workers: int | None = None,
    ):
        _check(dataset, config)
        if augmentation is not None:
            # imgaug takes a second to import and is needed for augmentation only.
            from trainkit.augmentation import check_augmenter

            check_augmenter(augmentation)
        super().__init__(
            balanced_by_power(dataset.image_ids, dataset.image_info, config.BALANCE_POWER, seed)
            if shuffle
            else InOrder(dataset.image_ids),
            batch_size=batch_size or config.BATCH_SIZE,
            steps=steps or config.STEPS_PER_EPOCH,
            seed=seed,
            workers=config.DATA_WORKERS if workers is None else workers,
        )
        self.dataset = dataset
        self.config = config
        self.augmentation = augmentation
        self.no_augmentation_sources = frozenset(no_augmentation_sources or ())

    def sample(self, item: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Prepares the inputs of image `item`; see `training_inputs`."""
        image_id = int(item)
        source = self.dataset.image_info[image_id]["source"]
        inputs = training_inputs(
            self.dataset,
            self.config,
            image_id,
            augmentation=None if source in self.no_augmentation_sources else self.augmentation,
            random_rois=0 if self.config.USE_RPN_ROIS else self.config.POST_NMS_ROIS_TRAINING,
            rng=rng,
        )
        shape, expected = inputs["input_image"].shape, tuple(int(side) for side in self.config.IMAGE_SHAPE)
        if shape != expected:
            raise ValueError(
                f"{describe_image(self.dataset, image_id)}: the network trains on images of one size, IMAGE_SHAPE "
                f"{expected}. Received: {shape} after IMAGE_RESIZE_MODE {self.config.IMAGE_RESIZE_MODE!r}; 'square' "
                "and 'crop' bring any image to that size."
            )
        return inputs

    def collate(self, samples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Stacks the inputs of several images to a batch."""
        return _stack(samples)


def data_generator(
    dataset: Dataset,
    config: Config,
    shuffle: bool = True,
    augment: bool = False,
    augmentation: Any = None,
    random_rois: int = 0,
    batch_size: int = 1,
    detection_targets: bool = False,
    no_augmentation_sources: Collection[str] | None = None,
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Yields random batches without end in the lineage's form, for notebooks; `DataGenerator` serves training.

    Images without instances are skipped.

    Args:
        dataset: Prepared data set.
        config: Configuration.
        shuffle: True shuffles the images before every round.
        augment: True mirrors half of the images left to right (deprecated: use `augmentation`).
        augmentation: imgaug augmenter, or None.
        random_rois: Number of random RoIs per image; 0 for none.
        batch_size: Images per batch.
        detection_targets: True with `random_rois` also yields the heads' targets, see `build_detection_targets`.
        no_augmentation_sources: Names of the sources whose images are not augmented.

    Yields:
        inputs: The arrays of `INPUT_NAMES` in that order with a leading batch dimension, then `random_rois` RoIs
            int32 `[batch, random_rois, 4]` in pixels if there are any, then with `detection_targets` the RoIs sampled
            from them `[batch, TRAIN_ROIS_PER_IMAGE, 4]`.
        outputs: Empty list, or with `detection_targets` class ids `[batch, RoIs, 1]`, deltas `[batch, RoIs, classes,
            4]` and masks `[batch, RoIs, height, width, classes]`.

    Raises:
        ValueError: No image of the data set has an instance, or masks, classes and image do not fit together.
    """
    _check(dataset, config)
    rng = np.random.default_rng()
    unaugmented = frozenset(no_augmentation_sources or ())
    samples, targets = [], []
    while True:
        found = False
        for image_id in rng.permutation(dataset.image_ids) if shuffle else dataset.image_ids:
            source = dataset.image_info[image_id]["source"]
            sample = training_inputs(
                dataset,
                config,
                int(image_id),
                augment=augment,
                augmentation=None if source in unaugmented else augmentation,
                random_rois=random_rois,
                rng=rng,
            )
            class_ids = sample["input_gt_class_ids"]
            if not np.any(class_ids > 0):
                continue
            found = True
            samples.append(sample)
            if random_rois and detection_targets:
                boxes, masks = sample["input_gt_boxes"].astype(np.int32), sample["input_gt_masks"]
                targets.append(build_detection_targets(sample["input_roi"], class_ids, boxes, masks, config, rng))
            if len(samples) == batch_size:
                yield _lineage_batch(samples, targets)
                samples, targets = [], []
        if not found:
            raise ValueError("No image of the dataset has an instance to train on.")


def _lineage_batch(
    samples: Sequence[dict[str, np.ndarray]], targets: Sequence[tuple[np.ndarray, ...]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    batch = _stack(samples)
    inputs = [batch[name] for name in (*INPUT_NAMES, "input_roi") if name in batch]
    if not targets:
        return inputs, []
    rois, class_ids, deltas, masks = (np.stack(part) for part in zip(*targets, strict=True))
    return [*inputs, rois], [class_ids[..., None], deltas, masks]


def _check(dataset: Dataset, config: Config) -> None:
    if not len(dataset.image_ids):
        raise ValueError("The dataset has no images. Add some, then call its prepare().")
    if dataset.num_classes != config.NUM_CLASSES:
        raise ValueError(
            f"The dataset has {dataset.num_classes} classes with the background ({', '.join(dataset.class_names)}), "
            f"the configuration's NUM_CLASSES is {config.NUM_CLASSES}."
        )
