"""Runner of the inference graph in two halves: all boxes first, then masks of the detections."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from mrcnn.anchors import normalized_anchors
from mrcnn.compiled import compile_inference
from mrcnn.config import Config
from mrcnn.extent import within_extent
from mrcnn.graph import InferenceGraph
from mrcnn.image_meta import image_extents, mold_inputs
from mrcnn.results import Instances, detection_count, unmold_detections
from trainkit.compiled import inference_shapes
from trainkit.shapes import MANY

# Masks are predicted for this many boxes, or twice as many, and so on, so that few graphs are compiled.
SMALLEST_MASK_BATCH = 16
# Where every shape is compiled: masks are predicted for this many boxes, and again for as many.
MASK_BATCH = 64


class Detector:
    """Finder of objects, with a network whose weights may change between calls.

    Args:
        graph: Network from `graph.build_inference_graph`.
        config: Configuration that the network was built from.
    """

    def __init__(self, graph: InferenceGraph, config: Config):
        self.config = config
        self._shapes = inference_shapes()
        # "square" pads all images to one size anyway, and "none" takes them as they are.
        self._pads = self._shapes != MANY and config.IMAGE_RESIZE_MODE == "pad64"
        detector = within_extent(graph.detector) if self._pads else graph.detector
        self._find_boxes = compile_inference(detector, fold=True)
        self._predict_masks = compile_inference(graph.masks, fold=True)

    def detect(self, images: Sequence[np.ndarray], batch_size: int | None = None) -> list[Instances]:
        """Finds objects in images; those of one size after resizing go through the network together.

        Args:
            images: Any number of `[H, W, C]` images, RGB in 0..255, of any sizes.
            batch_size: Largest number of images in a batch; by default BATCH_SIZE. A rest is divided so that a size is
                compiled for few batches.

        Returns:
            The objects of each image, in pixels of the image.
        """
        limit = 1 if self._shapes.single else batch_size or self.config.BATCH_SIZE
        found: dict[int, Instances] = {}
        waiting: dict[tuple[int, ...], list[tuple[int, tuple[np.ndarray, ...]]]] = {}
        for index, image in enumerate(images):
            molded = self._mold(image)
            group = waiting.setdefault(molded[0].shape, [])
            group.append((index, molded))
            if len(group) == limit:
                found.update(self._detect_batch(waiting.pop(molded[0].shape), images))
        for group in waiting.values():
            for size in self._shapes.batches(len(group), limit):
                batch, group = group[:size], group[size:]
                found.update(self._detect_batch(batch, images))
        return [found[index] for index in range(len(images))]

    def _mold(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns the network's inputs for an image, padded to one of few shapes where each is compiled."""
        return mold_inputs([image], self.config, self._shapes if self._pads else None)

    def _detect_batch(
        self, batch: Sequence[tuple[int, tuple[np.ndarray, ...]]], images: Sequence[np.ndarray]
    ) -> dict[int, Instances]:
        """Finds objects in molded images of one size, given with their indices; returns them by index."""
        indices = [index for index, _ in batch]
        inputs, metas, windows = (np.concatenate(parts) for parts in zip(*(molded for _, molded in batch), strict=True))
        found = self.detect_molded(inputs, metas, windows, [images[index].shape for index in indices])
        return dict(zip(indices, found, strict=True))

    def detect_molded(
        self,
        molded: np.ndarray,
        metas: np.ndarray,
        windows: Sequence[Sequence[int]],
        shapes: Sequence[tuple[int, ...]],
    ) -> list[Instances]:
        """Finds objects in molded images, see `image_meta.mold_inputs`.

        Args:
            molded: float32 `[B, h, w, C]`, the mean colour subtracted.
            metas: float32 `[B, 12 + classes]`. Their shapes may be smaller than the images', which are padding beyond.
            windows: (y1, x1, y2, x2) of each image inside the padding, in pixels.
            shapes: (height, width, …) of each original image in pixels.

        Returns:
            The objects of each image, in pixels of the original images.
        """
        extents = image_extents(metas)
        anchors = [normalized_anchors(self.config, molded.shape[1:], extent) for extent in extents]
        # Without a copy of the many anchors of a large image.
        anchors = np.stack(anchors) if len(anchors) > 1 else anchors[0][None]
        detections, *pyramid = self._find_boxes(molded, metas, anchors)
        detections = keras.ops.convert_to_numpy(detections)
        count = max(detection_count(rows) for rows in detections)
        masks = np.zeros((len(molded), 0, *self.config.MASK_SHAPE, self.config.NUM_CLASSES), np.float32)
        if count:
            masks = np.concatenate(
                [
                    keras.ops.convert_to_numpy(self._predict_masks(boxes, molded, extents.astype(np.float32), *pyramid))
                    for boxes in self._mask_batches(detections[:, :, :4], count)
                ],
                axis=1,
            )
        threshold, aligned = self.config.DETECTION_MASK_THRESHOLD, self.config.ROI_ALIGNED
        return [
            unmold_detections(detections[i], masks[i], shapes[i], extents[i], windows[i], threshold, aligned)
            for i in range(len(molded))
        ]

    def _mask_batches(self, boxes: np.ndarray, count: int) -> list[np.ndarray]:
        """Divides the first boxes of `[B, D, 4]`, `count` at least, into arrays of few different shapes."""
        if self._shapes == MANY:
            size = SMALLEST_MASK_BATCH
            while size < count:
                size *= 2
            return [boxes[:, :size]]
        size = min(MASK_BATCH, boxes.shape[1])
        boxes = np.pad(boxes, ((0, 0), (0, -boxes.shape[1] % size), (0, 0)))
        return [boxes[:, start : start + size] for start in range(0, count, size)]
