"""`OnnxMaskRCNN`: detection with an exported Mask R-CNN, without Keras."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np

from mrcnn.config import Config
from mrcnn.image_meta import resize_for_network
from mrcnn.resizing import choose_scale
from mrcnn.results import Instances, unmold_detections
from trainkit.onnx_files import OnnxFileError, open_network
from trainkit.sample_checks import check_images

# Names of the exported network's inputs and outputs; see `mrcnn.exporting.StaticDetector`.
INPUTS = ("image", "window", "extent")
OUTPUTS = ("detections", "masks")
# Settings that an exported file has fixed. Another value would not change what is computed.
NETWORK_SETTINGS = (
    "BACKBONE",
    "BACKBONE_STRIDES",
    "FPN_CLASSIF_FC_LAYERS_SIZE",
    "TOP_DOWN_PYRAMID_SIZE",
    "NUM_CLASSES",
    "RPN_ANCHOR_SCALES",
    "RPN_ANCHOR_RATIOS",
    "RPN_ANCHOR_STRIDE",
    "RPN_NMS_THRESHOLD",
    "PRE_NMS_LIMIT",
    "POST_NMS_ROIS_INFERENCE",
    "IMAGE_CHANNEL_COUNT",
    "MEAN_PIXEL",
    "POOL_SIZE",
    "MASK_POOL_SIZE",
    "MASK_SHAPE",
    "RPN_BBOX_STD_DEV",
    "BBOX_STD_DEV",
    "DETECTION_MAX_INSTANCES",
    "DETECTION_MIN_CONFIDENCE",
    "DETECTION_NMS_THRESHOLD",
    "TRAIN_BN",
    "PRECISION",
    "RPN_CHANNELS",
    "MASK_CHANNELS",
    "RPN_INSIDE_ANCHORS",
    "POOL_SAMPLES",
    "ROI_ALIGNED",
    "BOX_HEAD_CHANNELS",
    "MASK_END_CHANNELS",
    "MASK_ACTIVATION",
)


def usual_enlargement(config: Config) -> float:
    """Returns the factor by which images are resized for the network, unless IMAGE_MIN_DIM enlarges them more.

    Args:
        config: Uses IMAGE_RESIZE_MODE and IMAGE_MIN_SCALE.
    """
    return max(1.0, config.IMAGE_MIN_SCALE or 1.0) if config.IMAGE_RESIZE_MODE == "pad64" else 1.0


class OnnxMaskRCNN:
    """Mask R-CNN in an ONNX file, which detects as `mrcnn.model.MaskRCNN` does, in images up to a size.

    Args:
        path: File that `mrcnn.exporting.export_onnx` wrote.
        config: Configuration of the network in it.

    Attributes:
        side: Height and width of the network's input in pixels.

    Raises:
        OnnxFileError: The file cannot be read or run, or has other inputs or outputs than the configuration's network.
    """

    def __init__(self, path: str | os.PathLike, config: Config):
        self.config = config
        self._session, inputs, outputs = open_network(path)
        image, detections, masks = inputs.get(INPUTS[0], []), outputs.get(OUTPUTS[0]), outputs.get(OUTPUTS[1], [])
        side = image[1] if len(image) == 4 else None
        wanted = (config.IMAGE_CHANNEL_COUNT, config.DETECTION_MAX_INSTANCES, config.NUM_CLASSES)
        if (
            (set(inputs), set(outputs)) != (set(INPUTS), set(OUTPUTS))
            or not isinstance(side, int)
            or image != [1, side, side, wanted[0]]
            or detections != [1, wanted[1], 6]
            or (len(masks), masks[-1]) != (5, wanted[2])
        ):
            raise OnnxFileError(
                f"{path}: no Mask R-CNN of its settings: expected {INPUTS} and {OUTPUTS} of {wanted[0]} channels, "
                f"{wanted[1]} detections and {wanted[2]} classes. Received: {inputs} and {outputs}"
            )
        self.side = side

    def enlargement(self, shape: tuple[int, int]) -> float:
        """Returns the factor of height and width by which an image is resized for the network.

        Args:
            shape: (height, width) of the image in pixels.
        """
        config = self.config
        if config.IMAGE_RESIZE_MODE == "none":
            return 1.0
        most = config.IMAGE_MAX_DIM if config.IMAGE_RESIZE_MODE == "square" else None
        return choose_scale(*shape, config.IMAGE_MIN_DIM, most, config.IMAGE_MIN_SCALE)

    def fits(self, shape: tuple[int, int]) -> bool:
        """Returns True if an image, resized for the network, is no larger than the network's input.

        Args:
            shape: (height, width) of the image in pixels.
        """
        return round(max(shape) * self.enlargement(shape)) <= self.side

    def size_for(self, shape: tuple[int, int]) -> int:
        """Returns the size to export for, as for `mrcnn.exporting.network_side`, so that an image fits.

        Args:
            shape: (height, width) of the image in pixels.
        """
        return math.ceil(max(shape) * self.enlargement(shape) / usual_enlargement(self.config))

    def detect_instances(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Finds the objects in images that fit; see `mrcnn.model.MaskRCNN.detect_instances`.

        Args:
            images: uint8 `[H, W, C]` each, RGB.

        Raises:
            ValueError: An image has no pixels or the wrong channels, or is too large.
        """
        return [self._detect(image) for image in check_images(images, self.config.IMAGE_CHANNEL_COUNT)]

    def _detect(self, image: np.ndarray) -> Instances:
        resized, window, _, _, _ = resize_for_network(image, self.config)
        height, width = resized.shape[:2]
        if max(height, width) > self.side:
            raise ValueError(
                f"An image must be at most {self.side} x {self.side} pixels after resizing, the size for which the "
                f"network was exported. Received: {height} x {width}"
            )
        # Beyond the padding that the original has too, the mean colour, which is 0 for the network.
        padded = np.empty((1, self.side, self.side, resized.shape[2]), np.float32)
        padded[:] = self.config.MEAN_PIXEL
        padded[0, :height, :width] = resized
        values = (padded, np.float32([window]), np.float32([(height, width)]))
        feeds = dict(zip(INPUTS, values, strict=True))
        detections, masks = self._session.run(list(OUTPUTS), feeds)
        threshold, aligned = self.config.DETECTION_MASK_THRESHOLD, self.config.ROI_ALIGNED
        return unmold_detections(detections[0], masks[0], image.shape, resized.shape, window, threshold, aligned)
