"""Padding that changes nothing: detection in an input that is larger than the image was padded to for the network.

Beyond the edge of its input a convolution sees zeros. `within_extent` puts zeros there too where the input goes on,
before every layer that looks at neighbours, so that what is found does not depend on the size of the input.
"""

from __future__ import annotations

import keras
from keras import layers, ops

from mrcnn.roi_heads.detections import ImageExtent

# Beginning of the names of the layers of box head and mask head, whose maps are RoIs.
_HEADS = "mrcnn_"


@keras.saving.register_keras_serializable("mrcnn")
class WithinExtent(keras.layers.Layer):
    """Sets a feature map to 0 at the cells beyond the extent of its image.

    Inputs: features `[B, h, w, C]` of any dtype, network's input `[B, H, W, channels]`, extent `[B, 2]`, height and
    width in pixels of the part of the input that counts, multiples of the features' stride. Output: `[B, h, w, C]`.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})

    def call(self, inputs):
        features, image, extent = inputs
        rows, columns = (self._inside(features, image, extent, axis) for axis in (1, 2))
        mask = ops.logical_and(rows[:, :, None, None], columns[:, None, :, None])
        return features * ops.cast(mask, features.dtype)

    @staticmethod
    def _inside(features, image, extent, axis):
        """Returns bool `[B, cells]` along an axis."""
        cells, pixels = (ops.shape(tensor)[axis] for tensor in (features, image))
        stride = ops.cast(pixels, "float32") / ops.cast(cells, "float32")
        return ops.cast(ops.arange(cells), "float32")[None] * stride < extent[:, axis - 1, None]

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)


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
            return layer(WithinExtent()([args[0], image, extent]), *args[1:], **kwargs)
        return layer(*args, **kwargs)

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
