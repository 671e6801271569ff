"""From an image of a dataset to its resized and augmented ground truth.

Instances are kept as label images throughout, so that resizing, cropping and augmenting cost the same for one instance
and for three hundred. Mask stacks `[H, W, N]` become label images when they are read, several if masks overlap.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from mrcnn.config import Config
from mrcnn.dataset import Dataset
from mrcnn.image_meta import compose_image_meta, resize_for_network
from mrcnn.masks import extract_bboxes, resize_mask_probabilities
from mrcnn.resizing import resize_mask
from trainkit.sample_checks import check_class_ids, check_image, check_labels, check_masks, check_pair
from trainkit.samples import draw_sample

log = logging.getLogger(__name__)


@dataclass
class GroundTruth:
    """Image and instances, resized and augmented; the instances are in the dataset's order.

    Attributes:
        image: `[h, w, C]`, the dtype of the dataset's image.
        image_meta: float32 `[12 + classes]`, see `image_meta.compose_image_meta`.
        labels: Label image int32 `[h, w]`, or L of them `[h, w, L]` where masks overlap: 0 or the id of the instance.
        ids: int `[N]`, id of each instance in `labels`.
        layers: int `[N]`, index of the label image that holds each instance.
        class_ids: int32 `[N]`.
        boxes: int32 `[N, 4]`, pixels, y2 and x2 exclusive.
    """

    image: np.ndarray
    image_meta: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    layers: np.ndarray
    class_ids: np.ndarray
    boxes: np.ndarray

    def take(self, indices: np.ndarray) -> GroundTruth:
        """Returns the ground truth with the instances at some indices only."""
        chosen = (part[indices] for part in (self.ids, self.layers, self.class_ids, self.boxes))
        return GroundTruth(self.image, self.image_meta, self.labels, *chosen)

    def masks(self) -> np.ndarray:
        """Returns the masks of the instances, bool `[h, w, N]`."""
        if self.labels.ndim == 2:
            return self.labels[:, :, None] == self.ids
        return self.labels[:, :, self.layers] == self.ids

    def mini_masks(self, shape: Sequence[int]) -> np.ndarray:
        """Cuts each mask to its box and resizes it; equal to `masks.minimize_mask` of `masks()`.

        Args:
            shape: (height, width) of the small masks in pixels.

        Returns:
            bool `[height, width, N]`.
        """
        mini_masks = np.zeros((len(self.ids), int(shape[0]), int(shape[1])), dtype=bool)
        layers = list(_label_images(self.labels))
        for index, (y1, x1, y2, x2) in enumerate(self.boxes.tolist()):
            crop = layers[self.layers[index]][y1:y2, x1:x2] == self.ids[index]
            mini_masks[index] = resize_mask_probabilities(crop, shape) > 0.5
        return np.moveaxis(mini_masks, 0, -1)


def load_ground_truth(
    dataset: Dataset,
    config: Config,
    image_id: int,
    *,
    augment: bool = False,
    augmentation: Any = None,
    rng: np.random.Generator | None = None,
) -> GroundTruth:
    """Loads, resizes, crops, pads and augments an image with its instances.

    Instances of which no pixel is left are dropped.

    Args:
        dataset: Prepared data set; a `trainkit.samples.VariedSource` draws the sample itself.
        config: Uses the IMAGE_* settings.
        image_id: Index of the image in the dataset.
        augment: True mirrors half of the images left to right (deprecated: use `augmentation`).
        augmentation: imgaug augmenter. Geometric changes are applied to the instances with nearest-neighbour sampling;
            changes of colour are not.
        rng: Random generator of all choices; None seeds one from the system.

    Returns:
        The ground truth; it may hold no instance.

    Raises:
        ValueError: Image, masks or class ids of the dataset cannot be used or do not fit together, or the augmentation
            changes the size of the image; the message names the image.
    """
    rng = np.random.default_rng() if rng is None else rng
    image, loaded = draw_sample(dataset, image_id, rng)
    image = check_image(image, config.IMAGE_CHANNEL_COUNT, describe_image(dataset, image_id))
    labels, class_ids = _complete_labels(dataset, image_id, image.shape, loaded, config.NUM_CLASSES)
    original_shape = image.shape
    image, window, scale, padding, crop = resize_for_network(image, config, rng)
    labels = resize_mask(labels, scale, padding[: labels.ndim], crop)
    if augment:
        log.warning("'augment' is deprecated: use 'augmentation'.")
        if rng.random() < 0.5:
            image, labels = np.fliplr(image), np.fliplr(labels)
    if augmentation is not None:
        image, labels = _augment(augmentation, image, labels, rng, describe_image(dataset, image_id))

    meta = compose_image_meta(image_id, original_shape, image.shape, window, scale, _active_classes(dataset, image_id))
    ids, layers, boxes = _find_instances(labels, len(class_ids))
    return GroundTruth(image, meta, labels, ids, layers, class_ids[ids - 1], boxes)


def load_image_gt(
    dataset: Dataset,
    config: Config,
    image_id: int,
    augment: bool = False,
    augmentation: Any = None,
    use_mini_mask: bool = False,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Loads an image with its instances in the form of matterport's function of this name; see `load_ground_truth`.

    Args:
        dataset: Prepared data set.
        config: Uses the IMAGE_* settings and MINI_MASK_SHAPE.
        image_id: Index of the image in the dataset.
        augment: True mirrors half of the images left to right (deprecated: use `augmentation`).
        augmentation: imgaug augmenter.
        use_mini_mask: True returns masks cut to their boxes and resized to MINI_MASK_SHAPE.
        rng: Random generator of all choices; None seeds one from the system.

    Returns:
        image: `[h, w, C]`, resized, the mean colour not subtracted.
        image_meta: float32 `[12 + classes]`.
        class_ids: int32 `[N]`.
        bbox: int32 `[N, 4]`, pixels, y2 and x2 exclusive.
        mask: bool `[h, w, N]`, or `[*MINI_MASK_SHAPE, N]`.

    Raises:
        ValueError: Image, masks or class ids of the dataset cannot be used or do not fit together, or the augmentation
            changes the size of the image; the message names the image.
    """
    truth = load_ground_truth(dataset, config, image_id, augment=augment, augmentation=augmentation, rng=rng)
    masks = truth.mini_masks(config.MINI_MASK_SHAPE) if use_mini_mask else truth.masks()
    return truth.image, truth.image_meta, truth.class_ids, truth.boxes, masks


