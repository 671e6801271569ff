"""Configurations of the nucleus application: the settings of each model and those of the application around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from mrcnn.config import Config, ConfigError
from nucleus.classical.config import ClassicalConfig
from nucleus.labels import OVERLAP_RULES
from nucleus.models import MODELS
from nucleus.settings import PredictionSettings
from trainkit.settings import SettingsError, parse_stages
from unet.config import UNetConfig
from unet.config import make_config as make_unet_config

AUGMENTATIONS = (
    "none",
    "lineage",
    "strong",
    "gentle",
    "flips-rotations",
    "flips-brightness",
    "flips-crops",
    "affine-channels",
    "microscopy",
)
# Training images of DSB2018 that the lineage counts on, and its customary validation images among them.
_IMAGES, _VALIDATION_IMAGES = 657, 25
# The batch of a training says nothing about detection, which runs image by image; nor does what training began with.
_TRAINING_ONLY = ("GPU_COUNT", "IMAGES_PER_GPU", "ENCODER_WEIGHTS")


class ApplicationSettings(PredictionSettings):
    """What the application does around a model that learns; mixed into the configuration of each."""

    NAME = "nucleus"
    # One of AUGMENTATIONS.
    AUGMENTATION = "lineage"
    # Probability that an image of stained tissue takes on the colours of another one of its modality in training
    # (Reinhard et al. 2001); grey images never do.
    COLOUR_TRANSFER = 0.0
    # Probability that an image is given copies of nuclei from others of its modality in training, the highest number
    # of them as a share of the nuclei that it has, and how many of them touch another nucleus: for models that fail to
    # tell clumps apart.
    COPY_PASTE = 0.0
    COPY_PASTE_SHARE = 0.5
    COPY_PASTE_TOUCHING = 0.3
    # Epochs between two evaluations of the validation images while training; 0 switches them off.
    EVALUATE_EVERY = 5
    # Instances of fewer pixels are dropped from the result; 0 keeps all.
    MIN_AREA = 0
    # Megabytes (2^20 bytes) of decoded images and label images that a training keeps of each subset; with 0 only the
    # images of the batches in flight are in memory.
    IMAGE_CACHE_MB = 256

    def validate(self) -> None:
        """Checks the settings; see `Settings.validate`.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        self.require_choice("AUGMENTATION", AUGMENTATIONS)
        self.require_at_least(0, "EVALUATE_EVERY", "MIN_AREA", "IMAGE_CACHE_MB")
        self.require_share("COPY_PASTE_SHARE")
        self.require_probability("COLOUR_TRANSFER", "COPY_PASTE", "COPY_PASTE_TOUCHING")


class NucleusUNetConfig(ApplicationSettings, UNetConfig):
    """A U-Net for nuclei: training, and detection with what was trained."""

    model_kind = "unet"

    AUGMENTATION = "strong"


