"""Configuration of a U-Net: network, training, and the way from channels to nuclei."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from trainkit.imagenet import NETWORKS
from trainkit.optimizers import OPTIMIZERS
from trainkit.precision import PRECISIONS
from trainkit.settings import Settings, SettingsError, parse_stages, wrong_type
from unet.postprocess import METHODS, PostprocessSettings
from unet.presets import PRESETS
from unet.targets import CHANNELS

# Parts of a network by name: the function that each is, for `pkgutil.resolve_name`. Here they can be listed and checked
# without importing Keras. A new part is a function and an entry.
# Encoder: (image [B, H, W, C] in 0..255, UNetConfig) -> list[Skip] of rising stride, the bottleneck last.
ENCODERS = {
    "plain": "unet.encoders:plain_encoder",
    "xception": "unet.encoders:xception_encoder",
    "resnet50": "unet.encoders:resnet50_encoder",
    "resnet101": "unet.encoders:resnet101_encoder",
    "resnet152": "unet.encoders:resnet152_encoder",
    "vgg16": "unet.encoders:vgg16_encoder",
    "efficientnet-lite0": "unet.encoders:efficientnet_lite0_encoder",
}
# Decoder: (list[Skip], UNetConfig) -> logits [B, H, W, output channels].
DECODERS = {
    "plain": "unet.decoders:plain_decoder",
    "inception-se": "unet.decoders:inception_se_decoder",
    "fpn": "unet.decoders:fpn_decoder",
    "fcn8s": "unet.fcn:fcn8s_decoder",
}
# Loss: (y_true [B, H, W, C], y_pred [B, H, W, C], channel weights [C] or None) -> float32 scalar.
LOSSES = {
    "bce": "unet.losses:bce",
    "dice": "unet.losses:soft_dice",
    "bce-dice": "unet.losses:bce_dice",
    "weighted-bce": "unet.losses:weighted_bce",
}
ACTIVATIONS = ("relu", "elu", "selu")
INITIALIZERS = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal")
SCHEDULES = ("step", "cosine")
IMAGE_MODES = ("crop", "resize")
INFERENCE_MODES = ("full", "resize")
# Least pixels of an image that become one cell of the last feature map of an encoder from keras.applications.
_PUBLISHED_STRIDE = 32
# Filters from stride 16 to stride 1 behind such an encoder.
_DECODER_FILTERS = (256, 128, 96, 64, 32)
# fc6 and fc7 of VGG16.
_FCN_FILTERS = (4096, 4096)
# The branches of the Inception-like module share its filters in eighths.
_BRANCH_UNIT = 8


class UNetConfig(Settings):
    """Settings of an encoder-decoder network, its training and its post-processing.

    The defaults are the final model of Rocha de Andrade ("Nuclei detection based on fully convolutional networks"),
    from random weights. `unet.presets.PRESETS` has others.
    """

    _OPTIONAL = ("ENCODER_WEIGHTS", "DECODER_FILTERS", "CHANNEL_WEIGHTS", "GRADIENT_CLIP_NORM")
    _TYPES = {"ENCODER_WEIGHTS": str, "DECODER_FILTERS": tuple, "CHANNEL_WEIGHTS": tuple, "GRADIENT_CLIP_NORM": float}

    # Name of the experiment; names the log folder and the checkpoints.
    NAME = "unet"

    # ---- Network -------------------------------------------------------------------------------------------
    # One of ENCODERS.
    ENCODER = "xception"
    # "plain" only: filters of each level, from full resolution to the bottleneck; each level halves the resolution.
    ENCODER_FILTERS = (64, 128, 256, 512, 1024)
    # None: random. "imagenet": the published ones, downloaded when they are not there (not for "plain"). Else the
    # path of a file with the encoder's layers, such as the published file or the weights of another U-Net.
    ENCODER_WEIGHTS = None
    # One of DECODERS.
    DECODER = "inception-se"
    # Filters of each decoder level, from the lowest resolution up. None: those of a plain encoder in reverse, and
    # behind the others 256, 128, 96, 64, 32. For "fcn8s" the filters of its two fully convolutional layers, 4096
    # each by default.
    DECODER_FILTERS = None
    # Filters of one convolution of the image at full resolution, beside the last level of the decoder, for encoders
    # that begin by halving the image (not "plain"); 0 for none.
    IMAGE_SKIP_FILTERS = 0
    # One of ACTIVATIONS, of the plain encoder and of every decoder. The other encoders keep theirs, ReLU.
    ACTIVATION = "selu"
    # Batch normalisation after every convolution of the plain encoder and of the decoders, except "fcn8s".
    BATCH_NORM = True
    # One of INITIALIZERS, of the convolutions that ACTIVATION follows.
    KERNEL_INITIALIZER = "glorot_uniform"
    # Share of activations dropped in training, between the two convolutions of a plain level and behind the fully
    # convolutional layers of "fcn8s": one number, or one for each level, from full resolution to the bottleneck.
    DROPOUT = 0.0
    # "inception-se" only: channels over those of the squeezed layer.
    SE_RATIO = 8
    IMAGE_CHANNEL_COUNT = 3

    # ---- Targets -------------------------------------------------------------------------------------------
    # One of unet.targets.CHANNELS: "mask", "mask-border", "mask-borderless-touching".
    TARGETS = "mask-borderless-touching"
    # Pixels by which nuclei are dilated to find where they meet, and eroded to be borderless.
    BORDER_WIDTH = 2
    EROSION_WIDTH = 2

    # ---- Loss ----------------------------------------------------------------------------------------------
    # One of LOSSES. "weighted-bce" weighs the pixels between neighbouring nuclei more.
    LOSS = "bce-dice"
    # One weight for each channel of the targets; None weighs them alike.
    CHANNEL_WEIGHTS = None
    # "weighted-bce" only: what a border adds to a pixel's weight at most, and over how many pixels that falls off.
    BORDER_WEIGHT = 10.0
    BORDER_SIGMA = 5.0
    # "weighted-bce" only: the weight of a background pixel and of a nucleus' pixel, before borders add to it.
    CLASS_WEIGHTS = (1.0, 1.0)

    # ---- Training ------------------------------------------------------------------------------------------
    # (layers, epochs) or (layers, epochs, learning rate) of each stage, in order. Without a rate a stage takes
    # LEARNING_RATE. `layers`: "decoder" freezes the encoder, "all", or a regular expression over layer names.
    STAGES = (("decoder", 5, 0.001), ("all", 15, 0.0001))
    # One of OPTIMIZERS.
    OPTIMIZER = "Adam"
    LEARNING_RATE = 0.001
    # Of SGD.
    LEARNING_MOMENTUM = 0.9
    # One of SCHEDULES: how the rate falls within a stage. "cosine" falls with every step to nothing at the stage's end,
    # after WARMUP_STEPS steps in which it rises (Loshchilov and Hutter, "SGDR", 2017, eq. 5).
    SCHEDULE = "step"
    WARMUP_STEPS = 0
    # SCHEDULE "step": share of the learning rate that is lost every DECAY_EPOCHS epochs; 0 epochs switch that off.
    LEARNING_RATE_DECAY = 0.25
    DECAY_EPOCHS = 3
    # L2 of the kernels; of AdamW, what a step takes off them, as a share and over the learning rate.
    WEIGHT_DECAY = 0.0
    # Momentum of a moving average of the weights, which is then what training hands over (Polyak averaging); 0 hands
    # over the weights themselves.
    AVERAGE_MOMENTUM = 0.0
    # Norm to which the gradient of all weights together is clipped; None does not clip.
    GRADIENT_CLIP_NORM = None
    BATCH_SIZE = 8
    STEPS_PER_EPOCH = 80
    VALIDATION_STEPS = 8
    # One of trainkit.precision.PRECISIONS: "float32", 16-bit arithmetic with float32 weights, or "auto", which asks the
    # processor.
    PRECISION = "float32"
    # Seeds the weights, shuffling, augmentation and cropping.
    SEED = 0
    # Threads that prepare training batches.
    DATA_WORKERS = 2
    # Whether every imaging modality is drawn equally often, however many images it has.
    BALANCE_MODALITIES = False
    # Otherwise: images of each data set and modality are drawn in proportion to their number to this power. 1 draws all
    # images equally often, 0.5 gives small sets more, 0 gives all sets the same.
    BALANCE_POWER = 1.0

    # ---- Training images -----------------------------------------------------------------------------------
    # "crop": random windows of IMAGE_SIZE pixels a side. "resize": whole images brought to that size.
    IMAGE_MODE = "crop"
    IMAGE_SIZE = 256
    # "crop" only, in training alone: the range of magnifications of a window, and the largest angle in degrees by which
    # it is turned. (1, 1) and 0 take windows as they are.
    CROP_SCALES = (1.0, 1.0)
    CROP_ROTATION = 0.0

    # ---- Inference -----------------------------------------------------------------------------------------
    # "full": images at their own size. "resize": brought to IMAGE_SIZE pixels a side as IMAGE_MODE "resize" does in
    # training, and the channels back to the image's size: where a network has only seen that scale.
    INFERENCE_MODE = "full"

    # ---- From channels to nuclei ---------------------------------------------------------------------------
    # See unet.postprocess.PostprocessSettings.
    POSTPROCESS = "watershed"
    MASK_THRESHOLD = 0.5
    MARKER_THRESHOLD = 0.5
    BORDER_THRESHOLD = 0.5
    OPENING_RADIUS = 2
    MIN_AREA = 0
    FILL_HOLES = True
    KEEP_UNMARKED = True

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the network's output channels."""
        return CHANNELS[self.TARGETS]

    @property
    def warps_windows(self) -> bool:
        """Whether training magnifies or turns the windows that it takes of images."""
        return tuple(self.CROP_SCALES) != (1, 1) or self.CROP_ROTATION > 0

    @property
    def stride(self) -> int:
        """Pixels a cell of the coarsest features; height and width of an image must be multiples of it."""
        return 2 ** (len(self.ENCODER_FILTERS) - 1) if self.ENCODER == "plain" else _PUBLISHED_STRIDE

    @property
    def level_count(self) -> int:
        """Resolutions that the network works at, the image's and the bottleneck's included."""
        return self.stride.bit_length()

    @property
    def decoder_filters(self) -> tuple[int, ...]:
        """DECODER_FILTERS, or what they are by default."""
        if self.DECODER_FILTERS is not None:
            return self.DECODER_FILTERS
        if self.DECODER == "fcn8s":
            return _FCN_FILTERS
        return self.ENCODER_FILTERS[-2::-1] if self.ENCODER == "plain" else _DECODER_FILTERS

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """DROPOUT of each level, from full resolution to the bottleneck."""
        return self.DROPOUT if isinstance(self.DROPOUT, tuple) else (self.DROPOUT,) * self.level_count

    def _convert(self, name: str, value: Any) -> Any:
        if name == "STAGES":
            return parse_stages(value, "(('decoder', 5, 0.001), ('all', 15, 0.0001))")
        if name == "DROPOUT":
            return _dropout(self.DROPOUT, value)
        return super()._convert(name, value)

    def validate(self) -> None:
        """Checks the settings.

        Raises:
            SettingsError: A value is out of its range or does not fit another; the message names the attribute.
        """
        for name, choices in (
            ("ENCODER", ENCODERS),
            ("DECODER", DECODERS),
            ("ACTIVATION", ACTIVATIONS),
            ("KERNEL_INITIALIZER", INITIALIZERS),
            ("TARGETS", tuple(CHANNELS)),
            ("LOSS", LOSSES),
            ("OPTIMIZER", OPTIMIZERS),
            ("SCHEDULE", SCHEDULES),
            ("PRECISION", PRECISIONS),
            ("IMAGE_MODE", IMAGE_MODES),
            ("INFERENCE_MODE", INFERENCE_MODES),
            ("POSTPROCESS", METHODS),
        ):
            self.require_choice(name, choices)
        self.require_file_name("NAME")
        self._validate_encoder()
        self._validate_decoder()
        self._validate_training()
        self._validate_postprocessing()

    def _validate_encoder(self) -> None:
        _require_filters("ENCODER_FILTERS", self.ENCODER_FILTERS)
        self.require_at_least(1, "IMAGE_CHANNEL_COUNT")
        self.require_at_least(0, "IMAGE_SKIP_FILTERS")
        if self.ENCODER == "plain":
            if self.IMAGE_SKIP_FILTERS:
                raise SettingsError(
                    "IMAGE_SKIP_FILTERS is for encoders without features at full resolution: it must be 0 with "
                    f"ENCODER='plain'. Received: {self.IMAGE_SKIP_FILTERS!r}"
                )
            if len(self.ENCODER_FILTERS) < 2:
                raise SettingsError(f"ENCODER_FILTERS needs two levels at least. Received: {self.ENCODER_FILTERS!r}")
        elif self.IMAGE_CHANNEL_COUNT != 3:
            raise SettingsError(
                f"IMAGE_CHANNEL_COUNT must be 3 for ENCODER={self.ENCODER!r}, which was made for RGB. "
                f"Received: {self.IMAGE_CHANNEL_COUNT!r}"
            )
        if self.ENCODER_WEIGHTS == "imagenet" and self.ENCODER not in NETWORKS:
            raise SettingsError(
                f"ENCODER_WEIGHTS 'imagenet' exist for ENCODER {', '.join(NETWORKS)}. "
                f"Received: ENCODER={self.ENCODER!r}"
            )

    def _validate_decoder(self) -> None:
        self.require_at_least(1, "SE_RATIO")
        filters = self.decoder_filters
        _require_filters("DECODER_FILTERS", filters)
        fcn, ups = self.DECODER == "fcn8s", self.level_count - 1
        if fcn and ups < 3:
            raise SettingsError(
                f"DECODER 'fcn8s' needs features at three strides: a plain ENCODER needs four ENCODER_FILTERS. "
                f"Received: {self.ENCODER_FILTERS!r}"
            )
        if len(filters) != (2 if fcn else ups):
            expected = "two numbers, of its fully convolutional layers" if fcn else f"one number a level up ({ups})"
            raise SettingsError(
                f"DECODER_FILTERS of DECODER {self.DECODER!r} needs {expected}. Received: {self.DECODER_FILTERS!r}"
            )
        if self.DECODER == "inception-se" and any(count % _BRANCH_UNIT for count in filters):
            raise SettingsError(
                f"DECODER_FILTERS of DECODER 'inception-se' must be multiples of {_BRANCH_UNIT}. Received: {filters!r}"
            )
        rates = self.dropout_rates
        if len(rates) != self.level_count or not all(0 <= rate < 1 for rate in rates):
            raise SettingsError(
                f"DROPOUT needs one number from 0 to below 1, or one for each of the {self.level_count} levels. "
                f"Received: {self.DROPOUT!r}"
            )
        if self.DECODER == "inception-se" and self.ENCODER != "plain" and any(rates):
            raise SettingsError(
                f"DROPOUT has no place with ENCODER {self.ENCODER!r} and DECODER 'inception-se': it must be 0. "
                f"Received: {self.DROPOUT!r}"
            )

    def _validate_training(self) -> None:
        self.require_at_least(1, "BATCH_SIZE", "STEPS_PER_EPOCH", "BORDER_WIDTH", "EROSION_WIDTH")
        self.require_at_least(
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
        self.require_above(0, "LEARNING_RATE", "BORDER_SIGMA")
        for name in ("LEARNING_MOMENTUM", "LEARNING_RATE_DECAY", "AVERAGE_MOMENTUM"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must be from 0 to below 1. Received: {getattr(self, name)!r}")
        if self.GRADIENT_CLIP_NORM is not None and not self.GRADIENT_CLIP_NORM > 0:
            raise SettingsError(f"GRADIENT_CLIP_NORM must be above 0 or None. Received: {self.GRADIENT_CLIP_NORM!r}")
        weights = self.CHANNEL_WEIGHTS
        if weights is not None and (len(weights) != len(self.channels) or min(weights) < 0 or not any(weights)):
            raise SettingsError(
                f"CHANNEL_WEIGHTS needs one number of 0 or more for each of {', '.join(self.channels)}, not all 0. "
                f"Received: {weights!r}"
            )
        if len(self.CLASS_WEIGHTS) != 2 or min(self.CLASS_WEIGHTS) < 0 or not any(self.CLASS_WEIGHTS):
            raise SettingsError(
                f"CLASS_WEIGHTS needs two numbers of 0 or more, of background and nuclei, not both 0. "
                f"Received: {self.CLASS_WEIGHTS!r}"
            )
        if self.IMAGE_SIZE < 1 or self.IMAGE_SIZE % self.stride:
            raise SettingsError(
                f"IMAGE_SIZE must be a multiple of {self.stride}, the stride of the encoder. "
                f"Received: {self.IMAGE_SIZE!r}"
            )
        self.require_each(0, 2, "CROP_SCALES")
        if not 0 < self.CROP_SCALES[0] <= self.CROP_SCALES[1]:
            raise SettingsError(
                f"CROP_SCALES needs two numbers above 0, the least first. Received: {self.CROP_SCALES!r}"
            )
        if self.INFERENCE_MODE == "resize" and self.IMAGE_MODE != "resize":
            raise SettingsError(
                "INFERENCE_MODE 'resize' shows whole images brought to IMAGE_SIZE, for networks that were trained so: "
                f"IMAGE_MODE must be 'resize' too. Received: {self.IMAGE_MODE!r}; or set INFERENCE_MODE to 'full'"
            )

    def _validate_postprocessing(self) -> None:
        self.require_probability("MASK_THRESHOLD", "MARKER_THRESHOLD", "BORDER_THRESHOLD")
        self.require_at_least(0, "MIN_AREA")
        self.require_at_least(1, "OPENING_RADIUS")
        try:
            PostprocessSettings.from_config(self)
        except ValueError as error:
            raise SettingsError(f"POSTPROCESS={self.POSTPROCESS!r} with TARGETS={self.TARGETS!r}: {error}") from error


def make_config(
    preset: str | None = None, settings: Mapping[str, Any] | None = None, base: type[UNetConfig] = UNetConfig
) -> UNetConfig:
    """Returns a configuration made of the defaults, a named preset and single settings, in this order.

    Args:
        preset: A name in `unet.presets.PRESETS`; None for none.
        settings: Attribute name -> value or text, see `Settings.update`.
        base: The class whose defaults are taken.

    Returns:
        A validated `base`.

    Raises:
        SettingsError: The preset or an attribute is unknown, or a value cannot be used.
    """
    if preset is not None and preset not in PRESETS:
        raise SettingsError(f"Unknown preset {preset!r}. Known: {', '.join(PRESETS)}.")
    chosen = PRESETS[preset].settings if preset else {}
    return base().update({**chosen, **(settings or {})})


def _require_filters(name: str, filters: Any) -> None:
    if not filters or any(not isinstance(count, int) or count < 1 for count in filters):
        raise SettingsError(f"{name} needs whole numbers above 0. Received: {filters!r}")


def _dropout(current: Any, value: Any) -> float | tuple[float, ...]:
    """Returns a rate as a number and rates as a tuple, reading text."""
    wrong = wrong_type("DROPOUT", current, value)
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise wrong from None
    rates = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(rate, bool) or not isinstance(rate, int | float) for rate in rates):
        raise wrong
    return tuple(map(float, rates)) if isinstance(value, list | tuple) else float(value)
