"""Looking inside a Mask R-CNN: its layers, its anchors, the values of any tensor, and the steps of a detection."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mrcnn.anchors import normalized_anchors, pyramid_anchors
from mrcnn.config import Config
from mrcnn.image_meta import mold_inputs
from mrcnn.results import unmold_detections
from mrcnn.tensors import compute_tensors, find_ancestor


def log(text: str, array: np.ndarray | None = None) -> None:
    """Prints a text, with shape, range and dtype of an array.

    Args:
        text: The text.
        array: The array; None for the text alone.
    """
    if array is not None:
        array = np.asarray(array)
        low, high = (array.min(), array.max()) if array.size else ("", "")
        text = f"{text:25}shape: {array.shape!s:20}  min: {low:10}  max: {high:10}  {array.dtype}"
    print(text)


class Introspection:
    """Methods of the lineage's `MaskRCNN` that look inside the network, or do one step of a detection.

    Attributes:
        config: Configuration of the network.
        keras_model: The Keras model.
        anchors: Anchors in pixels of the image shape that `get_anchors` was last called with, float64 `[A, 4]`.
    """

    config: Config
    keras_model: keras.Model
    anchors: np.ndarray

    def get_anchors(self, image_shape: Sequence[int]) -> np.ndarray:
        """Returns the normalised anchors float32 `[A, 4]` of an image shape; sets `anchors` to those in pixels."""
        self.anchors = pyramid_anchors(self.config, image_shape)
        return normalized_anchors(self.config, image_shape)

    def find_trainable_layer(self, layer: keras.Layer) -> keras.Layer:
        """Returns the layer inside a wrapper, or the layer itself if it is no wrapper."""
        return self.find_trainable_layer(layer.layer) if isinstance(layer, keras.layers.Wrapper) else layer

    def get_trainable_layers(self) -> list[keras.Layer]:
        """Returns the layers with weights; a nested model counts as one."""
        return [layer for layer in self.keras_model.layers if layer.weights]

    def ancestor(self, tensor: Any, name: str, checked: Any = None) -> Any:
        """Finds the output of a named layer among the ancestors of a tensor; see `mrcnn.tensors.find_ancestor`.

        Args:
            tensor: Symbolic tensor of `keras_model`.
            name: Name of a layer, or a tensor name of the lineage's notebooks, such as `ROI/pre_nms_anchors:0`.
            checked: Unused; part of the lineage's signature.

        Returns:
            The symbolic tensor, or None if there is no such layer.
        """
        return find_ancestor(tensor, name)

    def run_graph(
        self, images: Sequence[np.ndarray], outputs: Sequence[tuple[str, Any]], image_metas: np.ndarray | None = None
    ) -> OrderedDict[str, np.ndarray]:
        """Computes values of any tensors of the inference graph.

        Args:
            images: uint8 `[H, W, C]` images, RGB, of one size after resizing; molded ones if `image_metas` is given.
            outputs: (name, symbolic tensor) pairs.
            image_metas: float32 `[B, 12 + classes]` of molded images; None resizes and molds the images.

        Returns:
            The arrays by name.

        Raises:
            ValueError: A tensor is None.
        """
        if image_metas is None:
            molded, metas, _ = mold_inputs(images, self.config)
        else:
            molded, metas = np.asarray(images, np.float32), np.asarray(image_metas, np.float32)
        anchors = self.get_anchors(molded.shape[1:])
        anchors = np.broadcast_to(anchors, (len(molded), *anchors.shape))
        arrays = compute_tensors(self.keras_model, (molded, metas, anchors), outputs)
        for name, array in arrays.items():
            log(name, array)
        return arrays

    def unmold_detections(
        self,
        detections: np.ndarray,
        mrcnn_mask: np.ndarray,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Maps one image's detections back to the original image, for scripts with a loop of their own.

        Args:
            detections: float `[D, 6]`, output of the network: normalised box, class id, score; zeros at the end.
            mrcnn_mask: float `[D, h, w, classes]`, output of the network: mask probabilities.
            original_image_shape: `[H, W, C]` before resizing.
            image_shape: `[h, w, C]` of the network's input.
            window: (y1, x1, y2, x2) of the image inside the padding of the network's input, in pixels.

        Returns:
            (boxes int32 `[N, 4]` in pixels, class ids int32 `[N]`, scores float32 `[N]`, masks bool `[H, W, N]`).
        """
        found = unmold_detections(
            detections,
            mrcnn_mask,
            original_image_shape,
            image_shape,
            window,
            self.config.DETECTION_MASK_THRESHOLD,
            self.config.ROI_ALIGNED,
        )
        return found.boxes, found.class_ids, found.scores, found.masks()

    def mold_inputs(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Resizes images and subtracts the mean colour; see `mrcnn.image_meta.mold_inputs`."""
        return mold_inputs(images, self.config)
