"""The RPN at the anchors that train it.

Its loss looks at `RPN_TRAIN_ANCHORS_PER_IMAGE` anchors an image (Ren et al. 2015, section 3.1.3), 64 of 65,472 at
512 x 512. The gradient of all others is zero, so it suffices to differentiate the network on the neighbourhoods of
these few: the same gradient for a fraction of the work.
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
    """Finds the anchors with a label, in their order.

    Input: int32 `[B, A, 1]`, 1 object, -1 background, 0 neutral; at most `count` an image are not neutral. Outputs:
    indices int32 `[B, K]` and labels int32 `[B, K, 1]`, K = min(count, A), neutral anchors at the end.

    Args:
        count: Labelled anchors an image at most.
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

    def get_config(self):
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable("mrcnn")
class AnchorNeighbourhoods(keras.layers.Layer):
    """Cuts out what the RPN sees of each anchor.

    Inputs: anchor indices int32 `[B, K]`, then the pyramid's levels, each `[B, H, W, C]`. Output: `[B·K, s, s, C]`
    with s = 2 · stride + 1; the middle 3x3 cells are those that the shared convolution reads for the anchor, zero
    outside the map.

    Args:
        stride: `Config.RPN_ANCHOR_STRIDE`.
        anchors_per_cell: One a ratio.
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
        """Neighbourhoods `[B, K · s · s, C]` of the anchors 0 to `count` - 1 of one level, zeros for all others."""
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
        """Positions int32 `[B, K, s]` around a cell along one axis, clipped to the map, and which were inside."""
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

    def get_config(self):
        return {**super().get_config(), "stride": self.stride, "anchors_per_cell": self.anchors_per_cell}


@keras.saving.register_keras_serializable("mrcnn")
class AnchorAnswers(keras.layers.Layer):
    """Picks each anchor's answer from the RPN's answers to its neighbourhood.

    Inputs: answers `[B·K, 3 · 3 · R, C]`, anchor indices int32 `[B, K]`. Output: `[B, K, C]`.

    Args:
        anchors_per_cell: R, one a ratio.
    """

    def __init__(self, anchors_per_cell: int, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.anchors_per_cell = anchors_per_cell

    def call(self, inputs):
        answers, indices = inputs
        middle = CELLS * CELLS // 2 * self.anchors_per_cell
        answers = answers[:, middle : middle + self.anchors_per_cell]
        answers = ops.reshape(answers, (-1, indices.shape[1], self.anchors_per_cell, answers.shape[-1]))
        # Every level begins with a whole cell, so the remainder is the ratio on all of them.
        ratio = (indices % self.anchors_per_cell)[:, :, None, None]
        return ops.take_along_axis(answers, ratio, axis=2)[:, :, 0]

    def compute_output_spec(self, inputs):
        answers, indices = inputs
        return keras.KerasTensor((*indices.shape, answers.shape[-1]), "float32")

    def get_config(self):
        return {**super().get_config(), "anchors_per_cell": self.anchors_per_cell}


def build_sampled_rpn(rpn: keras.Model, match: Any, pyramid: Sequence[Any], config: Any) -> tuple[Any, Any, Any]:
    """Runs the RPN on the labelled anchors only.

    Args:
        rpn: The model of `head.build_rpn_model`.
        match: int32 `[B, A, 1]`: 1 object, -1 background, 0 neutral.
        pyramid: [P2, …, P6].
        config: The configuration.

    Returns:
        Labels int32 `[B, K, 1]`, class logits `[B, K, 2]` and deltas `[B, K, 4]` of the labelled anchors in their
        order; what is left of K = RPN_TRAIN_ANCHORS_PER_IMAGE are neutral anchors.
    """
    ratios = len(config.RPN_ANCHOR_RATIOS)
    indices, labels = SampledAnchors(config.RPN_TRAIN_ANCHORS_PER_IMAGE, name="rpn_sample")(match)
    patches = AnchorNeighbourhoods(config.RPN_ANCHOR_STRIDE, ratios, name="rpn_sample_neighbourhoods")(
        [indices, *pyramid]
    )
    logits, _, deltas = rpn(patches)
    logits = AnchorAnswers(ratios, name="rpn_sample_class_logits")([logits, indices])
    return labels, logits, AnchorAnswers(ratios, name="rpn_sample_bbox")([deltas, indices])
