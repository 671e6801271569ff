"""Configuration of a U-Net: network, training and post-processing."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from typing import Any

from trainkit.runs import RunFiles
from trainkit.settings import Settings, SettingsError, parse_stages, wrong_type
from unet.checks import check_choices, check_decoder, check_encoder, check_postprocessing, check_training
from unet.presets import PRESETS
from unet.targets import CHANNELS

# Stride in pixels of the last features of every encoder but "plain".
_PUBLISHED_STRIDE = 32
# Filters of the decoder's levels behind such an encoder, from stride 16 to stride 1.
_DECODER_FILTERS = (256, 128, 96, 64, 32)
# Filters of the two fully convolutional layers, fc6 and fc7 of VGG16.
_FCN_FILTERS = (4096, 4096)
# Names of checkpoints, `<model_dir>/<name><date>/unet_<name>_<epoch>.h5`.
RUN_FILES = RunFiles("unet")


class UNetConfig(Settings):
    """Settings of an encoder-decoder network, its training and its post-processing.

    The defaults are the final model of Rocha de Andrade ("Nuclei detection based on fully convolutional networks",
    section 5), from random weights. `unet.presets.PRESETS` holds other combinations.
    """

    _OPTIONAL = ("ENCODER_WEIGHTS", "DECODER_FILTERS", "CHANNEL_WEIGHTS", "GRADIENT_CLIP_NORM")
    _TYPES = {"ENCODER_WEIGHTS": str, "DECODER_FILTERS": tuple, "CHANNEL_WEIGHTS": tuple, "GRADIENT_CLIP_NORM": float}

    # Name of the experiment, part of the names of log folder and checkpoints.
    NAME = "unet"

    # ---- Network -------------------------------------------------------------------------------------------
    # Encoder, a key of unet.parts.ENCODERS. A pretrained one learns from few images; "plain" is small and fast with few
    # filters.
    ENCODER = "xception"
    # Filters of each level of "plain", from full resolution to the bottleneck; each level halves the resolution.
    ENCODER_FILTERS = (64, 128, 256, 512, 1024)
    # Initial weights of the encoder. None: random. "imagenet": the published ones, downloaded if missing (not for
    # "plain"). Else the path of a file with the encoder's layers: the published file or the weights of another U-Net.
    ENCODER_WEIGHTS = None
    # Decoder, a key of unet.parts.DECODERS.
    DECODER = "inception-se"
    # Filters of each decoder level, from the lowest resolution up. None: ENCODER_FILTERS in reverse behind "plain",
    # and 256, 128, 96, 64, 32 behind the other encoders. For "fcn8s" the filters of its two fully convolutional
    # layers, 4096 each by default.
    DECODER_FILTERS = None
    # Side in cells of the kernel of the last convolution, which gives the channels, one of unet.checks.LOGITS_SIZES;
    # not for "fcn8s".
    LOGITS_SIZE = 1
    # Filters of one convolution of the image at full resolution, beside the last level of the decoder, for encoders
    # that begin by halving the image (not "plain"); 0 for none. It sharpens outlines and costs memory.
    IMAGE_SKIP_FILTERS = 0
    # Activation of the plain encoder and of every decoder, one of unet.checks.ACTIVATIONS. The other encoders keep
    # theirs, ReLU.
    ACTIVATION = "selu"
    # Values beyond the edge of the features that the convolutions of the plain encoder and of the decoders, except
    # "fcn8s", see, one of unet.checks.PADDINGS: 0, or the mirror image of the outermost cells.
    PADDING = "zeros"
    # Batch normalisation after every convolution of the plain encoder and of the decoders, except "fcn8s".
    BATCH_NORM = True
    # Initial weights of the convolutions that ACTIVATION follows, one of unet.checks.INITIALIZERS.
    KERNEL_INITIALIZER = "glorot_uniform"
    # Share of activations dropped in training, between the two convolutions of a plain level and behind the fully
    # convolutional layers of "fcn8s": one number, or one for each level, from full resolution to the bottleneck.
    DROPOUT = 0.0
    # Channels over channels of the squeezed layer, "inception-se" only.
    SE_RATIO = 8
    # Channels of an image; 3 (RGB) for every encoder but "plain".
    IMAGE_CHANNEL_COUNT = 3

    # ---- Targets -------------------------------------------------------------------------------------------
    # Channels that the network learns, a key of unet.targets.CHANNELS.
    TARGETS = "mask-borderless-touching"
    # Radius in pixels by which nuclei are dilated to find their borders.
    BORDER_WIDTH = 2
    # Radius in pixels by which nuclei are eroded to be borderless.
    EROSION_WIDTH = 2

    # ---- Loss ----------------------------------------------------------------------------------------------
    # Loss, a key of unet.parts.LOSSES. "weighted-bce" weighs the pixels between neighbouring nuclei more.
    LOSS = "bce-dice"
    # Relative weight of each channel of the targets; None weighs them alike.
    CHANNEL_WEIGHTS = None
    # Weight that a border adds at most (w0), and distance in pixels over which it falls off (sigma; Ronneberger et al.
    # 2015, eq. 2); "weighted-bce" only.
    BORDER_WEIGHT = 10.0
    BORDER_SIGMA = 5.0
    # Weight of a background pixel and weight of a nucleus' pixel before borders add to it; "weighted-bce" only.
    CLASS_WEIGHTS = (1.0, 1.0)

    # ---- Training ------------------------------------------------------------------------------------------
    # (layers, epochs) or (layers, epochs, learning rate) of each stage, in order. Without a rate a stage takes
    # LEARNING_RATE. `layers`: "decoder" freezes the encoder, "convolutions" the batch normalisation, which then runs
    # with its stored statistics; "all"; or a regular expression over layer names.
    STAGES = (("decoder", 5, 0.001), ("all", 15, 0.0001))
    # Optimizer, a key of trainkit.optimizers.OPTIMIZERS.
    OPTIMIZER = "Adam"
    # Learning rate of stages that name none; lower it if the loss becomes infinite.
    LEARNING_RATE = 0.001
    # Momentum of SGD.
    LEARNING_MOMENTUM = 0.9
    # How the learning rate falls within a stage, one of unet.checks.SCHEDULES. "cosine" falls with every step, to
    # nothing at the stage's end (Loshchilov and Hutter, "SGDR", 2017, eq. 5); "step" loses LEARNING_RATE_DECAY every
    # DECAY_EPOCHS.
    SCHEDULE = "step"
    # Steps at the start of a stage in which the rate of SCHEDULE "cosine" rises.
    WARMUP_STEPS = 0
    # Share of the learning rate that is lost every DECAY_EPOCHS epochs; 0 epochs switch the decay off.
    LEARNING_RATE_DECAY = 0.25
    DECAY_EPOCHS = 3
    # Factor of the sum of squares of the kernels that is added to the loss (L2): twice of it times a kernel is added to
    # the kernel's gradient. PyTorch's weight_decay and TensorFlow's l2_loss halve the sum, so half of their value has
    # the same effect here. Of AdamW the share of the kernels that a step takes off them, over the learning rate.
    WEIGHT_DECAY = 0.0
    # Momentum of a moving average of the weights, which is scored and written in their place (Polyak averaging); 0
    # switches it off.
    AVERAGE_MOMENTUM = 0.0
    # Norm to which the gradient of all weights together is clipped; None does not clip.
    GRADIENT_CLIP_NORM = None
    # Images of a training batch; lower it if memory runs out.
    BATCH_SIZE = 8
    # Training batches of an epoch.
    STEPS_PER_EPOCH = 80
    # Validation batches after each epoch; 0 switches validation losses off.
    VALIDATION_STEPS = 8
    # Arithmetic, one of trainkit.precision.PRECISIONS: "float32"; 16-bit with float32 weights; or "auto", which depends
    # on the processor.
    PRECISION = "float32"
    # Seed of weights, shuffling, augmentation and cropping.
    SEED = 0
    # Threads that prepare training batches; 0 prepares them in the main thread.
    DATA_WORKERS = 2
    # True: every imaging modality is drawn equally often, however many images it has.
    BALANCE_MODALITIES = False
    # Otherwise: images of each data set and modality are drawn in proportion to their number to this power. 1 draws all
    # images equally often, 0.5 gives small sets more, 0 gives all sets the same.
    BALANCE_POWER = 1.0

    # ---- Training images -----------------------------------------------------------------------------------
    # "crop": random windows of IMAGE_SIZE pixels a side. "resize": whole images brought to that size.
    IMAGE_MODE = "crop"
    # Side in pixels of a training image, a multiple of the encoder's stride.
    IMAGE_SIZE = 256
    # "crop" only, in training alone: the range of magnifications of a window, and the largest angle in degrees by which
    # it is turned. (1, 1) and 0 take windows as they are.
    CROP_SCALES = (1.0, 1.0)
    CROP_ROTATION = 0.0

    # ---- Inference -----------------------------------------------------------------------------------------
    # "full": images at their own size. "resize": images brought to IMAGE_SIZE pixels a side as in training with
    # IMAGE_MODE "resize", and the channels back to the image's size: for networks that have only seen that scale.
    INFERENCE_MODE = "full"

    # ---- From channels to nuclei ---------------------------------------------------------------------------
    # Method and settings of post-processing, see unet.postprocess.PostprocessSettings.
    POSTPROCESS = "watershed"
    MASK_THRESHOLD = 0.5
    MARKER_THRESHOLD = 0.5
    BORDER_THRESHOLD = 0.5
    OPENING_RADIUS = 2
    MIN_AREA = 0
    FILL_HOLES = True
    KEEP_UNMARKED = False

    @classmethod
    def from_preset(cls, preset: str | None = None, settings: Mapping[str, Any] | None = None) -> UNetConfig:
        """Makes a configuration of the defaults, a named preset and single settings, in this order.

        Args:
            preset: Key of `unet.presets.PRESETS`; None for the defaults alone.
            settings: Attribute name -> value or text, see `Settings.update`.

        Returns:
            The configuration, validated.

        Raises:
            SettingsError: The preset or an attribute is unknown, or a value cannot be used.

        Examples:
            >>> config = UNetConfig.from_preset("small", {"BATCH_SIZE": "4", "DROPOUT": 0.2})
            >>> config.ENCODER, config.ENCODER_FILTERS, config.BATCH_SIZE, config.stride
            ('plain', (16, 32, 64, 128, 256), 4, 16)
            >>> UNetConfig.from_preset("smal")
            Traceback (most recent call last):
            trainkit.settings.SettingsError: Unknown preset 'smal'. Known: small, original, ...
        """
        if preset is not None and preset not in PRESETS:
            raise SettingsError(f"Unknown preset {preset!r}. Known: {', '.join(PRESETS)}.")
        chosen = PRESETS[preset].settings if preset else {}
        return cls().update({**chosen, **(settings or {})})

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the network's output channels."""
        return CHANNELS[self.TARGETS]

    @property
    def warps_windows(self) -> bool:
        """True if training magnifies or turns the windows that it takes of images."""
        return tuple(self.CROP_SCALES) != (1, 1) or self.CROP_ROTATION > 0

    @property
    def stride(self) -> int:
        """Stride of the coarsest features in pixels; height and width of a network's input are multiples of it."""
        return 2 ** (len(self.ENCODER_FILTERS) - 1) if self.ENCODER == "plain" else _PUBLISHED_STRIDE

    @property
    def level_count(self) -> int:
        """Number of resolutions in the network, the image's and the bottleneck's included."""
        return self.stride.bit_length()

    @property
    def decoder_filters(self) -> tuple[int, ...]:
        """Filters of each decoder level: DECODER_FILTERS, or their default if None."""
        if self.DECODER_FILTERS is not None:
            return self.DECODER_FILTERS
        if self.DECODER == "fcn8s":
            return _FCN_FILTERS
        return self.ENCODER_FILTERS[-2::-1] if self.ENCODER == "plain" else _DECODER_FILTERS

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """Dropout rate of each level, from full resolution to the bottleneck."""
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
        check_choices(self)
        self.require_file_name("NAME")
        check_encoder(self)
        check_decoder(self)
        check_training(self)
        check_postprocessing(self)


def make_config(
    preset: str | None = None, settings: Mapping[str, Any] | None = None, base: type[UNetConfig] = UNetConfig
) -> UNetConfig:
    """Makes a configuration, under a name that `nucleus.make_config` has too; use `UNetConfig.from_preset`.

    Args:
        preset: Key of `unet.presets.PRESETS`; None for the defaults alone.
        settings: Attribute name -> value or text.
        base: Class of the configuration.

    Raises:
        SettingsError: The preset or an attribute is unknown, or a value cannot be used.
    """
    warnings.warn(f"unet.config.make_config is {base.__name__}.from_preset", DeprecationWarning, stacklevel=2)
    return base.from_preset(preset, settings)


def _dropout(current: Any, value: Any) -> float | tuple[float, ...]:
    """Converts a rate to a number and several rates to a tuple, reading text."""
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
