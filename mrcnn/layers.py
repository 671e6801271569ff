"""Layers that several parts of the network share. Boxes are normalised (y1, x1, y2, x2)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from trainkit.folding import stored_vectors


def gather_rows(rows: Any, indices: Any) -> Any:
    """Gathers rows of each image.

    Args:
        rows: `[B, N, ...]`.
        indices: int `[B, K]`, 0 to N - 1.

    Returns:
        `[B, K, ...]`.
    """
    extra = (None,) * (len(rows.shape) - 2)
    return ops.take_along_axis(rows, indices[(slice(None), slice(None), *extra)], axis=1)


class Float32Layer(keras.layers.Layer):
    """Layer that computes in float32 whatever the model's precision, since boxes and scores need it."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})


@keras.saving.register_keras_serializable("mrcnn")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation that can be kept at its stored statistics while everything else trains.

    Args:
        train_bn: False always uses the stored statistics (batches of one or two images are too small to measure
            them), None follows the model's training flag, True always uses the batch's statistics.
        **kwargs: Arguments of `keras.layers.BatchNormalization`.
    """

    def __init__(self, train_bn: bool | None = False, **kwargs):
        super().__init__(**kwargs)
        self.train_bn = train_bn

    def call(self, inputs, training=None, mask=None):
        if self.uses_batch(bool(training)) and self.trainable:
            return super().call(inputs, training=True, mask=mask)
        # One multiplication and one addition in the compute dtype, the vectors in float32.
        scale, shift = stored_vectors(self)
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(shift, inputs.dtype)

    def uses_batch(self, training: bool) -> bool:
        """Returns True if a trainable layer uses the batch's statistics, given the model's training flag."""
        return training if self.train_bn is None else self.train_bn

    def get_config(self):
        return {**super().get_config(), "train_bn": self.train_bn}


@keras.saving.register_keras_serializable("mrcnn")
class NormalizedBoxes(Float32Layer):
    """Normalises pixel boxes, whose y2 and x2 are exclusive, to coordinates in which they are inclusive.

    Inputs: boxes `[B, N, 4]` in pixels, image `[B, H, W, C]`. Output: `[B, N, 4]`; rows of zeros stay zero.
    """

    def call(self, inputs):
        boxes, image = inputs
        boxes = ops.cast(boxes, "float32")  # RoIs come as integers.
        height, width = (ops.cast(side, "float32") for side in ops.shape(image)[1:3])
        scale = ops.stack([height, width, height, width]) - 1.0
        normalized = (boxes - ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])) / scale
        exists = ops.any(boxes != 0, axis=-1, keepdims=True)
        return normalized * ops.cast(exists, "float32")

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[0].shape, "float32")
