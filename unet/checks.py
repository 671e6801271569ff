"""Checks of a U-Net's settings; errors name the attribute, the expected values and the one received.

Each takes a `unet.config.UNetConfig`, and raises a SettingsError.
"""

from __future__ import annotations

from typing import Any

from trainkit.imagenet import IMAGENET_NETWORKS
from trainkit.optimizers import OPTIMIZERS
from trainkit.precision import PRECISIONS
from trainkit.settings import SettingsError
from unet.parts import DECODERS, ENCODERS, LOSSES
from unet.postprocess import METHODS, PostprocessSettings
from unet.targets import CHANNELS

ACTIVATIONS = ("relu", "elu", "selu")
INITIALIZERS = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal")
PADDINGS = ("zeros", "symmetric")
LOGITS_SIZES = (1, 3)
SCHEDULES = ("step", "cosine")
IMAGE_MODES = ("crop", "resize")
INFERENCE_MODES = ("full", "resize")
# Divisor of the filters of the Inception-like module, whose branches share them in eighths.
_BRANCH_UNIT = 8


def check_choices(config: Any) -> None:
    """Checks the settings that are one of several names."""
    for name, choices in (
        ("ENCODER", ENCODERS),
        ("DECODER", DECODERS),
        ("ACTIVATION", ACTIVATIONS),
        ("KERNEL_INITIALIZER", INITIALIZERS),
        ("PADDING", PADDINGS),
        ("LOGITS_SIZE", LOGITS_SIZES),
        ("TARGETS", tuple(CHANNELS)),
        ("LOSS", LOSSES),
        ("OPTIMIZER", OPTIMIZERS),
        ("SCHEDULE", SCHEDULES),
        ("PRECISION", PRECISIONS),
        ("IMAGE_MODE", IMAGE_MODES),
        ("INFERENCE_MODE", INFERENCE_MODES),
        ("POSTPROCESS", METHODS),
    ):
        config.require_choice(name, choices)


def check_encoder(config: Any) -> None:
    """Checks the settings of the encoder, and its initial weights."""
    _require_filters("ENCODER_FILTERS", config.ENCODER_FILTERS)
    config.require_at_least(1, "IMAGE_CHANNEL_COUNT")
    config.require_at_least(0, "IMAGE_SKIP_FILTERS")
    if config.ENCODER == "plain":
        if config.IMAGE_SKIP_FILTERS:
            raise SettingsError(
                "IMAGE_SKIP_FILTERS is for encoders without features at full resolution: it must be 0 with "
                f"ENCODER='plain'. Received: {config.IMAGE_SKIP_FILTERS!r}"
            )
        if len(config.ENCODER_FILTERS) < 2:
            raise SettingsError(f"ENCODER_FILTERS needs two levels at least. Received: {config.ENCODER_FILTERS!r}")
    elif config.IMAGE_CHANNEL_COUNT != 3:
        raise SettingsError(
            f"IMAGE_CHANNEL_COUNT must be 3 for ENCODER={config.ENCODER!r}, which was made for RGB. "
            f"Received: {config.IMAGE_CHANNEL_COUNT!r}"
        )
    if config.ENCODER_WEIGHTS == "imagenet" and config.ENCODER not in IMAGENET_NETWORKS:
        raise SettingsError(
            f"ENCODER_WEIGHTS 'imagenet' exist for ENCODER {', '.join(IMAGENET_NETWORKS)}. "
            f"Received: ENCODER={config.ENCODER!r}"
        )


def check_decoder(config: Any) -> None:
    """Checks the settings of the decoder, and dropout."""
    config.require_at_least(1, "SE_RATIO")
    filters = config.decoder_filters
    _require_filters("DECODER_FILTERS", filters)
    fcn, ups = config.DECODER == "fcn8s", config.level_count - 1
    if fcn and ups < 3:
        raise SettingsError(
            f"DECODER 'fcn8s' needs features at three strides: a plain ENCODER needs four ENCODER_FILTERS. "
            f"Received: {config.ENCODER_FILTERS!r}"
        )
    if len(filters) != (2 if fcn else ups):
        expected = "two numbers, of its fully convolutional layers" if fcn else f"one number a level up ({ups})"
        raise SettingsError(
            f"DECODER_FILTERS of DECODER {config.DECODER!r} needs {expected}. Received: {config.DECODER_FILTERS!r}"
        )
    if config.DECODER == "inception-se" and any(count % _BRANCH_UNIT for count in filters):
        raise SettingsError(
            f"DECODER_FILTERS of DECODER 'inception-se' must be multiples of {_BRANCH_UNIT}. Received: {filters!r}"
        )
    rates = config.dropout_rates
    if len(rates) != config.level_count or not all(0 <= rate < 1 for rate in rates):
        raise SettingsError(
            f"DROPOUT needs one number from 0 to below 1, or one for each of the {config.level_count} levels. "
            f"Received: {config.DROPOUT!r}"
        )
    if config.DECODER == "inception-se" and config.ENCODER != "plain" and any(rates):
        raise SettingsError(
            f"DROPOUT is not supported with ENCODER {config.ENCODER!r} and DECODER 'inception-se': it must be 0. "
            f"Received: {config.DROPOUT!r}"
        )


