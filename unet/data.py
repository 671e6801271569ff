"""Training data: windows or resized images, augmented, with their target channels, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from skimage import measure

from trainkit.batches import Balanced, Batches, Order, Shuffled, balanced_by_power, group_items
from trainkit.sample_checks import check_image, check_labels, check_pair
from trainkit.samples import draw_sample
from unet.config import UNetConfig
from unet.resize import resize_image, resize_labels
from unet.targets import append_weights, border_weight_map, make_targets
from unet.windows import random_warped_window, random_window


class Dataset(Protocol):
    """Data set for training; one that varies its images is a `trainkit.samples.VariedSource` too.

    Attributes:
        image_ids: Indices of the images.
        image_info: One mapping for each image, with `id` and, where they are known, `path`, `collection` (the image's
            data set) and `modality`.
    """

    image_ids: Sequence[int]
    image_info: Sequence[dict[str, Any]]

    def load_image(self, image_id: int) -> np.ndarray:
        """Returns an image, uint8 `[H, W, C]`, RGB."""

    def load_labels(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (label image int32 `[H, W]`, class ids int32 `[N]`)."""


def training_sample(
    dataset: Dataset,
    config: UNetConfig,
    image_id: int,
    augmentation: Any = None,
    rng: np.random.Generator | None = None,
    warped: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Prepares one image and its targets for training.

    IMAGE_MODE "crop" takes a random window of IMAGE_SIZE pixels a side, at a magnification out of CROP_SCALES and an
    angle up to CROP_ROTATION; where an image is smaller than that, it is mirrored at its edges, as in inference.
    "resize" brings the whole image to that size. After that, and after augmenting, every connected region of one label
    is a nucleus of its own: parts that the window's edge cuts apart, and mirror images.

    Args:
        dataset: Source of image and label image.
        config: Configuration of image size, targets and loss.
        image_id: Index of the image in the data set.
        augmentation: imgaug augmenter, or None.
        rng: Generator of every random choice; None seeds one from the system.
        warped: True to apply CROP_SCALES and CROP_ROTATION; False to cut windows out unchanged.

    Returns:
        (image uint8 `[IMAGE_SIZE, IMAGE_SIZE, C]`, targets `[IMAGE_SIZE, IMAGE_SIZE, channels]`). The targets are
        uint8, 0 or 1; with LOSS "weighted-bce" they are float32 and the last channel is the weight of every pixel.

    Raises:
        ValueError: Image or label image cannot be used or do not fit together, or the augmentation changes the image's
            size; the message names the image.
    """
    rng = np.random.default_rng() if rng is None else rng
    image, loaded = draw_sample(dataset, image_id, rng)
    name = dataset.image_info[image_id].get("path") or dataset.image_info[image_id]["id"]
    image = check_image(image, config.IMAGE_CHANNEL_COUNT, name)
    labels = check_labels(check_pair(loaded, name)[0], image.shape, name)
    if config.IMAGE_MODE == "crop" and warped and config.warps_windows:
        scales, rotation = config.CROP_SCALES, config.CROP_ROTATION
        image, labels = random_warped_window(image, labels, config.IMAGE_SIZE, scales, rotation, rng)
    elif config.IMAGE_MODE == "crop":
        image, labels = random_window(image, labels, config.IMAGE_SIZE, rng)
    else:
        image, labels = resize_image(image, config.IMAGE_SIZE), resize_labels(labels, config.IMAGE_SIZE)
    if augmentation is not None:
        from trainkit.augmentation import augment_pair

        image, labels = augment_pair(augmentation, image, labels, seed=int(rng.integers(2**31)))
        if labels.shape != (config.IMAGE_SIZE, config.IMAGE_SIZE):
            raise ValueError(f"{name}: the augmentation must not change the size of the image. Received: {image.shape}")
    labels = measure.label(labels, connectivity=2)
    targets = make_targets(labels, config.TARGETS, config.BORDER_WIDTH, config.EROSION_WIDTH)
    if config.LOSS == "weighted-bce":
        weights = border_weight_map(labels, config.BORDER_WEIGHT, config.BORDER_SIGMA, config.CLASS_WEIGHTS)
        targets = append_weights(targets, weights)
    return image, targets


class SegmentationBatches(Batches):
    """Batches (images uint8 `[B, S, S, C]`, targets `[B, S, S, channels]`); see `training_sample`.

    Args:
        dataset: Data set with at least one image.
        config: Configuration of the batches, image size, targets and loss.
        order: Order of the images' indices, one for every sample.
        steps: Batches of an epoch.
        augmentation: imgaug augmenter, or None.
    """

    # True if windows are magnified and turned.
    warped = True

    def __init__(self, dataset: Dataset, config: UNetConfig, order: Order, steps: int, augmentation: Any = None):
        super().__init__(
            order, batch_size=config.BATCH_SIZE, steps=steps, seed=config.SEED, workers=config.DATA_WORKERS
        )
        if augmentation is not None:
            # imgaug takes half a second to import and is needed for augmentation only.
            from trainkit.augmentation import check_augmenter

            check_augmenter(augmentation)
        self.dataset = dataset
        self.config = config
        self.augmentation = augmentation

    def sample(self, item: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Prepares the image of an index and its targets; see `training_sample`."""
        return training_sample(self.dataset, self.config, item, self.augmentation, rng, self.warped)

    def collate(self, samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Stacks images and targets to one batch."""
        return tuple(np.stack(part) for part in zip(*samples, strict=True))


class TrainingBatches(SegmentationBatches):
    """Random batches, the same in every run of one seed; `Batches` explains how, and how to resume.

    The images come in rounds: each is seen once before any is seen again; with BALANCE_MODALITIES, images of each
    modality come equally often instead, and with BALANCE_POWER, groups of images in the shares that it gives them.

    Args:
        dataset: Data set with at least one image.
        config: Configuration of the batches, image size, targets and loss.
        augmentation: imgaug augmenter, or None.

    Raises:
        ValueError: The data set is empty, or `augmentation` is no augmenter.
    """

    def __init__(self, dataset: Dataset, config: UNetConfig, augmentation: Any = None):
        super().__init__(dataset, config, _training_order(dataset, config), config.STEPS_PER_EPOCH, augmentation)


class ValidationBatches(SegmentationBatches):
    """Batches of the same images in the same windows after every epoch, so that epochs are comparable.

    Images are neither augmented nor magnified or turned.


    All images of the data set are among them if they fit into VALIDATION_STEPS batches.

    Args:
        dataset: Data set with at least one image.
        config: Configuration of the batches, image size, targets and loss.

    Raises:
        ValueError: The data set is empty.
    """

    warped = False

    def __init__(self, dataset: Dataset, config: UNetConfig):
        super().__init__(dataset, config, Shuffled(_image_ids(dataset), config.SEED), config.VALIDATION_STEPS)

    def batch(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Prepares a batch, the same in every epoch."""
        return super().batch(0, index)


def _training_order(dataset: Dataset, config: UNetConfig) -> Order:
    ids = _image_ids(dataset)
    if config.BALANCE_MODALITIES:
        return Balanced(group_items(ids, dataset.image_info, "modality"), config.SEED)
    return balanced_by_power(ids, dataset.image_info, config.BALANCE_POWER, config.SEED)


def _image_ids(dataset: Dataset) -> list[int]:
    ids = [int(image_id) for image_id in dataset.image_ids]
    if not ids:
        raise ValueError("The data set has no images. Add some, then call its prepare().")
    return ids
