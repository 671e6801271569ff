"""`OnnxMaskRCNN`: detection with an exported Mask R-CNN, without Keras."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from mrcnn.anchors import normalized_anchors
from mrcnn.config import Config
from mrcnn.image_meta import resize_for_network
from mrcnn.results import Instances, unmold_detections
from trainkit.onnx_files import OnnxFileError, OnnxSession
from trainkit.sample_checks import check_images

# Names of the exported network's inputs and outputs; see `mrcnn.exporting.ExportedDetector`.
INPUTS = ("image", "window", "anchors")
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


class OnnxMaskRCNN:
    """Mask R-CNN in an ONNX file, which detects as `mrcnn.model.MaskRCNN` does.

    Args:
        path: File that `mrcnn.exporting.export_onnx` wrote.
        config: Configuration of the network in it.

    Attributes:
        fingerprint: Fingerprint of the weights; see `trainkit.onnx_files.OnnxSession`.

    Raises:
        OnnxFileError: The file cannot be read or run, or has other inputs or outputs than the configuration's network.
    """

    def __init__(self, path: str | os.PathLike, config: Config):
        self.config = config
        self._session = OnnxSession(path)
        self.fingerprint = self._session.fingerprint
        inputs, outputs = self._session.inputs, self._session.outputs
        image, detections, masks = inputs.get(INPUTS[0], []), outputs.get(OUTPUTS[0]), outputs.get(OUTPUTS[1], [])
        wanted = (config.IMAGE_CHANNEL_COUNT, config.DETECTION_MAX_INSTANCES, config.NUM_CLASSES)
        if (
            (tuple(inputs), tuple(outputs)) != (INPUTS, OUTPUTS)
            or len(image) != 4
            or image[3] != wanted[0]
            or detections != [1, wanted[1], 6]
            or (len(masks), masks[-1]) != (5, wanted[2])
        ):
            raise OnnxFileError(
                f"{path}: no Mask R-CNN of its settings: expected {INPUTS} and {OUTPUTS} of {wanted[0]} channels, "
                f"{wanted[1]} detections and {wanted[2]} classes. Received: {inputs} and {outputs}"
            )
        fixed = [side for side in image[1:3] if isinstance(side, int)]
        square = [int(side) for side in config.IMAGE_SHAPE[:2]] if config.IMAGE_RESIZE_MODE == "square" else []
        if fixed and fixed != square:
            raise OnnxFileError(
                f"{path}: exported for images that IMAGE_RESIZE_MODE 'square' brings to {fixed[0]} x {fixed[-1]} "
                f"pixels. Received: {config.IMAGE_RESIZE_MODE!r}, IMAGE_MAX_DIM {config.IMAGE_MAX_DIM}"
            )

    def detect_instances(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Finds the objects in images; see `mrcnn.model.MaskRCNN.detect_instances`.

        Args:
            images: uint8 `[H, W, C]` each, RGB.

        Raises:
            ValueError: An image has no pixels or the wrong channels.
        """
        return [self._detect(image) for image in check_images(images, self.config.IMAGE_CHANNEL_COUNT)]

    def _detect(self, image: np.ndarray) -> Instances:
        resized, window, _, _, _ = resize_for_network(image, self.config)
        anchors = normalized_anchors(self.config, resized.shape)
        values = (resized[None].astype(np.float32), np.float32([window]), anchors[None])
        detections, masks = self._session.run(dict(zip(INPUTS, values, strict=True)))
        threshold, aligned = self.config.DETECTION_MASK_THRESHOLD, self.config.ROI_ALIGNED
        return unmold_detections(detections[0], masks[0], image.shape, resized.shape, window, threshold, aligned)