def labels_from_masks(masks: np.ndarray) -> np.ndarray:
    """Turns a stack of masks into as few label images as their overlaps allow.

    Every mask goes into the first label image in which its pixels are free.

    Args:
        masks: `[H, W, N]`; whatever is not zero belongs to the instance.

    Returns:
        int32 `[H, W]` where the masks are disjoint, else `[H, W, L]`: 0, or k + 1 for mask k.
    """
    layers = [np.zeros(masks.shape[:2], dtype=np.int32)]
    for index, (y1, x1, y2, x2) in enumerate(extract_bboxes(masks).tolist()):
        mask = masks[y1:y2, x1:x2, index] != 0
        for layer in layers:
            if not layer[y1:y2, x1:x2][mask].any():
                break
        else:
            layer = np.zeros_like(layers[0])
            layers.append(layer)
        layer[y1:y2, x1:x2][mask] = index + 1
    return layers[0] if len(layers) == 1 else np.stack(layers, axis=-1)


def _label_images(labels: np.ndarray) -> Iterator[np.ndarray]:
    """Iterates over label images `[h, w]`."""
    return iter([labels]) if labels.ndim == 2 else iter(np.moveaxis(labels, -1, 0))


def _complete_labels(
    dataset: Dataset,
    image_id: int,
    image_shape: Sequence[int],
    loaded: tuple[np.ndarray, np.ndarray] | None,
    class_count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the loaded label image or the label images of the masks, and int32 class ids, after checking both."""
    name = describe_image(dataset, image_id)
    if loaded is not None:
        labels, class_ids = check_pair(loaded, name)
        labels = check_labels(labels, image_shape, name)
        found = int(labels.max(initial=0))
    else:
        masks, class_ids = check_pair(dataset.load_mask(image_id), name)
        masks = check_masks(masks, image_shape, name)
        found = masks.shape[-1]
        labels = labels_from_masks(masks) if found else np.zeros(image_shape[:2], dtype=np.int32)
    class_ids = check_class_ids(class_ids, class_count, name)
    # Labels may be fewer, where the last instances are hidden by others: each keeps its own class.
    if found > len(class_ids) or (loaded is None and found < len(class_ids)):
        raise ValueError(
            f"{name}: every instance needs a class id. Received: {found} instances and {len(class_ids)} class ids"
        )
    return labels, class_ids


def _augment(
    augmentation: Any, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator, name: str
) -> tuple[np.ndarray, np.ndarray]:
    # imgaug takes a second to import and is needed for augmentation only.
    from trainkit.augmentation import augment_pair

    augmented, moved = augment_pair(augmentation, image, labels, seed=int(rng.integers(2**31)))
    if augmented.shape != image.shape or moved.shape != labels.shape:
        raise ValueError(
            f"{name}: the augmentation must not change the size of the image. "
            f"Received: {augmented.shape} from {image.shape}"
        )
    return augmented, moved


def _find_instances(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds ids, layers and int32 boxes of the instances 1..count that have pixels, ordered by id."""
    found = []
    for layer, label_image in enumerate(_label_images(labels)):
        for index, box in enumerate(ndimage.find_objects(label_image, max_label=count)):
            if box is not None:
                rows, columns = box
                found.append((index + 1, layer, rows.start, columns.start, rows.stop, columns.stop))
    table = np.array(sorted(found), dtype=np.int32).reshape(-1, 6)
    return table[:, 0], table[:, 1], table[:, 2:]


def _active_classes(dataset: Dataset, image_id: int) -> np.ndarray:
    """Returns one flag per class, 1 for the classes that the image's source annotates."""
    flags = np.zeros(dataset.num_classes, dtype=np.int32)
    flags[dataset.source_class_ids[dataset.image_info[image_id]["source"]]] = 1
    return flags


def describe_image(dataset: Dataset, image_id: int) -> str:
    """Returns the name of an image for an error message.

    Args:
        dataset: Prepared data set.
        image_id: Internal identifier of the image.
    """
    info = dataset.image_info[image_id]
    return f"Image {info['id']} ({info['path']})" if info.get("path") else f"Image {info['id']}"
