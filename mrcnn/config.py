"""Configuration of a Mask R-CNN: a class whose attributes a user overrides in a subclass.

Attribute names, meanings and defaults are those of matterport's Mask_RCNN 2.1, so that a `Config` subclass
written for it works unchanged. Settings of this project alone stand under "Additions" and default to the lineage's
behaviour.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mrcnn.backbones import BACKBONES
from trainkit.optimizers import OPTIMIZERS
from trainkit.runs import RunFiles
from trainkit.settings import Settings, SettingsError, parse_stages

RESIZE_MODES = ("none", "square", "pad64", "crop")
# Arithmetic that a Mask R-CNN can train and detect with; see trainkit.precision.
PRECISIONS = ("float32", "mixed_bfloat16", "auto")
REDUCTIONS = ("mean", "sum")
MASK_ACTIVATIONS = ("sigmoid", "softmax")


# Settings that must be at least 1, and settings that must be at least 0.
_COUNTS = (
    "IMAGES_PER_GPU",
    "GPU_COUNT",
    "STEPS_PER_EPOCH",
    "NUM_CLASSES",
    "IMAGE_CHANNEL_COUNT",
    "FPN_CLASSIF_FC_LAYERS_SIZE",
    "TOP_DOWN_PYRAMID_SIZE",
    "RPN_CHANNELS",
    "MASK_CHANNELS",
    "RPN_ANCHOR_STRIDE",
    "RPN_TRAIN_ANCHORS_PER_IMAGE",
    "PRE_NMS_LIMIT",
    "POST_NMS_ROIS_TRAINING",
    "POST_NMS_ROIS_INFERENCE",
    "TRAIN_ROIS_PER_IMAGE",
    "POOL_SIZE",
    "MASK_POOL_SIZE",
    "POOL_SAMPLES",
    "MAX_GT_INSTANCES",
    "DETECTION_MAX_INSTANCES",
)
_NOT_NEGATIVE = (
    "VALIDATION_STEPS",
    "LEARNING_MOMENTUM",
    "WEIGHT_DECAY",
    "SEED",
    "DATA_WORKERS",
    "BOX_HEAD_CHANNELS",
    "MASK_END_CHANNELS",
    "WARMUP_STEPS",
    "AVERAGE_MOMENTUM",
    "BALANCE_POWER",
)
# How the learning rate runs within a stage.
SCHEDULES = ("constant", "cosine")
# Smallest number that counts as above 0.
_TINY = float(np.finfo(np.float32).tiny)

# Name of the error for callers that know only Mask R-CNN.
ConfigError = SettingsError

# Names of the checkpoints, `<model_dir>/<name><date>/mask_rcnn_<name>_<epoch>.h5`.
RUN_FILES = RunFiles("mask_rcnn")


class Config(Settings):
    """Settings of a Mask R-CNN: network, training and detection.

    Subclass it, override what differs, and pass an instance to `MaskRCNN`. Derived attributes (`BATCH_SIZE`,
    `IMAGE_SHAPE`, `IMAGE_META_SIZE`) are computed when an instance is made.
    """

    _COMPUTED = ("BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE")
    _OPTIONAL = ("TRAIN_BN", "DETECTION_MIN_CONFIDENCE", "IMAGE_MIN_DIM", "IMAGE_MIN_SCALE", "GRADIENT_CLIP_NORM")
    _CALLABLE = ("BACKBONE", "COMPUTE_BACKBONE_SHAPE")
    _TYPES = {"NAME": str, "IMAGE_MIN_SCALE": float}

    # Name of the experiment, for log folders and checkpoints.
    NAME = None

    # ---- Batches -------------------------------------------------------------------------------------------
    # The batch size is the product of the two.
    GPU_COUNT = 1
    IMAGES_PER_GPU = 2
    # Training steps per epoch, after which a checkpoint is written; a fraction is rounded up.
    STEPS_PER_EPOCH = 1000
    # Validation steps at the end of every epoch; 0 switches validation losses off.
    VALIDATION_STEPS = 50

    # ---- Backbone and feature pyramid ----------------------------------------------------------------------
    # A key of `mrcnn.backbones.BACKBONES` ("resnet50", "resnet101", "efficientnet-lite0"), or a callable as
    # `mrcnn.backbones.Backbone.build`.
    BACKBONE = "resnet101"
    # For a callable BACKBONE: callable (image_shape) -> int array [levels, 2] with the (height, width) of each pyramid
    # level in cells. None: the image's height and width divided by BACKBONE_STRIDES, rounded up.
    COMPUTE_BACKBONE_SHAPE = None
    # Pixels between neighbouring cells of each pyramid level.
    BACKBONE_STRIDES = [4, 8, 16, 32, 64]
    # Units of the box head's two fully connected layers.
    FPN_CLASSIF_FC_LAYERS_SIZE = 1024
    # Channels of every level of the feature pyramid.
    TOP_DOWN_PYRAMID_SIZE = 256

    # ---- Classes -------------------------------------------------------------------------------------------
    # Number of classes with the background.
    NUM_CLASSES = 1

    # ---- Region proposal network ---------------------------------------------------------------------------
    # Side of the square anchor in pixels, one per pyramid level. Small objects need small anchors.
    RPN_ANCHOR_SCALES = (32, 64, 128, 256, 512)
    # Width over height of the anchors at each cell.
    RPN_ANCHOR_RATIOS = [0.5, 1, 2]
    # 1: anchors at every cell of the feature map, 2: at every other one, ...
    RPN_ANCHOR_STRIDE = 1
    # IoU above which the weaker of two proposals is dropped. Higher keeps more proposals in crowds.
    RPN_NMS_THRESHOLD = 0.7
    # Anchors per image that train the RPN, at most half of them positive.
    RPN_TRAIN_ANCHORS_PER_IMAGE = 256
    # Best-scored anchors kept before non-maximum suppression, and proposals kept after it.
    PRE_NMS_LIMIT = 6000
    POST_NMS_ROIS_TRAINING = 2000
    POST_NMS_ROIS_INFERENCE = 1000

    # ---- Input images --------------------------------------------------------------------------------------
    # Instance masks are stored as crops of MINI_MASK_SHAPE (height, width) rather than at image size.
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (56, 56)
    # Training needs images of one size, IMAGE_SHAPE: "square" and "crop" make them so.
    # none:   images are used as they are (height and width must be multiples of 64).
    # square: scaled so that the short side is IMAGE_MIN_DIM while the long one stays within IMAGE_MAX_DIM, then
    #         padded with zeros to IMAGE_MAX_DIM x IMAGE_MAX_DIM.
    # pad64:  scaled up by IMAGE_MIN_DIM and IMAGE_MIN_SCALE, then padded to multiples of 64.
    # crop:   scaled up likewise, then a random IMAGE_MIN_DIM x IMAGE_MIN_DIM window. Training only.
    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM = 800
    IMAGE_MAX_DIM = 1024
    # Minimum enlargement, whatever IMAGE_MIN_DIM asks for; 0 switches it off.
    IMAGE_MIN_SCALE = 0
    # Channels of an image: 3 for RGB.
    IMAGE_CHANNEL_COUNT = 3
    # Subtracted from every pixel (RGB order, 0 to 255).
    MEAN_PIXEL = np.array([123.7, 116.8, 103.9])

    # ---- Heads ---------------------------------------------------------------------------------------------
    # RoIs per image that train the heads, and the maximum share of positives among them.
    TRAIN_ROIS_PER_IMAGE = 200
    ROI_POSITIVE_RATIO = 0.33
    # Side in cells of the features pooled for the box head and for the mask head.
    POOL_SIZE = 7
    MASK_POOL_SIZE = 14
    # Height and width of a predicted mask; twice MASK_POOL_SIZE.
    MASK_SHAPE = [28, 28]
    # Maximum number of ground-truth instances per image; of more, a random sample is used.
    MAX_GT_INSTANCES = 100
    # Standard deviations by which box deltas (dy, dx, log dh, log dw) are divided.
    RPN_BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])
    BBOX_STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])

    # ---- Detections ----------------------------------------------------------------------------------------
    # Maximum number of detections per image. Raise it for crowded images: further objects are dropped.
    DETECTION_MAX_INSTANCES = 100
    # Minimum class probability of a detection; above 1 drops all.
    DETECTION_MIN_CONFIDENCE = 0.7
    # IoU above which the weaker of two detections of one class is dropped.
    DETECTION_NMS_THRESHOLD = 0.3

    # ---- Training ------------------------------------------------------------------------------------------
    # Learning rate, for stages that name none. Lower it where the loss diverges, or to fine-tune.
    LEARNING_RATE = 0.001
    # Momentum of SGD.
    LEARNING_MOMENTUM = 0.9
    # Factor of L2 regularisation; see WEIGHT_DECAY_REDUCTION. Of AdamW the share of the kernels that a step takes off
    # them, over the learning rate.
    WEIGHT_DECAY = 0.0001
    # Weights of the five losses in their sum.
    LOSS_WEIGHTS = {
        "rpn_class_loss": 1.0,
        "rpn_bbox_loss": 1.0,
        "mrcnn_class_loss": 1.0,
        "mrcnn_bbox_loss": 1.0,
        "mrcnn_mask_loss": 1.0,
    }
    # False trains the heads alone, on RoIs from the data generator instead of the RPN.
    USE_RPN_ROIS = True
    # False: batch normalisation uses its stored statistics (small batches of a pretrained network).
    # None: normal training. True: batch statistics even in detection (not recommended).
    TRAIN_BN = False
    # Norm to which the gradient of all weights together is clipped; None or 0 switches clipping off.
    GRADIENT_CLIP_NORM = 5.0

    # ---- Additions to the lineage --------------------------------------------------------------------------
    # Probability from which a mask pixel belongs to the instance.
    DETECTION_MASK_THRESHOLD = 0.5
    # "float32"; "mixed_bfloat16", bfloat16 arithmetic with float32 weights; or "auto": the latter on TensorFlow where
    # the processor has instructions for it.
    PRECISION = "float32"
    # Channels of the RPN's shared convolution and of the mask head's convolutions.
    RPN_CHANNELS = 512
    MASK_CHANNELS = 256
    # True: anchors that reach beyond the image neither train the RPN nor become proposals (Ren et al. 2015, section
    # 3.1.3, in training; Zhang, Wei and Yue, 2018, section 3.4.4).
    RPN_INSIDE_ANCHORS = False
    # Sampling points along each side of a cell that RoIAlign pools: 1 as in the lineage; 2 for the mean of four points,
    # as in He et al. 2017, section 3.
    POOL_SAMPLES = 1
    # True: RoIs are pooled, and their masks learned, where their pixels are (`aligned=True` of Detectron2, Wu et al.
    # 2019). False: the lineage's coordinates, up to a cell of the feature maps off, for weights trained with them.
    ROI_ALIGNED = False
    # Channels of a 3x3 convolution before the box head's two fully connected layers; 0 for none.
    BOX_HEAD_CHANNELS = 0
    # Channels of a 3x3 convolution between the mask head's transposed convolution and its masks; 0 for none.
    MASK_END_CHANNELS = 0
    # "sigmoid": a mask for each class by itself. "softmax": the classes, background among them, share every pixel.
    MASK_ACTIVATION = "sigmoid"
    # "SGD" with momentum as in the lineage, "Adam", or "AdamW".
    OPTIMIZER = "SGD"
    # (layers, epochs) or (layers, epochs, learning rate) of each training stage of `MaskRCNN.train_stages`, in order;
    # LEARNING_RATE holds for those without a rate. `layers` is as for `MaskRCNN.train`: "heads", "3+", "4+", "5+",
    # "all" or a regular expression over layer names.
    STAGES = (("heads", 20), ("all", 20))
    # WEIGHT_DECAY is the factor of the "mean" of each weight's squares as in the lineage, or of their "sum" as L2 is
    # elsewhere, stronger by the number of the weight's elements (PyTorch's weight_decay of a value is half of that).
    WEIGHT_DECAY_REDUCTION = "mean"
    # How the learning rate runs within a stage: "constant" as in the lineage, or "cosine", which falls with every step,
    # to nothing at the stage's end (Loshchilov and Hutter, "SGDR", 2017, eq. 5).
    SCHEDULE = "constant"
    # Steps at the start of a stage in which the rate of SCHEDULE "cosine" rises.
    WARMUP_STEPS = 0
    # Momentum of a moving average of the weights, which is scored and written in their place (Polyak averaging); 0
    # switches it off.
    AVERAGE_MOMENTUM = 0.0
    # Images of each data set and modality are drawn in proportion to their number to this power. 1 draws all images
    # equally often, 0.5 gives small sets more, 0 gives all sets the same.
    BALANCE_POWER = 1.0
    # Seeds the shuffling, augmentation and sampling of training.
    SEED = 0
    # Threads that prepare training batches.
    DATA_WORKERS = 2

    def _derive(self) -> None:
        """Computes the attributes that follow from others."""
        for name in ("STEPS_PER_EPOCH", "VALIDATION_STEPS"):
            # Old scripts divide the number of images by the batch size.
            setattr(self, name, math.ceil(getattr(self, name)))
        self.BATCH_SIZE = self.IMAGES_PER_GPU * self.GPU_COUNT
        side = self.IMAGE_MIN_DIM if self.IMAGE_RESIZE_MODE == "crop" else self.IMAGE_MAX_DIM
        self.IMAGE_SHAPE = np.array([side, side, self.IMAGE_CHANNEL_COUNT])
        # Image id, original shape, shape, window, scale, one flag per class: see `image_meta.compose_image_meta`.
        self.IMAGE_META_SIZE = 1 + 3 + 3 + 4 + 1 + self.NUM_CLASSES

    def _convert(self, name: str, value: Any) -> Any:
        if name == "STAGES":
            return parse_stages(value, "(('heads', 20), ('4+', 10, 0.0001))")
        return super()._convert(name, value)

    def validate(self) -> None:
        """Checks the settings that a model is built from.

        Raises:
            ConfigError: A value is out of its range; the message names the attribute.
        """
        self.require_choice("IMAGE_RESIZE_MODE", RESIZE_MODES)
        self.require_choice("PRECISION", PRECISIONS)
        self.require_choice("OPTIMIZER", OPTIMIZERS)
        self.require_choice("WEIGHT_DECAY_REDUCTION", REDUCTIONS)
        self.require_choice("MASK_ACTIVATION", MASK_ACTIVATIONS)
        self.require_choice("SCHEDULE", SCHEDULES)
        if not callable(self.BACKBONE) and self.BACKBONE not in BACKBONES:
            raise ConfigError(f"BACKBONE must be one of {tuple(BACKBONES)} or a callable. Received: {self.BACKBONE!r}")
        if self.COMPUTE_BACKBONE_SHAPE is not None and not callable(self.COMPUTE_BACKBONE_SHAPE):
            raise ConfigError(
                f"COMPUTE_BACKBONE_SHAPE must be a callable or None. Received: {self.COMPUTE_BACKBONE_SHAPE!r}"
            )
        if len(self.RPN_ANCHOR_SCALES) != len(self.BACKBONE_STRIDES):
            raise ConfigError(
                f"RPN_ANCHOR_SCALES needs one scale per pyramid level ({len(self.BACKBONE_STRIDES)}). "
                f"Received: {self.RPN_ANCHOR_SCALES!r}"
            )
        fixed_size = self.IMAGE_RESIZE_MODE in ("square", "crop")
        if fixed_size and any(int(side) % 64 or side < 64 for side in self.IMAGE_SHAPE[:2]):
            raise ConfigError(
                f"The image size must be a multiple of 64 (e.g. 256, 320, 512, 1024) so that the pyramid's levels "
                f"fit on each other. Received: {int(self.IMAGE_SHAPE[0])} from IMAGE_MIN_DIM and IMAGE_MAX_DIM"
            )
        if len(np.ravel(self.MEAN_PIXEL)) not in (1, self.IMAGE_CHANNEL_COUNT):
            raise ConfigError(
                f"MEAN_PIXEL needs one value per channel ({self.IMAGE_CHANNEL_COUNT}). Received: {self.MEAN_PIXEL!r}"
            )
        if tuple(self.MASK_SHAPE) != (2 * self.MASK_POOL_SIZE,) * 2:
            raise ConfigError(
                f"MASK_SHAPE must be twice MASK_POOL_SIZE ({self.MASK_POOL_SIZE}) high and wide. "
                f"Received: {self.MASK_SHAPE!r}"
            )
        self.require_file_name("NAME")
        self.require_at_least(1, *_COUNTS)
        self.require_at_least(0, *_NOT_NEGATIVE)
        self.require_above(0, "LEARNING_RATE")
        if not self.AVERAGE_MOMENTUM < 1:
            raise ConfigError(f"AVERAGE_MOMENTUM must be from 0 to below 1. Received: {self.AVERAGE_MOMENTUM!r}")
        self.require_each(1, None, "BACKBONE_STRIDES")
        self.require_each(1, 2, "MINI_MASK_SHAPE")
        self.require_each(_TINY, None, "RPN_ANCHOR_SCALES", "RPN_ANCHOR_RATIOS")
        self.require_each(_TINY, 4, "RPN_BBOX_STD_DEV", "BBOX_STD_DEV")
        if self.DETECTION_MIN_CONFIDENCE is not None:
            self.require_at_least(0, "DETECTION_MIN_CONFIDENCE")
        self.require_share(
            "RPN_NMS_THRESHOLD", "DETECTION_NMS_THRESHOLD", "DETECTION_MASK_THRESHOLD", "ROI_POSITIVE_RATIO"
        )
