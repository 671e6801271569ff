"""Pixel-wise metrics of the channels, logged while a network trains."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from trainkit.devices import joint_sum


@keras.saving.register_keras_serializable("unet")
class ChannelIoU(keras.metrics.Metric):
    """Intersection over union (IoU) of one channel, over all pixels since the last reset.

    The IoU is 1 if the channel is empty in targets and predictions.

    Args:
        channel: Index of the channel.
        threshold: Probability, 0 to 1, above which a pixel counts as predicted.
        name: Name in the logs.
    """

    def __init__(self, channel: int, threshold: float = 0.5, name: str = "iou", **kwargs):
        super().__init__(name=name, **kwargs)
        self.channel = channel
        self.threshold = threshold
        self.intersection = self.add_weight(name="intersection", initializer="zeros")
        self.union = self.add_weight(name="union", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: None = None) -> None:
        """Adds the pixels of a batch.

        Args:
            y_true: Targets `[B, H, W, C or more]`, 0 or 1; channels behind the first C are ignored.
            y_pred: Probabilities `[B, H, W, C]`.
            sample_weight: Ignored, since all pixels count alike; Keras passes None.
        """
        true = ops.convert_to_tensor(y_true)[..., self.channel] > 0
        predicted = ops.convert_to_tensor(y_pred)[..., self.channel] > self.threshold
        counts = [_count(ops.logical_and(true, predicted)), _count(ops.logical_or(true, predicted))]
        # Of all devices: the mean of their IoUs would be another number.
        intersection, union = joint_sum(counts)
        self.intersection.assign_add(intersection)
        self.union.assign_add(union)

    def result(self) -> Any:
        """Returns the IoU, a float32 scalar in 0..1."""
        return ops.where(self.union > 0, self.intersection / ops.maximum(self.union, 1.0), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make the same metric."""
        return {**super().get_config(), "channel": self.channel, "threshold": self.threshold}


def _count(mask: Any) -> Any:
    return ops.sum(ops.cast(mask, "float32"))
