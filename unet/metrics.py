"""How well channels are predicted, pixel by pixel, while a network trains."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("unet")
class ChannelIoU(keras.metrics.Metric):
    """Intersection over union of one channel, over all pixels that were seen.

    1 where the channel is neither there nor predicted.

    Args:
        channel: Its index.
        threshold: Probabilities above it count as predicted.
        name: In the logs.
    """

    def __init__(self, channel: int, threshold: float = 0.5, name: str = "iou", **kwargs):
        super().__init__(name=name, **kwargs)
        self.channel = channel
        self.threshold = threshold
        self.intersection = self.add_weight(name="intersection", initializer="zeros")
        self.union = self.add_weight(name="union", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: None = None) -> None:
        """Counts a batch.

        Args:
            y_true: `[B, H, W, C]` 0 or 1, or with more channels behind them.
            y_pred: `[B, H, W, C]` probabilities.
            sample_weight: None, which Keras passes: pixels count alike.
        """
        true = ops.convert_to_tensor(y_true)[..., self.channel] > 0
        predicted = ops.convert_to_tensor(y_pred)[..., self.channel] > self.threshold
        self.intersection.assign_add(_count(ops.logical_and(true, predicted)))
        self.union.assign_add(_count(ops.logical_or(true, predicted)))

    def result(self) -> Any:
        """Returns the quotient."""
        return ops.where(self.union > 0, self.intersection / ops.maximum(self.union, 1.0), 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns what makes the same metric again."""
        return {**super().get_config(), "channel": self.channel, "threshold": self.threshold}


def _count(mask: Any) -> Any:
    return ops.sum(ops.cast(mask, "float32"))
