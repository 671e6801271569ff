"""Training targets of the heads, inside the network. Boxes are normalised (y1, x1, y2, x2)."""

from __future__ import annotations

import keras
from keras import ops

from mrcnn import boxes as box_ops
from mrcnn.layers import Float32Layer, gather_rows
from mrcnn.ordering import top_k
from mrcnn.roi_align import crop_and_resize

POSITIVE_IOU = 0.5
CROWD_IOU = 0.001


@keras.saving.register_keras_serializable("mrcnn")
class DetectionTargets(Float32Layer):
    """Samples the RoIs that train the heads, with their targets (He et al. 2017, section 3.1).

    Inputs: proposals `[B, N, 4]`; ground truth, padded with zeros: class ids int32 `[B, G]` (negative for crowds),
    boxes `[B, G, 4]`, masks `[B, h, w, G]`; with `aligned` the image `[B, H, W, C]`, for its size. Outputs, with T =
    `count` and P = int(T · positive_ratio): RoIs `[B, T, 4]`, class ids int32 `[B, T]` (0 background, -1 an unused
    slot), deltas `[B, T, 4]` and masks `[B, P, *mask_shape]` for the first P slots, the only ones that hold positives.

    A proposal is positive from IoU 0.5 with a ground-truth box on. Negatives keep the ratio to the positives that
    were found; an image without positives gives T - P of them, so that empty images teach the background.

    Args:
        count: RoIs per image.
        positive_ratio: Maximum share of positives, 0 to 1.
        deviation: Four divisors of the deltas (`Config.BBOX_STD_DEV`).
        mask_shape: (height, width) of the target masks in pixels.
        mini_masks: True if the input masks are crops of their boxes, False if they have the image's size.
        seed: Seed of the random sample.
        aligned: True samples masks in the middle of each target pixel's part of the RoI, where masks are painted; False
            from the centre of the RoI's first pixel to that of its last, as the lineage does, whose masks come out
            smaller by a 28th.
    """

    def __init__(self, count, positive_ratio, deviation, mask_shape, mini_masks, seed=0, aligned=False, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.positive_ratio = positive_ratio
        self.positive_count = max(1, int(count * positive_ratio))
        self.deviation = [float(value) for value in deviation]
        self.mask_shape = tuple(int(side) for side in mask_shape)
        self.mini_masks = mini_masks
        self.seed = seed
        self.aligned = aligned
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        proposals, class_ids, boxes, masks, *image = inputs
        proposals = ops.stop_gradient(proposals)
        missing = self.count - proposals.shape[1]
        if missing > 0:
            proposals = ops.pad(proposals, ((0, 0), (0, missing), (0, 0)))
        overlaps, is_positive, is_negative = self._judge(proposals, class_ids, boxes)
        positive, is_used = self._choose(is_positive, self.positive_count)
        positive_found = ops.sum(ops.cast(is_used, "float32"), axis=1, keepdims=True)
        negative, is_spare = self._choose(is_negative, self.count - self.positive_count)
        wanted = ops.floor(positive_found / self.positive_ratio) - positive_found
        wanted = ops.where(positive_found > 0, wanted, ops.full_like(wanted, self.count))
        rank = ops.arange(self.count - self.positive_count, dtype="float32")[None]
        is_spare = ops.logical_and(is_spare, rank < wanted)

        rois = gather_rows(proposals, positive)
        match = ops.argmax(gather_rows(overlaps, positive), axis=-1)
        matched_boxes = gather_rows(boxes, match)
        matched_ids = ops.take_along_axis(ops.cast(class_ids, "int32"), ops.cast(match, "int32"), axis=1)
        unused = ops.full_like(matched_ids, -1)
        # Unused slots get harmless boxes: no logarithm of zero may reach the graph.
        whole = ops.broadcast_to(ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]), ops.shape(rois))
        safe_rois = ops.where(is_used[:, :, None], rois, whole)
        safe_boxes = ops.where(is_used[:, :, None], matched_boxes, whole)
        deltas = box_ops.encode(safe_rois, safe_boxes) / ops.convert_to_tensor(self.deviation, "float32")
        side = ops.shape(image[0])[1:3] if self.aligned else None
        target_masks = self._crop_masks(masks, match, safe_rois, safe_boxes, side)
        target_masks = target_masks * ops.cast(is_used, "float32")[:, :, None, None]

        zero = ops.zeros_like(negative)
        negative_rois = gather_rows(proposals, negative) * ops.cast(is_spare, "float32")[:, :, None]
        rois = ops.concatenate([rois * ops.cast(is_used, "float32")[:, :, None], negative_rois], axis=1)
        negative_ids = ops.where(is_spare, zero, zero - 1)
        target_ids = ops.concatenate([ops.where(is_used, matched_ids, unused), ops.cast(negative_ids, "int32")], axis=1)
        deltas = ops.pad(deltas, ((0, 0), (0, self.count - self.positive_count), (0, 0)))
        return tuple(ops.stop_gradient(t) for t in (rois, target_ids, deltas, target_masks))

    def _judge(self, proposals, class_ids, boxes):
        """Computes IoUs with objects `[B, N, G]`, and masks `[B, N]` of the positive and the negative proposals."""
        exists = ops.any(proposals != 0, axis=-1)
        overlaps = box_ops.iou_matrix(proposals, boxes)
        nothing = ops.zeros_like(overlaps)
        object_overlaps = ops.where((class_ids > 0)[:, None, :], overlaps, nothing)
        crowd_overlap = ops.max(ops.where((class_ids < 0)[:, None, :], overlaps, nothing), axis=-1)
        best = ops.max(object_overlaps, axis=-1)
        is_positive = ops.logical_and(exists, best >= POSITIVE_IOU)
        is_negative = ops.logical_and(exists, ops.logical_and(best < POSITIVE_IOU, crowd_overlap < CROWD_IOU))
        return object_overlaps, is_positive, is_negative

    def _choose(self, candidates, count):
        """Samples `count` candidates per image: indices int32 `[B, count]`, and a mask of those that are candidates."""
        lottery = keras.random.uniform(ops.shape(candidates), seed=self.seed_generator)
        lottery = ops.where(candidates, lottery, ops.full_like(lottery, -1.0))
        tickets, indices = top_k(lottery, count)
        return ops.cast(indices, "int32"), tickets >= 0

    def _crop_masks(self, masks, match, rois, boxes, image_shape):
        """Cuts the matched masks to their RoIs and resizes them: `[B, P, *mask_shape]` of zeros and ones."""
        _, height, width, instances = masks.shape
        stack = ops.reshape(ops.transpose(masks, (0, 3, 1, 2)), (-1, height, width))
        image = ops.arange(ops.shape(match)[0], dtype="int32")[:, None] * instances
        flat_match = ops.reshape(image + ops.cast(match, "int32"), (-1,))
        chosen = ops.cast(ops.take(stack, flat_match, axis=0), "float32")[..., None]
        if self.aligned:
            chosen = ops.pad(chosen, ((0, 0), (1, 1), (1, 1), (0, 0)))
            rois = self._target_pixels(rois, boxes, image_shape, (height, width))
        elif self.mini_masks:
            y1, x1, y2, x2 = box_ops.split(boxes)
            scale = ops.stack([y2 - y1, x2 - x1, y2 - y1, x2 - x1], axis=-1)
            rois = (rois - ops.stack([y1, x1, y1, x1], axis=-1)) / scale
        rois = ops.reshape(rois, (-1, 4))
        crops = crop_and_resize(chosen, rois, ops.arange(ops.shape(rois)[0], dtype="int32"), self.mask_shape)
        return ops.round(ops.reshape(crops, (-1, self.positive_count, *self.mask_shape)))

    def _target_pixels(self, rois, boxes, image_shape, mask_side):
        """Normalises the middles of the first and last target pixels in masks with one more pixel on every side."""
        image = ops.cast(ops.stack(image_shape), "float32")

        def edges(boxes):
            return boxes[..., :2] * (image - 1), boxes[..., 2:] * (image - 1) + 1

        start, end = edges(rois)
        margin = (end - start) / (2 * ops.convert_to_tensor(self.mask_shape, "float32"))
        low, high = edges(boxes) if self.mini_masks else (ops.zeros_like(start), ops.zeros_like(start) + image)
        side = ops.convert_to_tensor(mask_side, "float32")
        middles = [(edge - low) / (high - low) * side - 0.5 for edge in (start + margin, end - margin)]
        return ops.concatenate([(middle + 1) / (side + 1) for middle in middles], axis=-1)

    def compute_output_spec(self, inputs):
        batch = inputs[0].shape[0]
        return (
            keras.KerasTensor((batch, self.count, 4), "float32"),
            keras.KerasTensor((batch, self.count), "int32"),
            keras.KerasTensor((batch, self.count, 4), "float32"),
            keras.KerasTensor((batch, self.positive_count, *self.mask_shape), "float32"),
        )

    def get_config(self):
        settings = ("count", "positive_ratio", "deviation", "mask_shape", "mini_masks", "seed", "aligned")
        return {**super().get_config(), **{name: getattr(self, name) for name in settings}}


@keras.saving.register_keras_serializable("mrcnn")
class FirstRois(Float32Layer):
    """Keeps the first `count` RoIs. Input: `[B, R, 4]`. Output: `[B, count, 4]`."""

    def __init__(self, count: int, **kwargs):
        super().__init__(**kwargs)
        self.count = count

    def call(self, rois):
        return rois[:, : self.count]

    def compute_output_spec(self, rois):
        return keras.KerasTensor((rois.shape[0], self.count, 4), "float32")
