"""Presets of Mask R-CNN: networks and trainings of this project, of the lineage and of publications."""

from __future__ import annotations

from typing import Any

from mrcnn.config import Config
from trainkit.presets import Preset

_MLP_SOURCE = "Mask R-CNN for nuclei, MLP coursework 4 G1, 2018"
_LEHMANN_SOURCE = (
    "Semantic segmentation of cells from clinical images using deep learning, Lehmann, Agarwal, Lund, DTU, 2020"
)
_ZHANG_SOURCE = "Instance Segmentation of Nucleus Images, Zhang, Wei, Yue, 2018"


# Pyramid and heads that a CPU trains within hours, and as many proposals as 256 x 256 windows need.
_LIGHT = {
    "TOP_DOWN_PYRAMID_SIZE": 96,
    "RPN_CHANNELS": 128,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 256,
    "MASK_CHANNELS": 64,
    "TRAIN_BN": None,
    "IMAGE_MIN_DIM": 256,
    "IMAGE_MAX_DIM": 256,
    "IMAGES_PER_GPU": 8,
    "STEPS_PER_EPOCH": 100,
    "VALIDATION_STEPS": 3,
    "PRE_NMS_LIMIT": 2000,
    "POST_NMS_ROIS_TRAINING": 400,
    "POST_NMS_ROIS_INFERENCE": 1000,
    "TRAIN_ROIS_PER_IMAGE": 64,
    "MAX_GT_INSTANCES": 100,
}
_LIGHT_INFERENCE = {"PRE_NMS_LIMIT": 4000, "DETECTION_MIN_CONFIDENCE": 0.5}


def _mlp(side: int, nms: float, smallest_anchor: int) -> Preset:
    """A row of the MLP report's table 2: ResNet-101 from COCO weights, CLAHE, square images.

    The report does not say which of the two suppressions its NMS threshold belongs to; both are set here, since
    only both together let the boxes of overlapping nuclei through. It kept more RoIs, detections and masks than
    usual without giving numbers: those below are ours (DSB2018 has up to 375 nuclei in an image). RoIAlign takes four
    points a cell, as section 2.3 says; the code that the report adapted takes one.
    """
    anchors = tuple(smallest_anchor * 2**level for level in range(5))
    return Preset(
        summary=f"ResNet-101, CLAHE, {side} x {side}, NMS {nms}, anchors {anchors[0]} to {anchors[-1]}",
        source=_MLP_SOURCE,
        settings={
            "BACKBONE": "resnet101",
            "CLAHE": True,
            "AUGMENTATION": "flips-rotations",
            "IMAGE_RESIZE_MODE": "square",
            "IMAGE_MIN_DIM": side,
            "IMAGE_MAX_DIM": side,
            "IMAGE_MIN_SCALE": 0,
            "IMAGES_PER_GPU": 2,
            "STEPS_PER_EPOCH": 316,
            "VALIDATION_STEPS": 12,
            "MEAN_PIXEL": Config.MEAN_PIXEL,
            "RPN_ANCHOR_SCALES": anchors,
            "RPN_NMS_THRESHOLD": nms,
            "DETECTION_NMS_THRESHOLD": nms,
            "RPN_TRAIN_ANCHORS_PER_IMAGE": 256,
            "POST_NMS_ROIS_TRAINING": 2000,
            "TRAIN_ROIS_PER_IMAGE": 256,
            "POOL_SAMPLES": 2,
            "MAX_GT_INSTANCES": 400,
            "DETECTION_MAX_INSTANCES": 400,
        },
    )


