"""Export of Mask R-CNN's inference graph, for images of any size: TensorFlow's SavedModel, and ONNX.

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

from mrcnn.folding import fold_batch_norm
from mrcnn.graph import build_inference_graph
from mrcnn.model import MaskRCNN
from mrcnn.onnx_model import INPUTS, OUTPUTS
from mrcnn.roi_align import portable_kernel
from trainkit import exporting

# Names of the open dimensions in an ONNX file; height and width are multiples of 64.
_DIMENSIONS = {
    INPUTS[0]: (None, "height", "width"),
    INPUTS[2]: (None, "anchors"),
    OUTPUTS[1]: (None, "found"),
}


class ExportedDetector(keras.Model):
    """Detection in one image.

    Inputs: image float32 `[1, H, W, C]`, RGB in 0..255, resized and padded for the network; window float32 `[1, 4]`,
    the pixels (y1, x1, y2, x2) that are not padding; anchors float32 `[1, A, 4]`, `anchors.normalized_anchors` of an
    image of this size. Outputs: detections float32 `[1, D, 6]` as of `mrcnn.roi_heads.detections.Detections`; mask
    probabilities float32 `[1, N, *MASK_SHAPE, classes]` of the first N detections: those that are there, at least one.

    Args:
        model: Model in inference mode.
        portable: True for a graph without TensorFlow's own RoIAlign, whose batch norm is not folded, as ONNX Runtime
            does that itself.
    """

    def __init__(self, model: MaskRCNN, portable: bool):
        super().__init__(name="mask_rcnn")
        config = copy.copy(model.config)
        config.PRECISION = "float32"
        graph = build_inference_graph(config)
        graph.model.set_weights(model.keras_model.get_weights())
        parts = (graph.detector, graph.masks)
        self._detect, self._mask = parts if portable else (fold_batch_norm(part, training=False) for part in parts)
        self._settings, self._portable = config, portable
        # Its parts are.
        self.built = True

    def call(self, inputs):
        image, window, anchors = inputs
        settings = self._settings
        molded = image - np.float32(settings.MEAN_PIXEL)
        extent = ops.cast(ops.stack([ops.shape(image)[1:3]]), "float32")
        # See `image_meta.compose_image_meta`; the graph reads the shape and the window.
        before, after = np.zeros((1, 4), np.float32), np.zeros((1, 1 + settings.NUM_CLASSES), np.float32)
        channels = np.float32([[settings.IMAGE_CHANNEL_COUNT]])
        meta = ops.concatenate([before, extent, channels, window, after], axis=1)
        with portable_kernel() if self._portable else nullcontext():
            detections, *pyramid = self._detect([molded, meta, anchors])
            count = ops.maximum(ops.sum(ops.cast(detections[0, :, 4] > 0, "int32")), 1)
            masks = self._mask([detections[:, :count, :4], molded, extent, *pyramid])
        # The sizes that are known, for readers of the file.
        return [detections, ops.reshape(masks, (1, -1, *settings.MASK_SHAPE, settings.NUM_CLASSES))]

    def signature(self) -> list[keras.InputSpec]:
        """Returns the shapes of the inputs; height and width are open unless IMAGE_RESIZE_MODE fixes them."""
        image, window, anchors = INPUTS
        return [
            keras.InputSpec(shape=(1, *self._detect.inputs[0].shape[1:]), dtype="float32", name=image),
            keras.InputSpec(shape=(1, 4), dtype="float32", name=window),
            keras.InputSpec(shape=(1, None, 4), dtype="float32", name=anchors),
        ]


def export_savedmodel(model: MaskRCNN, folder: str | os.PathLike, notes: Mapping[str, str] | None = None) -> None:
    """Writes a SavedModel, whose function `serve` maps `ExportedDetector`'s list of inputs to that of its outputs.

    Args:
        model: Model in inference mode.
        folder: New folder to write; appears when it is complete.
        notes: Name -> text of files in the folder's `assets.extra`.

    Raises:
        ValueError: The backend is another one than TensorFlow, or the folder exists.
        OSError: The folder cannot be written.
    """
    detector = _detector(model, portable=False)
    exporting.export_savedmodel(lambda: detector, detector.signature(), folder, notes)


def export_onnx(
    model: MaskRCNN,
    path: str | os.PathLike,
    notes: Mapping[str, str] | None = None,
    tags: Mapping[int, str] | None = None,
) -> None:
    """Writes an ONNX file that `mrcnn.onnx_model.OnnxMaskRCNN` runs; see `ExportedDetector` for inputs and outputs.

    Args:
        model: Model in inference mode.
        path: File to write, ending in `.onnx`.
        notes: Name -> text for the file's `metadata_props`.
        tags: For a file of the graph alone; see `trainkit.exporting.export_onnx`.

    Raises:
        ValueError: The backend is another one than TensorFlow, a package of the extra "export" is missing, the name
            ends otherwise, or a part of the network has no equivalent in ONNX.
        OSError: The file cannot be written.
    """
    detector = _detector(model, portable=True)
    exporting.export_onnx(
        lambda: detector, detector.signature(), path, notes, outputs=OUTPUTS, dimensions=_DIMENSIONS, tags=tags
    )


def _detector(model: MaskRCNN, portable: bool) -> ExportedDetector:
    if model.mode != "inference":
        raise ValueError(f"A model in inference mode is exported. Received: {model.mode!r}")
    return ExportedDetector(model, portable)
