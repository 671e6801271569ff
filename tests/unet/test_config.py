"""Configurations of U-Nets: derived values, refusals, and presets that can be built."""

import subprocess
import sys

import pytest

from trainkit.settings import SettingsError
from unet.config import UNetConfig, make_config
from unet.presets import PRESETS


def test_the_defaults_start_no_download():
    UNetConfig().validate()
    assert UNetConfig().ENCODER_WEIGHTS is None


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_fit_together(preset):
    UNetConfig.from_preset(preset)


def test_a_configuration_is_made_and_checked_without_keras():
    code = (
        "import sys; from unet.config import UNetConfig; UNetConfig.from_preset('fcn8s'); "
        "from unet.parts import DECODERS, ENCODERS, LOSSES; print(list(ENCODERS), list(DECODERS), list(LOSSES)); "
        "print('keras' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split()[-1] == "False"


def test_the_fcn_trains_12000_steps():
    config = UNetConfig.from_preset("fcn8s")
    assert sum(epochs for _, epochs, _ in config.STAGES) * config.STEPS_PER_EPOCH == 12000


@pytest.mark.parametrize(
    ("settings", "stride", "decoder_filters"),
    [
        ({"ENCODER": "plain", "DECODER": "plain", "ENCODER_FILTERS": (8, 16, 24)}, 4, (16, 8)),
        ({"ENCODER": "plain", "DECODER": "fcn8s", "ENCODER_FILTERS": (4,) * 6}, 32, (4096, 4096)),
        ({"ENCODER": "resnet50", "DECODER": "plain"}, 32, (256, 128, 96, 64, 32)),
        ({"ENCODER": "xception", "DECODER_FILTERS": [40, 32, 24, 16, 8]}, 32, (40, 32, 24, 16, 8)),
    ],
)
def test_stride_and_decoder_follow_from_the_encoder(settings, stride, decoder_filters):
    config = UNetConfig().update(settings)
    assert (config.stride, 2 ** (config.level_count - 1)) == (stride, stride)
    assert config.decoder_filters == decoder_filters


def test_channels_follow_from_the_targets():
    assert UNetConfig().channels == ("mask", "borderless", "touching")
    assert UNetConfig().update({"TARGETS": "mask-border"}).channels == ("mask", "border")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("DROPOUT", "0.5", 0.5),
        ("DROPOUT", "(0, 0, 0.1, 0.2, 0.3)", (0.0, 0.0, 0.1, 0.2, 0.3)),
        ("ENCODER_FILTERS", "[8, 16, 32, 64, 128]", (8, 16, 32, 64, 128)),
        ("DECODER_FILTERS", "(32, 24, 16, 8)", (32, 24, 16, 8)),
        ("DECODER_FILTERS", "None", None),
        ("ENCODER_WEIGHTS", "encoder.h5", "encoder.h5"),
        ("ENCODER_WEIGHTS", "None", None),
        ("CHANNEL_WEIGHTS", "[1, 2, 0.5]", (1, 2, 0.5)),
        ("GRADIENT_CLIP_NORM", "5", 5.0),
        ("STAGES", "[('all', 3), ('decoder', 2, 1e-3)]", (("all", 3), ("decoder", 2, 1e-3))),
    ],
)
def test_update_reads_text(name, text, value):
    config = UNetConfig.from_preset("plain-bn", {name: text})
    assert getattr(config, name) == value


def test_dropout_of_every_level():
    assert UNetConfig.from_preset("plain-bn", {"DROPOUT": 0.25}).dropout_rates == (0.25,) * 5
    assert UNetConfig.from_preset("small").dropout_rates == (0.1, 0.1, 0.2, 0.2, 0.3)