def check_training(config: Any) -> None:
    """Checks the settings of targets, loss and training, and the size of images."""
    config.require_at_least(1, "BATCH_SIZE", "STEPS_PER_EPOCH", "BORDER_WIDTH", "EROSION_WIDTH")
    config.require_at_least(
        0,
        "BALANCE_POWER",
        "VALIDATION_STEPS",
        "WARMUP_STEPS",
        "CROP_ROTATION",
        "DECAY_EPOCHS",
        "WEIGHT_DECAY",
        "DATA_WORKERS",
        "BORDER_WEIGHT",
        "SEED",
    )
    config.require_above(0, "LEARNING_RATE", "BORDER_SIGMA")
    for name in ("LEARNING_MOMENTUM", "LEARNING_RATE_DECAY", "AVERAGE_MOMENTUM"):
        if not 0 <= getattr(config, name) < 1:
            raise SettingsError(f"{name} must be from 0 to below 1. Received: {getattr(config, name)!r}")
    if config.GRADIENT_CLIP_NORM is not None and not config.GRADIENT_CLIP_NORM > 0:
        raise SettingsError(f"GRADIENT_CLIP_NORM must be above 0 or None. Received: {config.GRADIENT_CLIP_NORM!r}")
    weights = config.CHANNEL_WEIGHTS
    if weights is not None and (len(weights) != len(config.channels) or min(weights) < 0 or not any(weights)):
        raise SettingsError(
            f"CHANNEL_WEIGHTS needs one number of 0 or more for each of {', '.join(config.channels)}, not all 0. "
            f"Received: {weights!r}"
        )
    if len(config.CLASS_WEIGHTS) != 2 or min(config.CLASS_WEIGHTS) < 0 or not any(config.CLASS_WEIGHTS):
        raise SettingsError(
            f"CLASS_WEIGHTS needs two numbers of 0 or more, of background and nuclei, not both 0. "
            f"Received: {config.CLASS_WEIGHTS!r}"
        )
    if config.IMAGE_SIZE < 1 or config.IMAGE_SIZE % config.stride:
        raise SettingsError(
            f"IMAGE_SIZE must be a multiple of {config.stride}, the stride of the encoder. "
            f"Received: {config.IMAGE_SIZE!r}"
        )
    config.require_each(0, 2, "CROP_SCALES")
    if not 0 < config.CROP_SCALES[0] <= config.CROP_SCALES[1]:
        raise SettingsError(f"CROP_SCALES needs two numbers above 0, the least first. Received: {config.CROP_SCALES!r}")
    if config.INFERENCE_MODE == "resize" and config.IMAGE_MODE != "resize":
        raise SettingsError(
            "INFERENCE_MODE 'resize' shows whole images brought to IMAGE_SIZE, for networks that were trained so: "
            f"IMAGE_MODE must be 'resize' too. Received: {config.IMAGE_MODE!r}; or set INFERENCE_MODE to 'full'"
        )


def check_postprocessing(config: Any) -> None:
    """Checks the settings with which channels become nuclei."""
    config.require_probability("MASK_THRESHOLD", "MARKER_THRESHOLD", "BORDER_THRESHOLD")
    config.require_at_least(0, "MIN_AREA")
    config.require_at_least(1, "OPENING_RADIUS")
    try:
        PostprocessSettings.from_config(config)
    except ValueError as error:
        raise SettingsError(f"POSTPROCESS={config.POSTPROCESS!r} with TARGETS={config.TARGETS!r}: {error}") from error


def _require_filters(name: str, filters: Any) -> None:
    if not filters or any(not isinstance(count, int) or count < 1 for count in filters):
        raise SettingsError(f"{name} needs whole numbers above 0. Received: {filters!r}")
