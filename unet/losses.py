"""Losses of a segmenter on probabilities: binary cross-entropy, soft Dice, their sum, and weighted cross-entropy.

A loss is a function of targets, probabilities and channel weights, entered in `unet.parts.LOSSES`. All are float32
scalars and finite everywhere: Keras clips the probabilities in the cross-entropy to 1e-7..1 - 1e-7, and the Dice loss
is smoothed. The channels' losses are averaged with one weight for each channel: weights shift the attention between
channels and keep the size of the loss, and with it the learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from trainkit.devices import joint_sum, share_of_loss
from unet.parts import LOSSES

# Pixels added to both sides of the Dice coefficient, which is then 1 where there are no nuclei and none are predicted.
_DICE_SMOOTHING = 1.0


def bce(y_true: Any, y_pred: Any, channel_weights: Sequence[float] | None = None) -> Any:
    """Binary cross-entropy, averaged over images and pixels.

    Args:
        y_true: `[B, H, W, C]`, 0 or 1.
        y_pred: `[B, H, W, C]`, probabilities.
        channel_weights: `[C]`, relative weights of the channels; by default all are alike.

    Returns:
        float32 scalar, 0 or more.
    """
    return _channel_mean(ops.mean(_cross_entropy(y_true, y_pred), axis=(0, 1, 2)), channel_weights)


def soft_dice(y_true: Any, y_pred: Any, channel_weights: Sequence[float] | None = None) -> Any:
    """One minus the Dice coefficient of targets A and probabilities B, each channel over the whole batch.

    1 - (2 sum(A B) + s) / (sum(A) + sum(B) + s), with s = 1: eq. 3 of Rocha de Andrade, "Nuclei detection based on
    fully convolutional networks", 1 - 2 |A and B| / |A or B|, where the denominator is read as the sum of both sizes;
    as a union it would put the best loss at -1. Sums over the batch rather than each image keep channels that are
    empty on most crops, such as the touching borders, from jumping between 0 and 1. Where a channel is empty in the
    whole batch the loss is 1 - s / (sum(B) + s): it falls to 0 as the predictions vanish.

    Args:
        y_true: `[B, H, W, C]`, 0 or 1.
        y_pred: `[B, H, W, C]`, probabilities.
        channel_weights: `[C]`, relative weights of the channels; by default all are alike.

    Returns:
        float32 scalar in 0..1.
    """
    y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
    overlap = ops.sum(y_true * y_pred, axis=(0, 1, 2))
    sizes = ops.sum(y_true, axis=(0, 1, 2)) + ops.sum(y_pred, axis=(0, 1, 2))
    overlap, sizes = joint_sum([overlap, sizes])
    dice = (2.0 * overlap + _DICE_SMOOTHING) / (sizes + _DICE_SMOOTHING)
    return _channel_mean(1.0 - dice, channel_weights)


def bce_dice(y_true: Any, y_pred: Any, channel_weights: Sequence[float] | None = None) -> Any:
    """Sum of `bce` and `soft_dice` (Rocha de Andrade, section 5.5).

    Args:
        y_true: `[B, H, W, C]`, 0 or 1.
        y_pred: `[B, H, W, C]`, probabilities.
        channel_weights: `[C]`, relative weights of the channels; by default all are alike.

    Returns:
        float32 scalar, 0 or more.
    """
    return bce(y_true, y_pred, channel_weights) + soft_dice(y_true, y_pred, channel_weights)


def weighted_bce(y_true: Any, y_pred: Any, channel_weights: Sequence[float] | None = None) -> Any:
    """Binary cross-entropy with a weight for every pixel (Ronneberger et al. 2015, eq. 1, for two classes).

    Args:
        y_true: `[B, H, W, C + 1]`: the targets, and the pixels' weights behind them (`unet.targets.append_weights`).
        y_pred: `[B, H, W, C]`, probabilities.
        channel_weights: `[C]`, relative weights of the channels; by default all are alike.

    Returns:
        float32 scalar, 0 or more: the mean over images and pixels of weight times cross-entropy, so that weights of 1
        give `bce`.

    Raises:
        ValueError: `y_true` does not have one channel more than `y_pred`.
    """
    channels = y_pred.shape[-1]
    if y_true.shape[-1] != channels + 1:
        raise ValueError(
            f"Targets of the weighted loss are the {channels} channels and the pixels' weights behind them. "
            f"Received: y_true of shape {tuple(y_true.shape)}, y_pred of shape {tuple(y_pred.shape)}"
        )
    weights = ops.cast(y_true[..., channels:], "float32")
    losses = _cross_entropy(y_true[..., :channels], y_pred) * weights
    return _channel_mean(ops.mean(losses, axis=(0, 1, 2)), channel_weights)


@keras.saving.register_keras_serializable(package="unet")
class SegmentationLoss(keras.losses.Loss):
    """Loss of `LOSSES` as a Keras object, for `model.compile` and saved models.

    Args:
        kind: Key of `LOSSES`.
        channel_weights: Relative weights of the channels, none negative and not all 0; None: all alike.
        name: Name in Keras's logs.

    Raises:
        ValueError: The kind is unknown, or a weight is negative, or all are 0.
    """

    def __init__(self, kind: str = "bce-dice", channel_weights: Sequence[float] | None = None, name: str | None = None):
        if kind not in LOSSES:
            raise ValueError(f"The loss must be one of {', '.join(LOSSES)}. Received: {kind!r}")
        if channel_weights is not None:
            channel_weights = tuple(float(weight) for weight in channel_weights)
            if not sum(channel_weights) > 0 or min(channel_weights) < 0:
                raise ValueError(f"Channel weights must be 0 or more, and one above 0. Received: {channel_weights}")
        super().__init__(name=name or kind.replace("-", "_"))
        self.kind = kind
        self.channel_weights = channel_weights
        self._function = LOSSES[kind]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss, a float32 scalar, of targets and probabilities, both `[B, H, W, channels]`."""
        # Keras divides losses of images among the devices, but not the loss of a batch.
        return share_of_loss(self._function(y_true, y_pred, self.channel_weights))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make the same loss."""
        return {"kind": self.kind, "channel_weights": self.channel_weights, "name": self.name}


def make_loss(config: Any) -> SegmentationLoss:
    """Returns the loss of a configuration.

    Args:
        config: Configuration with `LOSS`, a key of `LOSSES`, and `CHANNEL_WEIGHTS`.

    Returns:
        A function of y_true `[B, H, W, C]` (with "weighted-bce" `[B, H, W, C + 1]`) and y_pred `[B, H, W, C]`.

    Raises:
        ValueError: A setting is out of range.
    """
    return SegmentationLoss(config.LOSS, config.CHANNEL_WEIGHTS)


def _cross_entropy(y_true: Any, y_pred: Any) -> Any:
    return ops.binary_crossentropy(ops.cast(y_true, "float32"), ops.cast(y_pred, "float32"))


def _channel_mean(losses: Any, weights: Sequence[float] | None) -> Any:
    """Averages the losses `[C]` of the channels."""
    if weights is None:
        return ops.mean(losses)
    if len(weights) != losses.shape[0]:
        raise ValueError(f"Expected one weight for each of {losses.shape[0]} channels. Received: {tuple(weights)}")
    return ops.sum(losses * ops.convert_to_tensor(weights, dtype="float32")) / sum(weights)
