"""Padding that changes nothing: detection in an input that is larger than the image was padded to for the network.

Beyond the edge of its input a convolution sees zeros. `within_extent` puts zeros there too where the input goes on,
before every layer that looks at neighbours, so that what is found does not depend on the size of the input.
RoIs at the edge read half a cell beyond it, where the pyramid repeats its last cells.
"""

from __future__ import annotations

import keras
from keras import layers, ops

from mrcnn.roi_heads.detections import ImageExtent

# Levels of the pyramid from which RoIs are pooled.
_PYRAMID = ("fpn_p2", "fpn_p3", "fpn_p4", "fpn_p5")
# Beginning of the names of the layers of box head and mask head, whose maps are RoIs.
_HEADS = "mrcnn_"


class _OfExtent(keras.layers.Layer):
    """Changes a feature map at the cells beyond the extent of its image.

    Inputs: features `[B, h, w, C]` of any dtype, network's input `[B, H, W, channels]`, extent `[B, 2]`, height and
    width in pixels of the part of the input that counts, multiples of the features' stride. Output: `[B, h, w, C]`.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)


def _from_end(features, image, extent, axis):
    """Returns float32 cells from the last one inside the extent on along an axis, `[B, h, 1, 1]` or `[B, 1, w, 1]`."""
    cells, pixels = (ops.shape(tensor)[axis] for tensor in (features, image))
    stride = ops.cast(pixels, "float32") / ops.cast(cells, "float32")
    positions = ops.cast(ops.arange(cells), "float32")[None] + 1 - extent[:, axis - 1, None] / stride
    return positions[:, :, None, None] if axis == 1 else positions[:, None, :, None]


@keras.saving.register_keras_serializable("mrcnn")
class WithinExtent(_OfExtent):
    """Sets the cells beyond the extent to 0, as a layer with padding sees them beyond the edge; see the base class."""

    def call(self, inputs):
        features = inputs[0]
        rows, columns = (_from_end(*inputs, axis) <= 0 for axis in (1, 2))
        return features * ops.cast(ops.logical_and(rows, columns), features.dtype)


@keras.saving.register_keras_serializable("mrcnn")
class RepeatedEnd(_OfExtent):
    """Repeats the extent's last row and column beyond it, as RoIAlign does beyond the edge; see the base class."""

    def call(self, inputs):
        features, *of_image = inputs
        for axis in (1, 2):
            from_end = _from_end(features, *of_image, axis)
            last, beyond = (ops.cast(each, features.dtype) for each in (from_end == 0, from_end > 0))
            end = ops.sum(features * last, axis=axis, keepdims=True)
            features = features * (1 - beyond) + end * beyond
        return features


def within_extent(detector: keras.Model) -> keras.Model:
    """Returns a detection network with the same weights, whose answers do not depend on padding beyond the extent.

    Args:
        detector: `InferenceGraph.detector`, whose inputs are image, meta and anchors; it stays as it is. Its backbone
            pads by `padding="same"` or `ZeroPadding2D`, and pools what is not negative.
    """
    image, meta, anchors = (keras.Input(batch_shape=each.shape, dtype=each.dtype) for each in detector.inputs)
    extent = ImageExtent(name="extent_of_features")(meta)

    def call(layer, *args, **kwargs):
        if _sees_neighbours(layer):
            args = (WithinExtent()([args[0], image, extent]), *args[1:])
        outputs = layer(*args, **kwargs)
        return RepeatedEnd()([outputs, image, extent]) if layer.name in _PYRAMID else outputs

    inputs = [image, meta, anchors]
    return keras.models.clone_model(detector, inputs, clone_function=lambda layer: layer, call_function=call)


def _sees_neighbours(layer: keras.layers.Layer) -> bool:
    if layer.name.startswith(_HEADS):
        return False
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        return layer.padding == "same" and max(layer.kernel_size) > 1
    if isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
        return layer.padding == "same" and max(layer.pool_size) > 1
    # The head of the region proposal network is a model, which every level of the pyramid goes through.
    return isinstance(layer, layers.ZeroPadding2D | keras.Model)