def _zhang(rpn_anchors: int = 256, rois: int = 200, nms: float = 0.7) -> Preset:
    """Sections 3.1 and 3.4 of Zhang, Wei and Yue: two stages from COCO weights.

    Section 3.4.1 has 100 masks an image, and table 2 the heads: a 3 x 3 convolution before the box head's two fully
    connected layers, and at the end of the mask head a 3 x 3 convolution to 80 channels and a softmax over nucleus and
    background. Sections 3.4.2 and 3.4.3 give the stages (heads, then C4 and C5 with the heads; 100 steps an epoch), the
    evaluations (every 10 epochs from the 5th), heads that begin untrained, SGD at 0.001, flips and brightness. Anchors
    beyond the image are removed (section 3.4.4). Figures 8 and 9 vary the anchors that train the RPN, the RoIs that
    train the heads (chosen by the share of positives, so in training) and the threshold of the RPN's suppression, from
    the base (256, 0.7, 200). Other numbers are the defaults of the code that the report modified: 2000 proposals in
    training and 1000 in detection, 100 true nuclei, batches of two. The lower threshold of 0.5 is ours: the text says
    that lower is better, the figure's values are not in it.
    """
    return Preset(
        summary=f"ResNet-101, 512 x 512, {rpn_anchors} RPN anchors, {rois} RoIs, RPN NMS {nms}, heads then C4/C5",
        source=_ZHANG_SOURCE,
        settings={
            "BACKBONE": "resnet101",
            "AUGMENTATION": "flips-brightness",
            "OVERLAP_RULE": "largest",
            "IMAGE_RESIZE_MODE": "square",
            "IMAGE_MIN_DIM": 512,
            "IMAGE_MAX_DIM": 512,
            "IMAGE_MIN_SCALE": 0,
            "IMAGES_PER_GPU": 2,
            "STEPS_PER_EPOCH": 100,
            "VALIDATION_STEPS": 12,
            "MEAN_PIXEL": Config.MEAN_PIXEL,
            "RPN_ANCHOR_SCALES": (32, 64, 128, 256, 512),
            "RPN_NMS_THRESHOLD": nms,
            "RPN_TRAIN_ANCHORS_PER_IMAGE": rpn_anchors,
            "RPN_INSIDE_ANCHORS": True,
            "POST_NMS_ROIS_TRAINING": Config.POST_NMS_ROIS_TRAINING,
            "POST_NMS_ROIS_INFERENCE": Config.POST_NMS_ROIS_INFERENCE,
            "TRAIN_ROIS_PER_IMAGE": rois,
            "ROI_POSITIVE_RATIO": 0.33,
            "MAX_GT_INSTANCES": Config.MAX_GT_INSTANCES,
            "BOX_HEAD_CHANNELS": 256,
            "MASK_END_CHANNELS": 80,
            "MASK_ACTIVATION": "softmax",
            "COCO_HEADS": False,
            "DETECTION_NMS_THRESHOLD": 0.3,
            "DETECTION_MIN_CONFIDENCE": 0.7,
            "DETECTION_MAX_INSTANCES": 100,
            "LEARNING_RATE": 0.001,
            "STAGES": (("heads", 100, 0.001), ("4+", 50, 0.001)),
            "EVALUATE_EVERY": 10,
            "EVALUATE_FROM": 5,
        },
    )


def _glas() -> Preset:
    """Section 6 of Lehmann, Agarwal and Lund: ResNet-50-FPN for the glands of the GlaS challenge.

    Given are SGD with momentum at 0.005, an L2 of 0.0005, batches of two, 500 epochs, 256 channels in the mask head,
    and heads that begin untrained. The L2 is PyTorch's weight decay, which adds it times a weight to the weight's
    gradient: half of it is the factor of the sum of squares.
    The other values began as those of PyTorch's tutorial on Mask R-CNN (its reference 18): anchors, proposals, RoIs,
    the four points a cell of RoIAlign and detections are torchvision's defaults, as are the layers up to C2 that stay
    frozen. An epoch is the 85 training images. Like torchvision, the preset scales the short side of an image to 800
    pixels (section 3 leaves sizes to the framework): the longest image of the challenge, 775 x 522, then fits into the
    square of 1216. The confidence of 0.5 is ours. The RPN has 512 channels and three anchors a cell, which the public
    COCO weights are of: section 6.2 says 256, and nine by default, but also that the RPN is pretrained.
    """
    return Preset(
        summary="ResNet-50, 1216 x 1216, anchors 32 to 512, for glands",
        source=_LEHMANN_SOURCE,
        settings={
            "BACKBONE": "resnet50",
            "AUGMENTATION": "flips-crops",
            "IMAGE_RESIZE_MODE": "square",
            "IMAGE_MIN_DIM": 800,
            "IMAGE_MAX_DIM": 1216,
            "IMAGE_MIN_SCALE": 0,
            "IMAGES_PER_GPU": 2,
            "STEPS_PER_EPOCH": 43,
            "VALIDATION_STEPS": 9,
            "MEAN_PIXEL": Config.MEAN_PIXEL,
            "RPN_ANCHOR_SCALES": (32, 64, 128, 256, 512),
            "RPN_NMS_THRESHOLD": 0.7,
            "RPN_TRAIN_ANCHORS_PER_IMAGE": 256,
            "PRE_NMS_LIMIT": 2000,
            "POST_NMS_ROIS_TRAINING": 2000,
            "POST_NMS_ROIS_INFERENCE": 1000,
            "TRAIN_ROIS_PER_IMAGE": 512,
            "ROI_POSITIVE_RATIO": 0.25,
            "POOL_SAMPLES": 2,
            "COCO_HEADS": False,
            "MAX_GT_INSTANCES": 100,
            "DETECTION_MAX_INSTANCES": 100,
            "DETECTION_NMS_THRESHOLD": 0.5,
            "DETECTION_MIN_CONFIDENCE": 0.5,
            "LEARNING_RATE": 0.005,
            "WEIGHT_DECAY": 0.0005 / 2,
            "WEIGHT_DECAY_REDUCTION": "sum",
            "STAGES": (("3+", 500, 0.005),),
        },
    )


