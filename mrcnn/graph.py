"""Graphs of Mask R-CNN for training and for detection, each readable beside figure 1 of He et al. 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from mrcnn.anchors import normalized_anchors
from mrcnn.backbones import build_backbone
from mrcnn.fpn import build_pyramid
from mrcnn.layers import NormalizedBoxes
from mrcnn.roi_heads.detections import DetectionBoxes, Detections
from mrcnn.roi_heads.heads import MaskHead, build_box_head
from mrcnn.roi_heads.targets import DetectionTargets, FirstRois
from mrcnn.rpn.head import build_rpn_model, run_rpn
from mrcnn.rpn.proposals import Anchors, build_proposals
from mrcnn.rpn.sampling import build_sampled_rpn
from mrcnn.training_model import TrainingModel
from trainkit.compiled import precision_scope
from trainkit.legacy_model import LegacyModel
from trainkit.precision import resolve_precision


@dataclass
class InferenceGraph:
    """Detection network, and the two halves that it is run in.

    Attributes:
        model: Network from image, meta and anchors to the lineage's seven outputs.
        detector: Network from the same inputs to detections `[B, D, 6]`, P2, P3, P4, P5.
        masks: Network from boxes `[B, R, 4]`, image, P2, P3, P4, P5 to mask probabilities `[B, R, *MASK_SHAPE, K]`. It
            runs only on the detections that exist.
    """

    model: keras.Model
    detector: keras.Model
    masks: keras.Model


def _build_trunk(image: Any, config: Any) -> tuple[list[Any], keras.Model]:
    """Builds backbone, pyramid [P2, …, P6] and region proposal network; returns the last two."""
    pyramid = build_pyramid(build_backbone(image, config)[1:], config.TOP_DOWN_PYRAMID_SIZE)
    rpn = build_rpn_model(
        config.RPN_ANCHOR_STRIDE, len(config.RPN_ANCHOR_RATIOS), config.TOP_DOWN_PYRAMID_SIZE, config.RPN_CHANNELS
    )
    return pyramid, rpn


def _image_shape(config: Any) -> tuple[int | None, int | None, int]:
    """Returns height, width and channels of the network's input; sizes are None where images keep their own."""
    height, width, channels = (int(side) for side in config.IMAGE_SHAPE)
    if config.IMAGE_RESIZE_MODE in ("none", "pad64"):
        return None, None, channels
    return height, width, channels


def build_training_graph(config: Any) -> TrainingModel:
    """Builds the network with its targets and losses.

    Args:
        config: Configuration; all images have its IMAGE_SHAPE.

    Returns:
        Model to `compile` with an optimizer and to `fit` on the batches of `mrcnn.data.DataGenerator`.
    """
    shape = tuple(int(side) for side in config.IMAGE_SHAPE)
    anchors = normalized_anchors(config, shape)
    inputs = _training_inputs(shape, len(anchors), config)
    image = inputs["input_image"]
    with precision_scope(resolve_precision(config.PRECISION)):
        pyramid, rpn = _build_trunk(image, config)
        rpn_logits, rpn_probabilities, rpn_deltas = run_rpn(rpn, pyramid)
        labels, sampled_logits, sampled_deltas = build_sampled_rpn(rpn, inputs["input_rpn_match"], pyramid, config)
        # P6 serves the proposals only.
        pyramid = pyramid[:4]
        if config.USE_RPN_ROIS:
            all_anchors = Anchors(anchors, name="anchors")(image)
            count = config.POST_NMS_ROIS_TRAINING
            proposals = build_proposals(rpn_probabilities, rpn_deltas, all_anchors, count, config)
        else:
            proposals = NormalizedBoxes(name="roi_boxes")([inputs["input_roi"], image])
        gt_boxes = NormalizedBoxes(name="gt_boxes")([inputs["input_gt_boxes"], image])
        targets = DetectionTargets(
            config.TRAIN_ROIS_PER_IMAGE,
            config.ROI_POSITIVE_RATIO,
            config.BBOX_STD_DEV,
            config.MASK_SHAPE,
            config.USE_MINI_MASK,
            seed=config.SEED,
            aligned=config.ROI_ALIGNED,
            name="proposal_targets",
        )
        truth = [inputs["input_gt_class_ids"], gt_boxes, inputs["input_gt_masks"]]
        rois, class_ids, deltas, masks = targets([proposals, *truth, *([image] if config.ROI_ALIGNED else [])])
        logits, probabilities, predicted_deltas = build_box_head(rois, image, pyramid, config)
        # Only the first slots can hold positives, and only positives have masks to learn.
        positive = FirstRois(targets.positive_count, name="positive_rois")(rois)
        predicted_masks = MaskHead(config)(positive, image, pyramid)
        outputs = {
            "rpn_class_logits": rpn_logits,
            "rpn_class": rpn_probabilities,
            "rpn_bbox": rpn_deltas,
            "rpn_sample": labels,
            "rpn_sample_class_logits": sampled_logits,
            "rpn_sample_bbox": sampled_deltas,
            "mrcnn_class_logits": logits,
            "mrcnn_class": probabilities,
            "mrcnn_bbox": predicted_deltas,
            "mrcnn_mask": predicted_masks,
            "rpn_rois": proposals,
            "output_rois": rois,
            "target_class_ids": class_ids,
            "target_bbox": deltas,
            "target_mask": masks,
            # Targets go through the graph: some versions of Keras refuse inputs that lead to no output.
            "target_rpn_bbox": keras.layers.Identity(name="target_rpn_bbox", dtype="float32")(inputs["input_rpn_bbox"]),
            "image_meta": keras.layers.Identity(name="image_meta", dtype="float32")(inputs["input_image_meta"]),
        }
        return TrainingModel(config, inputs, outputs)


