"""Export of Mask R-CNN's inference graph for images of one size: TensorFlow's SavedModel, and ONNX.

Everything from pixels to detections and masks is in the exported graph, both suppressions too; `mrcnn.onnx_model` does
what is left, in NumPy.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from contextlib import nullcontext

import keras
import numpy as np
from keras import ops

from mrcnn.anchors import normalized_anchors
from mrcnn.config import Config
from mrcnn.extent import within_extent
from mrcnn.folding import fold_batch_norm
from mrcnn.graph import build_inference_graph
from mrcnn.model import MaskRCNN
from mrcnn.onnx_model import INPUTS, OUTPUTS, usual_enlargement
from mrcnn.roi_align import portable_kernel
from trainkit import exporting


class StaticDetector(keras.Model):
    """Detection in one image of a fixed size.

    Inputs: image float32 `[1, H, W, C]`, RGB in 0..255; window float32 `[1, 4]`, the pixels (y1, x1, y2, x2) that are
    not padding; extent float32 `[1, 2]`, height and width in pixels to which the image would be padded if it were not
    for the fixed size, and in which boxes are normalised. Outputs: detections float32 `[1, D, 6]` as of
    `mrcnn.roi_heads.detections.Detections`; mask probabilities float32 `[1, N, *MASK_SHAPE, classes]` of the first N
    detections: those that are there, at least one.

    Args:
        model: Model in inference mode.
        shape: (height, width) of the image in pixels, multiples of 64.
        portable: True for a graph without TensorFlow's own RoIAlign.
    """

    def __init__(self, model: MaskRCNN, shape: tuple[int, int], portable: bool):
        super().__init__(name="mask_rcnn")
        config = copy.copy(model.config)
        config.PRECISION = "float32"
        graph = build_inference_graph(config)
        graph.model.set_weights(model.keras_model.get_weights())
        self._detect = fold_batch_norm(within_extent(graph.detector), training=False)
        self._mask = fold_batch_norm(graph.masks, training=False)
        self._settings, self._portable = config, portable
        self._shape = (*shape, config.IMAGE_CHANNEL_COUNT)
        self._anchors = normalized_anchors(config, self._shape)
        # Its parts are.
        self.built = True

    def call(self, inputs):
        image, window, extent = inputs
        molded = image - np.broadcast_to(np.float32(self._settings.MEAN_PIXEL), self._shape[-1:])
        # See `image_meta.compose_image_meta`; the graph reads the shape and the window.
        before, channels, after = np.zeros((1, 4)), [[self._shape[2]]], np.zeros((1, 1 + self._settings.NUM_CLASSES))
        meta = ops.concatenate([np.float32(before), extent, np.float32(channels), window, np.float32(after)], axis=1)
        with portable_kernel() if self._portable else nullcontext():
            detections, *pyramid = self._detect([molded, meta, self._anchors_in(extent)])
            count = ops.maximum(ops.sum(ops.cast(detections[0, :, 4] > 0, "int32")), 1)
            masks = self._mask([detections[:, :count, :4], molded, extent, *pyramid])
        # The sizes that are known, for readers of the file.
        return [detections, ops.reshape(masks, (1, -1, *self._settings.MASK_SHAPE, self._settings.NUM_CLASSES))]

    def _anchors_in(self, extent):
        """Normalises the anchors in an extent; see `anchors.normalized_anchors`."""
        scale = (np.float32([self._shape[:2]]) - 1) / (extent - 1)
        anchors = self._anchors[None] * ops.concatenate([scale, scale], axis=1)[:, None]
        inside = ops.all(anchors[..., :2] + anchors[..., 2:] <= 2, axis=-1, keepdims=True)
        return anchors * ops.cast(inside, "float32")

    def signature(self) -> list[keras.InputSpec]:
        """Returns the shapes of the inputs."""
        image, window, extent = INPUTS
        return [
            keras.InputSpec(shape=(1, *self._shape), dtype="float32", name=image),
            keras.InputSpec(shape=(1, 4), dtype="float32", name=window),
            keras.InputSpec(shape=(1, 2), dtype="float32", name=extent),
        ]


def network_side(config: Config, side: int) -> int:
    """Returns the side of the network's input for which images of some side are exported.

    Args:
        config: Configuration with the IMAGE_ settings.
        side: Largest side of an image in pixels, before it is resized for the network.

    Returns:
        Side in pixels, a multiple of 64; with IMAGE_RESIZE_MODE "square" that of the configuration.
    """
    if config.IMAGE_RESIZE_MODE == "square":
        return int(config.IMAGE_SHAPE[0])
    return -(-round(side * usual_enlargement(config)) // 64) * 64


def export_savedmodel(
    model: MaskRCNN, side: int, folder: str | os.PathLike, notes: Mapping[str, str] | None = None
) -> None:
    """Writes a SavedModel, whose function `serve` maps `StaticDetector`'s list of inputs to that of its outputs.

    Args:
        model: Model in inference mode.
        side: Height and width of the image in pixels, a multiple of 64.
        folder: New folder to write; appears when it is complete.
        notes: Name -> text of files in the folder's `assets.extra`.

    Raises:
        ValueError: The backend is another one than TensorFlow, or the folder exists.
        OSError: The folder cannot be written.
    """
    detector = _detector(model, side, portable=False)
    exporting.export_savedmodel(lambda: detector, detector.signature(), folder, notes)


def export_onnx(model: MaskRCNN, side: int, path: str | os.PathLike, notes: Mapping[str, str] | None = None) -> None:
    """Writes an ONNX file that `mrcnn.onnx_model.OnnxMaskRCNN` runs; see `StaticDetector` for inputs and outputs.

    Args:
        model: Model in inference mode.
        side: Height and width of the image in pixels, a multiple of 64.
        path: File to write, ending in `.onnx`.
        notes: Name -> text for the file's `metadata_props`.

    Raises:
        ValueError: The backend is another one than TensorFlow, a package of the extra "export" is missing, the name
            ends otherwise, or a part of the network has no equivalent in ONNX.
        OSError: The file cannot be written.
    """
    detector = _detector(model, side, portable=True)
    exporting.export_onnx(lambda: detector, detector.signature(), path, notes, outputs=OUTPUTS)


def _detector(model: MaskRCNN, side: int, portable: bool) -> StaticDetector:
    if model.mode != "inference":
        raise ValueError(f"A model in inference mode is exported. Received: {model.mode!r}")
    return StaticDetector(model, (side, side), portable)