def _small() -> Preset:
    """A network of 6 million weights that a CPU trains from random weights within hours."""

    def backbone(*args: Any, **kwargs: Any) -> list[Any]:
        # Keras takes seconds to import, and most commands only list the presets.
        from nucleus.models.small_resnet import small_resnet

        return small_resnet(*args, **kwargs)

    return Preset(
        summary="a small network for CPUs, CLAHE, 256 x 256 windows, trains from random weights",
        source="this project",
        settings={
            **_LIGHT,
            "BACKBONE": backbone,
            "OPTIMIZER": "Adam",
            "CLAHE": True,
            "AUGMENTATION": "flips-rotations",
            "STAGES": (("all", 30, 0.001), ("all", 10, 0.0003), ("all", 5, 0.0001)),
        },
        inference=_LIGHT_INFERENCE,
    )


def _efficientnet_lite0() -> Preset:
    """A backbone with weights from ImageNet, to train with `--weights=imagenet`, under the light heads of `small`.

    For several kinds of images at once, like the U-Net's preset of this name: brightness is stretched, and stains,
    polarity and colour vary. The heads, which begin with random weights, learn first, by themselves; then everything
    does, batch normalisation included, at rates that fall from stage to stage.
    """
    return Preset(
        summary="EfficientNet-Lite0 from ImageNet weights, light heads, 256 x 256 windows, for several kinds of images",
        source="Tan and Le, EfficientNet (2019), in its Lite form; recipe by this project",
        settings={
            **_LIGHT,
            "BACKBONE": "efficientnet-lite0",
            "ROI_ALIGNED": True,
            "PRECISION": "auto",
            "OPTIMIZER": "AdamW",
            "WEIGHT_DECAY": 0.01,
            "STRETCH": True,
            "AUGMENTATION": "microscopy",
            "STAGES": (("heads", 2, 0.001), ("all", 20, 0.001), ("all", 6, 0.0003), ("all", 4, 0.0001)),
        },
        # Enough for all that DETECTION_MAX_INSTANCES lets through; with 1,000, crowded images lost a nucleus in 20.
        inference={**_LIGHT_INFERENCE, "POST_NMS_ROIS_INFERENCE": 2000},
    )


# To add one, add an entry: a preset may set any attribute, BACKBONE to a callable among them.
PRESETS: dict[str, Preset] = {
    "lineage": Preset(
        summary="ResNet-50, 512 x 512 windows, heads then all layers (the default)",
        source="matterport/Mask_RCNN 2.1, samples/nucleus",
    ),
    "small": _small(),
    "efficientnet-lite0": _efficientnet_lite0(),
    "resnet101-512-nms02": _mlp(512, 0.2, 8),
    "resnet101-512-nms06": _mlp(512, 0.6, 8),
    "resnet101-512-nms06-anchors4": _mlp(512, 0.6, 4),
    "resnet101-1024-nms06": _mlp(1024, 0.6, 8),
    "resnet101-1024-nms06-anchors16": _mlp(1024, 0.6, 16),
    "resnet50-glas": _glas(),
    "resnet101-two-stage": _zhang(),
    "resnet101-two-stage-anchors128": _zhang(rpn_anchors=128),
    "resnet101-two-stage-anchors512": _zhang(rpn_anchors=512),
    "resnet101-two-stage-rois350": _zhang(rois=350),
    "resnet101-two-stage-rois350-nms05": _zhang(rois=350, nms=0.5),
}
