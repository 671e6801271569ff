"""The IoU of a channel, counted over batches."""

import keras
import numpy as np
import pytest

from unet.metrics import ChannelIoU


@pytest.mark.backend
def test_iou_of_a_channel_over_all_batches():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, (6, 5, 7, 2)).astype(np.uint8)
    predicted = rng.random((6, 5, 7, 2)).astype(np.float32)
    metric = ChannelIoU(1, threshold=0.7)
    for first in (0, 2, 4):
        metric.update_state(true[first : first + 2], predicted[first : first + 2])
    ours, theirs = true[..., 1] == 1, predicted[..., 1] > 0.7
    assert float(metric.result()) == pytest.approx((ours & theirs).sum() / (ours | theirs).sum())
    metric.reset_state()
    metric.update_state(np.zeros((1, 2, 2, 2)), np.zeros((1, 2, 2, 2)))
    assert float(metric.result()) == 1.0, "nothing there and nothing found"


def test_weights_behind_the_channels_do_not_count():
    true = np.stack([np.eye(3), np.full((3, 3), 7.0)], axis=-1)[None]
    metric = ChannelIoU(0)
    metric.update_state(true, np.eye(3)[None, ..., None])
    assert float(metric.result()) == 1.0


def test_configuration_round_trip():
    metric = ChannelIoU(2, 0.3, name="iou_touching")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (again.channel, again.threshold, again.name) == (2, 0.3, "iou_touching")
