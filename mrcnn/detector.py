"""Runner of the inference graph in two halves: all boxes first, then masks of the detections."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from mrcnn.anchors import normalized_anchors
from mrcnn.config import Config
from mrcnn.folding import fold_batch_norm
from mrcnn.graph import InferenceGraph
from mrcnn.image_meta import mold_inputs
from mrcnn.results import Instances, detection_count, unmold_detections
from trainkit.compiled import compile_inference

# Masks are predicted for this many boxes, or twice as many, and so on, so that few graphs are compiled.
SMALLEST_MASK_BATCH = 16


class Detector:
    """Finder of objects, with a network whose weights may change between calls.

    Args:
        graph: Network from `graph.build_inference_graph`.
        config: Configuration that the network was built from.
    """

    def __init__(self, graph: InferenceGraph, config: Config):
        self.config = config
        self._find_boxes = compile_inference(fold_batch_norm(graph.detector, training=False))
        self._predict_masks = compile_inference(fold_batch_norm(graph.masks, training=False))

    def detect(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Finds objects in images, BATCH_SIZE at a time.

        Args:
            images: Any number of `[H, W, C]` images, RGB in 0..255, of any sizes.

        Returns:
            The objects of each image, in pixels of the image.
        """
        found: list[Instances] = []
        for start in range(0, len(images), self.config.BATCH_SIZE):
            batch = images[start : start + self.config.BATCH_SIZE]
            molded = [mold_inputs([image], self.config) for image in batch]
            same_size = len({image.shape for image, _, _ in molded}) == 1
            for group in [molded] if same_size else [[one] for one in molded]:
                inputs, metas, windows = (np.concatenate(parts) for parts in zip(*group, strict=True))
                shapes = [image.shape for image in images[len(found) : len(found) + len(group)]]
                found += self.detect_molded(inputs, metas, windows, shapes)
        return found

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
            metas: float32 `[B, 12 + classes]`.
            windows: (y1, x1, y2, x2) of each image inside the padding, in pixels.
            shapes: (height, width, …) of each original image in pixels.

        Returns:
            The objects of each image, in pixels of the original images.
        """
        anchors = normalized_anchors(self.config, molded.shape[1:])
        detections, *pyramid = self._find_boxes(molded, metas, np.broadcast_to(anchors, (len(molded), *anchors.shape)))
        detections = keras.ops.convert_to_numpy(detections)
        count = max(detection_count(rows) for rows in detections)
        masks = np.zeros((len(molded), 0, *self.config.MASK_SHAPE, self.config.NUM_CLASSES), np.float32)
        if count:
            boxes = detections[:, : self._mask_batch(count), :4]
            masks = keras.ops.convert_to_numpy(self._predict_masks(boxes, molded, *pyramid))
        threshold = self.config.DETECTION_MASK_THRESHOLD
        return [
            unmold_detections(detections[i], masks[i], shapes[i], molded.shape[1:], windows[i], threshold)
            for i in range(len(molded))
        ]

    def _mask_batch(self, count: int) -> int:
        size = SMALLEST_MASK_BATCH
        while size < count:
            size *= 2
        return min(size, self.config.DETECTION_MAX_INSTANCES)