class NucleusConfig(ApplicationSettings, Config):
    """Training a Mask R-CNN on nuclei: the settings of matterport's nucleus sample, and the application's own."""

    model_kind = "mask_rcnn"

    # Background and nucleus.
    NUM_CLASSES = 2
    BACKBONE = "resnet50"

    IMAGES_PER_GPU = 6
    STEPS_PER_EPOCH = (_IMAGES - _VALIDATION_IMAGES) // IMAGES_PER_GPU
    VALIDATION_STEPS = max(1, _VALIDATION_IMAGES // IMAGES_PER_GPU)

    # Random 512 x 512 windows of images that are enlarged twice at least: nuclei are small.
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_DIM = 512
    IMAGE_MAX_DIM = 512
    IMAGE_MIN_SCALE = 2.0
    # Mean of DSB2018's training images, RGB.
    MEAN_PIXEL = np.array([43.53, 39.56, 48.22])

    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    # Nuclei stand close together, so training keeps proposals that overlap much.
    RPN_NMS_THRESHOLD = 0.9
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64
    POST_NMS_ROIS_TRAINING = 1000
    POST_NMS_ROIS_INFERENCE = 2000
    TRAIN_ROIS_PER_IMAGE = 128
    USE_MINI_MASK = True
    MINI_MASK_SHAPE = (56, 56)
    MAX_GT_INSTANCES = 200
    DETECTION_MAX_INSTANCES = 400
    # With two classes the winner has more than 0.5 anyway.
    DETECTION_MIN_CONFIDENCE = 0

    # (layers, epochs) or (layers, epochs, learning rate) of each training stage, in order. Without a rate a
    # stage takes LEARNING_RATE. `layers` is what MaskRCNN.train takes: heads, 3+, 4+, 5+, all or a regular
    # expression.
    STAGES = (("heads", 20), ("all", 20))
    # One of labels.OVERLAP_RULES: who gets the pixels that several instances claim.
    OVERLAP_RULE = "score"
    # Whether holes that lie inside a single nucleus are filled in the result, as U-Nets' are.
    FILL_HOLES = False

    def validate(self) -> None:
        """Checks the settings; see `Config.validate`.

        Raises:
            ConfigError: A value is out of its range; the message names the attribute.
        """
        super().validate()
        self.require_choice("OVERLAP_RULE", OVERLAP_RULES)

    def _convert(self, name: str, value: Any) -> Any:
        if name == "STAGES":
            return parse_stages(value, "(('heads', 20), ('4+', 10, 0.0001))")
        return super()._convert(name, value)


class NucleusInferenceConfig(NucleusConfig):
    """Detection on whole images, one at a time, as in matterport's nucleus sample."""

    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    IMAGE_RESIZE_MODE = "pad64"
    RPN_NMS_THRESHOLD = 0.7

    def validate(self) -> None:
        """Checks the settings; see `NucleusConfig.validate`.

        Raises:
            ConfigError: A value is out of its range or makes sense in training only.
        """
        super().validate()
        if self.IMAGE_RESIZE_MODE == "crop":
            raise ConfigError("IMAGE_RESIZE_MODE 'crop' shows the model a random window: it is for training only.")


ModelConfig = NucleusConfig | NucleusUNetConfig | ClassicalConfig


def make_config(
    mode: Literal["training", "inference"],
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    model: str = "mask_rcnn",
) -> ModelConfig:
    """Returns a configuration made of the defaults, a named preset and single settings, in this order.

    An inference configuration takes the preset's settings too, so that one preset describes one network. For Mask
    R-CNN the batch size stays one image, and a training that crops windows still detects on whole images; a U-Net
    for inference begins with no weights, not even its encoder's.

    Args:
        mode: "training" or "inference".
        preset: A name in the model's presets, `nucleus.models.MODELS[model].presets`; by default the model's own.
        settings: Attribute name -> value or text, see `Settings.update`.
        model: A name in `nucleus.models.MODELS`.

    Returns:
        A validated `NucleusConfig`, `NucleusInferenceConfig`, `NucleusUNetConfig` or `ClassicalConfig`.

    Raises:
        SettingsError: The model, the preset or an attribute is unknown, a value cannot be used, or the model has
            nothing to train.
    """
    if model not in MODELS:
        raise SettingsError(f"Unknown model {model!r}. Known: {', '.join(MODELS)}.")
    kind = MODELS[model]
    preset, settings = preset or kind.default_preset, dict(settings or {})
    if preset not in kind.presets:
        raise SettingsError(f"Unknown preset {preset!r} of {model}. Known: {', '.join(kind.presets)}.")
    if mode == "training" and not kind.learns:
        raise SettingsError(f"{model} has no weights to train; it detects as it is.")
    if model == "classical":
        return ClassicalConfig().update({**kind.presets[preset].settings, **settings})
    if model == "unet":
        settings |= {"ENCODER_WEIGHTS": None} if mode == "inference" else {}
        return make_unet_config(preset, settings, NucleusUNetConfig)
    chosen = kind.presets[preset]
    if mode == "training":
        return NucleusConfig().update({**chosen.training, **settings})
    return NucleusInferenceConfig().update({**inference_settings(chosen.training), **chosen.inference, **settings})


def inference_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of a training's settings that also hold when its model detects."""
    return {
        name: value
        for name, value in settings.items()
        if name not in _TRAINING_ONLY and not (name == "IMAGE_RESIZE_MODE" and value == "crop")
    }