def _training_inputs(shape: tuple[int, int, int], anchor_count: int, config: Any) -> dict[str, keras.KerasTensor]:
    """Returns the inputs of the training graph by name: image, targets of the RPN, ground truth, and given RoIs."""
    instances = config.MAX_GT_INSTANCES
    mask_size = tuple(config.MINI_MASK_SHAPE) if config.USE_MINI_MASK else shape[:2]
    inputs = {
        "input_image": keras.Input(shape, name="input_image"),
        "input_image_meta": keras.Input((config.IMAGE_META_SIZE,), name="input_image_meta"),
        "input_rpn_match": keras.Input((anchor_count, 1), name="input_rpn_match", dtype="int32"),
        "input_rpn_bbox": keras.Input((config.RPN_TRAIN_ANCHORS_PER_IMAGE, 4), name="input_rpn_bbox"),
        "input_gt_class_ids": keras.Input((instances,), name="input_gt_class_ids", dtype="int32"),
        "input_gt_boxes": keras.Input((instances, 4), name="input_gt_boxes"),
        "input_gt_masks": keras.Input((*mask_size, instances), name="input_gt_masks", dtype="bool"),
    }
    if not config.USE_RPN_ROIS:
        inputs["input_roi"] = keras.Input((config.POST_NMS_ROIS_TRAINING, 4), name="input_roi", dtype="int32")
    return inputs


def build_inference_graph(config: Any) -> InferenceGraph:
    """Builds the network that detects.

    Args:
        config: Configuration. With IMAGE_RESIZE_MODE none or pad64 the images may have any size that is a multiple of
            64.
    """
    image = keras.Input(_image_shape(config), name="input_image")
    meta = keras.Input((config.IMAGE_META_SIZE,), name="input_image_meta")
    anchors = keras.Input((None, 4), name="input_anchors")
    with precision_scope(resolve_precision(config.PRECISION)):
        pyramid, rpn = _build_trunk(image, config)
        _, rpn_probabilities, rpn_deltas = run_rpn(rpn, pyramid)
        pyramid = pyramid[:4]
        proposals = build_proposals(rpn_probabilities, rpn_deltas, anchors, config.POST_NMS_ROIS_INFERENCE, config)
        _, probabilities, deltas = build_box_head(proposals, image, pyramid, config)
        detections = Detections(
            config.DETECTION_MAX_INSTANCES,
            config.DETECTION_MIN_CONFIDENCE,
            config.DETECTION_NMS_THRESHOLD,
            config.BBOX_STD_DEV,
            name="mrcnn_detection",
        )([proposals, probabilities, deltas, meta])
        mask_head = MaskHead(config)
        boxes = DetectionBoxes(name="detection_boxes")(detections)
        masks = mask_head(boxes, image, pyramid)
        model = LegacyModel(
            [image, meta, anchors],
            [detections, probabilities, deltas, masks, proposals, rpn_probabilities, rpn_deltas],
            name="mask_rcnn",
        )
        detector = keras.Model([image, meta, anchors], [detections, *pyramid], name="mask_rcnn_detector")
        some_boxes = keras.Input((None, 4), name="input_detection_boxes")
        some_pyramid = [
            keras.Input(level.shape[1:], name=f"input_p{index}", dtype=level.dtype)
            for index, level in enumerate(pyramid, start=2)
        ]
        mask_image = keras.Input(image.shape[1:], name="input_mask_image")
        some_masks = mask_head(some_boxes, mask_image, some_pyramid)
        mask_model = keras.Model([some_boxes, mask_image, *some_pyramid], some_masks, name="mask_rcnn_masks")
    return InferenceGraph(model, detector, mask_model)