PLAIN = {"ENCODER": "plain", "DECODER": "plain"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            ({name: "other"}, f"{name} must be one of .*Received: 'other'")
            for name in ("ENCODER", "DECODER", "ACTIVATION", "TARGETS", "LOSS", "OPTIMIZER")
        ),
        *(
            ({name: "other"}, f"{name} must be one of .*Received: 'other'")
            for name in ("KERNEL_INITIALIZER", "PRECISION", "IMAGE_MODE", "POSTPROCESS")
        ),
        ({"ENCODER_FILTERS": (64, 0)}, r"ENCODER_FILTERS needs whole numbers above 0. Received: \(64, 0\)"),
        ({"ENCODER_FILTERS": (64, 1.5)}, "ENCODER_FILTERS needs whole numbers"),
        ({**PLAIN, "ENCODER_FILTERS": (64,)}, "ENCODER_FILTERS needs two levels"),
        ({**PLAIN, "ENCODER_WEIGHTS": "imagenet"}, "ENCODER_WEIGHTS 'imagenet' exist for .*xception.*Received"),
        ({"IMAGE_CHANNEL_COUNT": 1}, "IMAGE_CHANNEL_COUNT must be 3 for ENCODER='xception'.*Received: 1"),
        ({"DECODER_FILTERS": (64, 32)}, r"DECODER_FILTERS of .* one number a level up \(5\). Received: \(64, 32\)"),
        ({"DECODER_FILTERS": (64, 32, 16, 8, 4)}, "DECODER_FILTERS .* multiples of 8"),
        ({"DECODER": "fcn8s", "DECODER_FILTERS": (64,)}, "DECODER_FILTERS .* two numbers"),
        ({**PLAIN, "DECODER": "fcn8s", "ENCODER_FILTERS": (8, 8, 8)}, "DECODER 'fcn8s' needs features at three"),
        ({**PLAIN, "DROPOUT": (0.1, 0.2)}, r"DROPOUT needs .* 5 levels. Received: \(0.1, 0.2\)"),
        ({**PLAIN, "DROPOUT": 1.0}, "DROPOUT needs one number from 0 to below 1"),
        ({**PLAIN, "DROPOUT": "half"}, r"DROPOUT needs a value like 0.0 \(float\). Received: 'half'"),
        ({**PLAIN, "DROPOUT": True}, "DROPOUT needs a value like"),
        ({"DROPOUT": 0.5}, "DROPOUT is not supported"),
        ({"SE_RATIO": 0}, "SE_RATIO must be at least 1"),
        ({"BATCH_SIZE": 0}, "BATCH_SIZE must be at least 1"),
        ({"STEPS_PER_EPOCH": 0}, "STEPS_PER_EPOCH must be at least 1"),
        ({"VALIDATION_STEPS": -1}, "VALIDATION_STEPS must be at least 0"),
        ({"BORDER_WIDTH": 0}, "BORDER_WIDTH must be at least 1"),
        ({"EROSION_WIDTH": 0}, "EROSION_WIDTH must be at least 1"),
        ({"BORDER_SIGMA": 0}, "BORDER_SIGMA must be above 0"),
        ({"LEARNING_RATE": 0}, "LEARNING_RATE must be above 0"),
        ({"LEARNING_RATE_DECAY": 1}, "LEARNING_RATE_DECAY must be from 0 to below 1. Received: 1.0"),
        ({"LEARNING_MOMENTUM": -0.1}, "LEARNING_MOMENTUM must be from 0"),
        ({"WEIGHT_DECAY": -1}, "WEIGHT_DECAY must be at least 0"),
        ({"GRADIENT_CLIP_NORM": 0}, "GRADIENT_CLIP_NORM must be above 0 or None"),
        ({"CHANNEL_WEIGHTS": (1, 1)}, r"CHANNEL_WEIGHTS .* mask, borderless, touching.*Received: \(1, 1\)"),
        ({"CHANNEL_WEIGHTS": (1, 1, -1)}, "CHANNEL_WEIGHTS needs one number of 0 or more"),
        ({"CLASS_WEIGHTS": (1, 1, 1)}, "CLASS_WEIGHTS needs two numbers"),
        ({"CLASS_WEIGHTS": (0, 0)}, "CLASS_WEIGHTS needs two numbers of 0 or more, of background and nuclei, not both"),
        ({"IMAGE_SIZE": 100}, "IMAGE_SIZE must be a multiple of 32.*Received: 100"),
        ({"IMAGE_SIZE": 0}, "IMAGE_SIZE must be a multiple of 32"),
        ({"INFERENCE_MODE": "half"}, "INFERENCE_MODE must be one of"),
        ({"INFERENCE_MODE": "resize", "IMAGE_MODE": "crop"}, "IMAGE_MODE must be 'resize' too. Received: 'crop'"),
        ({"MASK_THRESHOLD": 1.5}, "MASK_THRESHOLD must be from 0 to 1"),
        ({"MIN_AREA": -1}, "MIN_AREA must be at least 0"),
        ({"OPENING_RADIUS": 0}, "OPENING_RADIUS must be at least 1"),
        ({"TARGETS": "mask"}, "POSTPROCESS='watershed' with TARGETS='mask': .*border channel"),
        ({"STAGES": "all"}, "STAGES needs a list of .*'decoder', 5, 0.001"),
        ({"STRIDE": 16}, "Unknown configuration attribute 'STRIDE'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_name(settings, message):
    with pytest.raises(SettingsError, match=message):
        UNetConfig().update(settings)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match=r"Unknown preset 'large'\. Known: small, original"):
        UNetConfig.from_preset("large")


def test_settings_go_over_the_preset_and_the_preset_over_the_class():
    class Mine(UNetConfig):
        NAME = "mine"
        BATCH_SIZE = 3
        DATA_WORKERS = 7

    config = Mine.from_preset("small", {"IMAGE_SIZE": "256"})
    assert isinstance(config, Mine)
    assert (config.NAME, config.BATCH_SIZE, config.IMAGE_SIZE, config.DATA_WORKERS) == ("mine", 16, 256, 7)


def test_the_old_name_of_from_preset_still_makes_a_configuration():
    class Mine(UNetConfig):
        BATCH_SIZE = 3

    with pytest.warns(DeprecationWarning, match="from_preset"):
        config = make_config("small", {"IMAGE_SIZE": 256}, Mine)
    assert config.to_dict() == Mine.from_preset("small", {"IMAGE_SIZE": 256}).to_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ENCODER": "plain", "DECODER": "plain", "IMAGE_SKIP_FILTERS": 8}, "IMAGE_SKIP_FILTERS .* 0 with"),
        ({"IMAGE_SKIP_FILTERS": -1}, "IMAGE_SKIP_FILTERS must be at least 0"),
        ({"LOGITS_SIZE": 5}, "LOGITS_SIZE must be one of"),
        ({"CROP_SCALES": (2.0, 0.5)}, "CROP_SCALES needs two numbers above 0, the least first"),
        ({"CROP_SCALES": (0.0, 1.0)}, "CROP_SCALES needs two numbers above 0"),
        ({"CROP_SCALES": (1.0,)}, "CROP_SCALES needs 2 numbers"),
        ({"CROP_ROTATION": -5.0}, "CROP_ROTATION"),
        ({"SCHEDULE": "linear"}, "SCHEDULE must be one of"),
        ({"WARMUP_STEPS": -1}, "WARMUP_STEPS"),
        ({"AVERAGE_MOMENTUM": 1.0}, "AVERAGE_MOMENTUM must be from 0 to below 1"),
        ({"BALANCE_POWER": -1.0}, "BALANCE_POWER"),
        ({"PRECISION": "bfloat16"}, "PRECISION must be one of"),
    ],
)
def test_settings_of_the_joint_recipe_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        UNetConfig.from_preset(None, settings)
