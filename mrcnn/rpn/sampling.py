"""Evaluation of the RPN at the sampled anchors only, for training.

The loss uses `RPN_TRAIN_ANCHORS_PER_IMAGE` anchors per image (Ren et al. 2015, section 3.1.3), for instance 64 of
65,472 at 512 x 512. The gradient at all others is zero, so it suffices to differentiate the network on the
neighbourhoods of these few: the same gradient for a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mrcnn.layers import gather_rows

# The shared convolution is 3x3.
KERNEL = 3
# The convolution of a neighbourhood, padded "same", has this many cells a side; the middle one is wanted.
CELLS = 3


@keras.saving.register_keras_serializable("mrcnn")
class SampledAnchors(keras.layers.Layer):
    """Indices of the labelled anchors, in ascending order.

    Input: int32 `[B, A, 1]`, 1 object, -1 background, 0 neutral; at most `count` per image are not neutral. Outputs:
    indices int32 `[B, K]` and labels int32 `[B, K, 1]`, K = min(count, A), neutral anchors at the end.

    Args:
        count: Maximum number of labelled anchors per image.
    """

    def __init__(self, count: int, **kwargs):
        super().__init__(**kwargs)
        self.count = count

    def call(self, match):
        anchors = match.shape[1]
        # The earlier an anchor, the higher it ranks.
        rank = ops.where(match[..., 0] != 0, anchors - ops.arange(anchors, dtype="int32")[None], 0)
        indices = ops.cast(ops.top_k(rank, min(self.count, anchors))[1], "int32")
        return indices, gather_rows(match, indices)

    def compute_output_spec(self, match):
        batch, anchors, _ = match.shape
        count = min(self.count, anchors)
        return keras.KerasTensor((batch, count), "int32"), keras.KerasTensor((batch, count, 1), match.dtype)


@keras.saving.register_keras_serializable("mrcnn")
class AnchorNeighbourhoods(keras.layers.Layer):
    """Crops of the pyramid around each anchor, as wide as the RPN's receptive field.

    Inputs: anchor indices int32 `[B, K]`, then the pyramid's levels, each `[B, H, W, C]`. Output: `[B·K, s, s, C]`
    with s = 2 · stride + 1; the middle 3x3 cells are those that the shared convolution reads for the anchor, zero
    outside the map.

    Args:
        stride: Cells between neighbouring anchors (`Config.RPN_ANCHOR_STRIDE`).
        anchors_per_cell: Number of anchors at each cell, one per ratio.
    """

    def __init__(self, stride: int, anchors_per_cell: int, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride
        self.anchors_per_cell = anchors_per_cell
        self.side = 2 * stride + 1

    def call(self, inputs):
        indices, *pyramid = inputs
        patches, start = None, 0
        for features in pyramid:
            rows, columns = (-(-side // self.stride) for side in features.shape[1:3])
            count = rows * columns * self.anchors_per_cell
            patch = self._cut(features, indices - start, count, columns)
            patches = patch if patches is None else patches + patch
            start += count
        return ops.reshape(patches, (-1, self.side, self.side, pyramid[0].shape[-1]))

    def _cut(self, features, indices, count, columns):
        """Crops neighbourhoods `[B, K · s · s, C]` of the anchors 0 to `count` - 1 of a level, zeros for all others."""
        here = ops.logical_and(indices >= 0, indices < count)
        cell = ops.clip(indices, 0, count - 1) // self.anchors_per_cell
        height, width, channels = features.shape[1:]
        y, y_inside = self._reach(cell // columns, height)
        x, x_inside = self._reach(cell % columns, width)
        flat = ops.reshape(y[:, :, :, None] * width + x[:, :, None, :], (-1, indices.shape[1] * self.side**2))
        inside = ops.logical_and(y_inside[:, :, :, None], x_inside[:, :, None, :])
        inside = ops.reshape(ops.logical_and(inside, here[:, :, None, None]), ops.shape(flat))
        taken = gather_rows(ops.reshape(features, (-1, height * width, channels)), flat)
        return taken * ops.cast(inside, taken.dtype)[..., None]

    def _reach(self, cell, length):
        """Returns positions int32 `[B, K, s]` around cells on one axis, clipped to the map, and a validity mask."""
        cells = -(-length // self.stride)
        padding = max((cells - 1) * self.stride + KERNEL - length, 0) // 2
        first = cell * self.stride - padding - (self.side - KERNEL) // 2
        position = first[:, :, None] + ops.arange(self.side, dtype="int32")
        inside = ops.logical_and(position >= 0, position < length)
        return ops.clip(position, 0, length - 1), inside

    def compute_output_spec(self, inputs):
        indices, features = inputs[:2]
        batch, count = indices.shape
        rois = None if batch is None else batch * count
        return keras.KerasTensor((rois, self.side, self.side, features.shape[-1]), features.dtype)


@keras.saving.register_keras_serializable("mrcnn")
class AnchorOutputs(keras.layers.Layer):
    """Outputs of the RPN for each anchor, picked from the outputs for its neighbourhood.

    Inputs: outputs `[B·K, 3 · 3 · R, C]`, anchor indices int32 `[B, K]`. Output: `[B, K, C]`.

    Args:
        anchors_per_cell: Number R of anchors at each cell, one per ratio.
    """

    def __init__(self, anchors_per_cell: int, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.anchors_per_cell = anchors_per_cell

    def call(self, inputs):
        outputs, indices = inputs
        middle = CELLS * CELLS // 2 * self.anchors_per_cell
        outputs = outputs[:, middle : middle + self.anchors_per_cell]
        outputs = ops.reshape(outputs, (-1, indices.shape[1], self.anchors_per_cell, outputs.shape[-1]))
        # Every level begins with a whole cell, so the remainder is the ratio on all of them.
        ratio = (indices % self.anchors_per_cell)[:, :, None, None]
        return ops.take_along_axis(outputs, ratio, axis=2)[:, :, 0]

    def compute_output_spec(self, inputs):
        outputs, indices = inputs
        return keras.KerasTensor((*indices.shape, outputs.shape[-1]), "float32")


def build_sampled_rpn(rpn: keras.Model, match: Any, pyramid: Sequence[Any], config: Any) -> tuple[Any, Any, Any]:
    """Runs the RPN at the labelled anchors only.

    Args:
        rpn: Network from `head.build_rpn_model`.
        match: int32 `[B, A, 1]`: 1 object, -1 background, 0 neutral.
        pyramid: [P2, …, P6].
        config: Uses RPN_ANCHOR_RATIOS, RPN_ANCHOR_STRIDE and RPN_TRAIN_ANCHORS_PER_IMAGE.

    Returns:
        Labels int32 `[B, K, 1]`, class logits `[B, K, 2]` and deltas `[B, K, 4]` of the labelled anchors in their
        order; neutral anchors fill up K = RPN_TRAIN_ANCHORS_PER_IMAGE.
    """
    ratios = len(config.RPN_ANCHOR_RATIOS)
    indices, labels = SampledAnchors(config.RPN_TRAIN_ANCHORS_PER_IMAGE, name="rpn_sample")(match)
    patches = AnchorNeighbourhoods(config.RPN_ANCHOR_STRIDE, ratios, name="rpn_sample_neighbourhoods")(
        [indices, *pyramid]
    )
    logits, _, deltas = rpn(patches)
    logits = AnchorOutputs(ratios, name="rpn_sample_class_logits")([logits, indices])
    return labels, logits, AnchorOutputs(ratios, name="rpn_sample_bbox")([deltas, indices])
